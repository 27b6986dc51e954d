"""The problems as files: what a search may see, and what it is asked about without the truths.

Arrivals are divided by time, as the use case says: January to May, June, July. The others by numpy's
``default_rng(0).permutation``: the last fifth is the test. Of the rest a fifth, another one for each seed, validates
our own search; peers get all of it and divide it as they like. With ``inside`` the test is the last fifth of the rest:
for choosing between methods without a look at the test.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.churn_folds import examples, stratified
from ninefold.dataset import INPUT, DatasetCard, columns_of, read_dataset, to_numpy, write_dataset
from ninefold.loading import load_use_case
from ninefold.metrics import compute
from ninefold.signature import Signature

Array = np.ndarray[Any, Any]
FIFTH = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One problem for one seed.

    Args:
        training: What our search trains on.
        validation: What it chooses by.
        test: What it is judged on.
        card: Signature, metric and offset.
        by_time: Whether the parts follow one another; peers then choose by the same validation rows.
    """

    training: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame
    card: DatasetCard
    by_time: bool

    def score(self, prediction: Array) -> float:
        """The metric on the test rows: this is what opening the test set means."""
        return float(compute(self.card.metric.name, to_numpy(self.test["truth"]), prediction))


@cache
def _rows(name: str) -> tuple[pl.DataFrame, DatasetCard]:
    use_case = load_use_case(name)
    signature = Signature(
        use_case=name, problem=use_case.problem, inputs=use_case.inputs, views=use_case.feature_views(),
        derive_digest=use_case.derive_digest, target=use_case.target.name, unit=use_case.target.unit,
        interval=use_case.interval,
    )  # fmt: skip
    return examples(use_case), DatasetCard(signature=signature, metric=use_case.metric, offset=use_case.offset)


def _by_permutation(name: str, seed: int, inside: bool) -> Parts:
    frame, card = _rows(name)
    order = np.random.default_rng(0).permutation(frame.height)
    rest, test = order[: -(frame.height // FIFTH)], order[-(frame.height // FIFTH) :]
    if inside:
        rest, test = rest[: -(len(rest) // FIFTH)], rest[-(len(rest) // FIFTH) :]
    rows = frame[rest.tolist()]
    truth = rows["truth"].to_numpy()
    binary = card.signature.problem == "binary"
    held = stratified(truth if binary else np.zeros(len(truth)), FIFTH, seed) == 0
    return Parts(
        training=rows.filter(pl.Series(~held)), validation=rows.filter(pl.Series(held)), test=frame[test.tolist()],
        card=card, by_time=False,
    )  # fmt: skip


@cache
def _months(folder: str) -> dict[str, str]:
    from bench.joint_tuning import Months

    return Months(Path(folder)).sets({})


def _arrivals(name: str, seed: int, inside: bool) -> Parts:
    sets = {
        part: read_dataset(uri)
        for part, uri in _months(tempfile.mkdtemp(prefix="bench-search-")).items()
        if part in ("training", "validation", "test")
    }
    training, card = sets["training"]
    validation, test = sets["validation"][0], sets["test"][0]
    if inside:
        # A month earlier each: May validates, June stands for the test.
        may = training["decided_at"].dt.month() == 5
        training, validation, test = training.filter(~may), training.filter(may), validation
    return Parts(training=training, validation=validation, test=test, card=card, by_time=True)


PROBLEMS: Mapping[str, Callable[[str, int, bool], Parts]] = {
    "deliveries": _by_permutation,
    "churn": _by_permutation,
    "reviews": _by_permutation,
    "arrivals": _arrivals,
}


def write_job(parts: Parts, folder: Path, **asked: Any) -> None:
    """Writes what a search may see into a folder, with what is asked of it."""
    write_dataset(str(folder / "training.parquet"), parts.training, parts.card)
    write_dataset(str(folder / "validation.parquet"), parts.validation, parts.card)
    parts.test.select(pl.col(f"^{INPUT}.*$")).write_parquet(folder / "asked.parquet")
    inputs = parts.card.signature.inputs
    job = {
        **asked,
        "metric": parts.card.metric.name,
        "problem": parts.card.signature.problem,
        "offset": None if parts.card.offset is None else INPUT + parts.card.offset,
        "by_time": parts.by_time,
        **{kind: [INPUT + i.name for i in inputs if i.kind == kind] for kind in ("number", "category", "text")},
    }
    (folder / "job.json").write_text(json.dumps(job))


def one_row(parts: Parts) -> list[Any]:
    """The first test row as a served instance: positional, null as None."""
    columns = columns_of(parts.test.head(1), INPUT)
    values = [columns[i.name].tolist()[0] for i in parts.card.signature.inputs]
    return [None if value is None or value != value else value for value in values]
