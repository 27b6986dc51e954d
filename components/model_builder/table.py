"""The training and the validation set as arrays, exactly as a served model will see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ninefold.dataset import INPUT, DatasetCard, columns_of, read_dataset
from ninefold.errors import DataError
from ninefold.fields import Columns, Input, Metric
from ninefold.metrics import compute, definition
from ninefold.package import tensors
from ninefold.signature import Signature

Array = np.ndarray[Any, Any]
Objective = Literal["absolute", "squared", "logistic"]

_ABSOLUTE = frozenset({"mae", "median_ae"})
"""Metrics whose best constant is the median: fitting squares instead loses 3 % of mean absolute error."""
_BY_ROW = ("numbers", "categories", "texts", "truth", "offset", "weight", "baseline")
"""A table's arrays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be learnt.

    Args:
        signature: Inputs, problem and target.
        metric: What the validation set judges by.
        offset: Input that is added to what a model learns; None to learn the truth itself.
    """

    signature: Signature
    metric: Metric
    offset: str | None

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The model's columns."""
        return self.signature.inputs

    @property
    def objective(self) -> Objective:
        """The loss that is minimised in training, nearest to the metric."""
        if self.signature.problem == "binary":
            return "logistic"
        return "absolute" if self.metric.name in _ABSOLUTE else "squared"

    def names(self, kind: str) -> list[str]:
        """Names of the inputs of a kind, in order."""
        return [i.name for i in self.inputs if i.kind == kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of a data set. Numbers are float32, as in the graph, so that every split compares the same values.

    Args:
        numbers: float32 [rows, numbers], null is NaN.
        categories: str [rows, categories], null is ``""``.
        texts: str [rows, texts], null is ``""``.
        truth: float64 [rows].
        offset: float64 [rows]; zeros where there is none.
        weight: float64 [rows]; 1 where the set has none.
        baseline: float64 [rows], the baseline's predictions.
        left_out: Reason → rows that could not be used.
    """

    numbers: Array
    categories: Array
    texts: Array
    truth: Array
    offset: Array
    weight: Array
    baseline: Array
    left_out: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def goal(self) -> Array:
        """What a model learns: truth without the offset."""
        return self.truth - self.offset

    def score(self, task: Task, raw: Array) -> float:
        """The task's metric of what a model answers before the offset is added."""
        return compute(task.metric.name, self.truth, raw + self.offset, self.weight)

    def columns(self, task: Task) -> dict[str, Array]:
        """The inputs by name, as a predictor takes them."""
        blocks = {"number": self.numbers, "category": self.categories, "text": self.texts}
        return {name: blocks[kind][:, i] for kind in blocks for i, name in enumerate(task.names(kind))}

    def joined(self, other: Table) -> Table:
        """These rows, and another table's behind them."""
        return replace(self, **{name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in _BY_ROW})

    def rows(self, places: Array) -> Table:
        """Chosen rows, in the given order."""
        return replace(self, **{name: getattr(self, name)[places] for name in _BY_ROW})


def read_tables(train_uri: str, validation_uri: str, metric: str | None) -> tuple[Task, DatasetCard, Table, Table]:
    """Reads both sets.

    Args:
        train_uri: Training set.
        validation_uri: Validation set, of the same signature.
        metric: Name of a metric to use instead of the card's.

    Raises:
        DataError: A set can't be read, has no rows that can be used, or the two do not belong together.
        ConfigurationError: No metric of that name.
    """
    train_frame, card = read_dataset(train_uri)
    validation_frame, other = read_dataset(validation_uri)
    for what, a, b in (
        ("inputs", card.signature.inputs, other.signature.inputs),
        ("problem", card.signature.problem, other.signature.problem),
        ("views", card.signature.views, other.signature.views),
        ("derive_digest", card.signature.derive_digest, other.signature.derive_digest),
        ("offset", card.offset, other.offset),
    ):
        if a != b:
            raise DataError(
                f"Training and validation set do not belong together: their {what} differ.",
                remedy="Make both by one run.",
            )
    if card.offset is not None and card.signature.problem == "binary":
        raise DataError("A binary problem has no offset.", remedy="Leave offset out of the use case.")
    task = Task(signature=card.signature, metric=_metric(metric, card), offset=card.offset)
    return task, card, _table(train_uri, train_frame, task), _table(validation_uri, validation_frame, task)


def _metric(name: str | None, card: DatasetCard) -> Metric:
    chosen = card.metric.name if name is None else name
    known = definition(chosen)
    if known.problem != card.signature.problem or known.direction is None:
        raise DataError(
            f"The metric {chosen!r} can't be optimised for a {card.signature.problem} problem.",
            remedy=f"The data set's own is {card.metric.name!r}.",
        )
    if chosen == card.metric.name:
        return card.metric
    return Metric(name=chosen, direction=known.direction, unit=(card.signature.unit or "") if known.in_unit else "")


def _table(uri: str, frame: Any, task: Task) -> Table:
    missing = [name for name in ("truth", "baseline") if name not in frame.columns]
    if missing:
        raise DataError(f"{uri}: the columns {', '.join(missing)} are missing.")
    columns: Columns = columns_of(frame, INPUT)
    feeds = tensors(task.inputs, columns)
    rows = frame.height

    def number(name: str) -> Array:
        return np.asarray(frame[name].cast(float).fill_null(float("nan")).to_numpy(), dtype=np.float64)

    numbers = feeds.get("numbers", np.empty((rows, 0), dtype=np.float32))
    truth = number("truth")
    offset = np.zeros(rows)
    if task.offset is not None:
        # Through float32, since that is what the graph adds.
        offset = numbers[:, task.names("number").index(task.offset)].astype(np.float64)
    table = Table(
        numbers=numbers,
        categories=feeds.get("categories", np.empty((rows, 0), dtype=object)),
        texts=feeds.get("texts", np.empty((rows, 0), dtype=object)),
        truth=truth,
        offset=offset,
        weight=_weights(uri, frame) if "weight" in frame.columns else np.ones(rows),
        baseline=number("baseline"),
        left_out={
            "no truth": int(np.count_nonzero(~np.isfinite(truth))),
            "no offset": int(np.count_nonzero(np.isfinite(truth) & ~np.isfinite(offset))),
        },
    )
    usable = np.isfinite(truth) & np.isfinite(offset)
    if not usable.any():
        raise DataError(f"{uri}: none of {rows:,} rows can be used.", remedy="Every row needs a truth and its offset.")
    return table if usable.all() else table.rows(np.flatnonzero(usable))


def _weights(uri: str, frame: Any) -> Array:
    weight = np.asarray(frame["weight"].cast(float).fill_null(float("nan")).to_numpy(), dtype=np.float64)
    odd = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if len(odd):
        raise DataError(
            f"{uri}: the weight of row {odd[0]} is {weight[odd[0]]:g}.",
            remedy="A weight is a finite number from 0 on; leave the column out to count every row once.",
        )
    return weight
