"""Real packages of reviews, for every test that needs a model of texts: the linear family's default, no search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl

VALIDATION_ROWS = 200


@dataclass(frozen=True)
class Reviews:
    """What was trained.

    Args:
        digest: Of the package.
        folder: Where it lies.
        test: The reviews that the source sets apart, about 1,000; no row of them was learned from.
    """

    digest: str
    folder: str
    test: pl.DataFrame


def make(folder: Path, *, rows: int, pairs: bool = True) -> Reviews:
    """Trains on some of the reviews that the source gives for training, and packages what passes the parity gate.

    Args:
        folder: Where data sets and packages go.
        rows: How many are learned from.
        pairs: Whether pairs of words are, too.
    """
    from components.model_builder.families import Control
    from components.model_builder.families.linear import Linear
    from components.model_builder.onnx_export import to_onnx
    from components.model_builder.parity import check_parity
    from components.model_builder.statistics import training_statistics
    from components.model_builder.table import read_tables
    from ninefold.dataset import DatasetCard, write_dataset
    from ninefold.loading import load_use_case
    from ninefold.package import MODEL, write_package
    from ninefold.signature import PackageManifest, Signature
    from usecases.reviews.etl import reviews

    use_case = load_use_case("reviews")
    distinct = reviews().unique("review_id", keep="first", maintain_order=True)
    given = distinct.filter(distinct["source"] == "training_data")
    signature = Signature(
        use_case="reviews",
        problem="binary",
        inputs=use_case.inputs,
        views=(),
        derive_digest=use_case.derive_digest,
        target="great",
    )
    card = DatasetCard(signature=signature, metric=use_case.metric, offset=None)
    parts = {"train": given[:rows], "validation": given[-VALIDATION_ROWS:]}
    for name, part in parts.items():
        inputs = use_case.derive({"input": np.array(part["input"].to_list(), dtype=object)})
        frame = part.rename({"review_id": "key"}).with_columns(baseline=use_case.baseline(inputs))
        write_dataset(
            str(folder / f"{name}.parquet"), frame.with_columns(**{"input.input": inputs["input"].astype(str)}), card
        )
    task, _, train, validation = read_tables(str(folder / "train.parquet"), str(folder / "validation.parquet"), None)
    family = Linear(task, train)
    fitted = family.fit({**family.default, "pairs": pairs}, Control(lambda: False, lambda *_: False))
    manifest = PackageManifest(format="onnx", signature=signature, statistics=training_statistics(task, train))
    model = to_onnx(task, fitted)
    check_parity(task, fitted, manifest, model, validation)
    digest, uri = write_package(str(folder / "models"), manifest, {MODEL: model})
    return Reviews(digest, uri, distinct.filter(distinct["source"] == "testing_data"))
