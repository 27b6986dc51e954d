"""A real package of deliveries, with intervals: trained in seconds on some of the orders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Deliveries:
    """What was trained.

    Args:
        digest: Of the package.
        folder: Where it lies.
        new: A data set of orders that it has not seen.
    """

    digest: str
    folder: str
    new: pl.DataFrame


def make(folder: Path, rows: int = 1_200, validation_rows: int = 600) -> Deliveries:
    """Trains the first family's defaults and both quantiles."""
    import polars as pl

    from components.featurizer.historical import dataset
    from components.model_builder.build import build
    from ninefold.dataset import write_dataset
    from ninefold.loading import load_use_case
    from usecases.deliveries.etl import extract

    use_case, history = load_use_case("deliveries"), extract()
    frame, card = dataset(use_case, history.requests, pl.DataFrame(), history.truths, None)
    frame = frame.sample(fraction=1.0, shuffle=True, seed=3)
    parts = (frame[:rows], frame[rows : rows + validation_rows], frame[rows + validation_rows :])
    for name, part in zip(("training", "validation"), parts, strict=False):
        write_dataset(str(folder / f"{name}.parquet"), part, card)
    built = build(
        str(folder / "training.parquet"),
        str(folder / "validation.parquet"),
        max_training_time=120,
        models_url=str(folder / "models"),
        threads=1,
        trials=1,
    )
    assert built.beats_baseline
    return Deliveries(built.digest, built.uri, parts[2])
