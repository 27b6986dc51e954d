"""One model judged on one set of truths: metrics, errors, slices, what the applications gain, and speed.

Needs numpy alone, so that the monitor and the rollout judge production by the same function.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluator.blocks import Interval, effective_blocks, jackknife, number_blocks, without_each_block
from components.evaluator.distribution import ErrorDistribution, ScoreDistribution
from components.evaluator.gains import gain_intervals
from components.evaluator.intervals import IntervalQuality, interval_quality
from components.evaluator.latency import Latency
from components.evaluator.slices import SMALL_SLICE_ROWS, slice_rows
from ninefold.errors import DataError
from ninefold.fields import Columns, Metric
from ninefold.metrics import checked, compute, effective_rows, suite

if TYPE_CHECKING:
    from ninefold.usecase import Problem, UseCase

Array = np.ndarray[Any, Any]

BLOCKS_SHOWN = 400
"""With more blocks than this the metric is not kept block by block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The use case's metric on some of the rows.

    Args:
        field: Request field.
        value: Its value, or a range of values.
        rows: Rows in the slice.
        metric: The metric there; NaN where it is undefined.
        small: Fewer rows than can be judged by.
    """

    field: str
    value: str
    rows: int
    metric: float
    small: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a model was worth on a test set.

    Args:
        use_case: Name of the use case.
        version: The judged version; 0 is the baseline, None a candidate that has no number yet.
        problem: ``regression`` or ``binary``.
        metric: What the use case optimises.
        value: That metric, with its interval over blocks.
        rows: Rows that were evaluated.
        expected_rows: Rows of the test set; more than ``rows`` where predictions are missing.
        blocks: Independent blocks among the rows; where rows have weights, how many of equal weight would tell as much.
        metrics: Name → value, of the problem's whole suite; NaN where one is undefined.
        application: Name → value of the use case's application metrics; empty where rows have weights, which those
            metrics do not know.
        gains: The application metrics with their intervals over blocks; empty where nobody asked how sure they are.
        distribution: Of errors, or of probabilities.
        slices: The metric by declared request field.
        by_block: Block → the metric there; empty where there are too many.
        latency: How fast it predicts; None where nobody measured.
        effective_rows: How many rows of equal weight would tell as much as these; None where all had the same chance
            of being among them.
        interval: What its intervals were worth; None where it has none.
    """

    use_case: str
    version: int | None
    problem: Problem
    metric: Metric
    value: Interval
    rows: int
    expected_rows: int
    blocks: int
    metrics: Mapping[str, float]
    application: Mapping[str, float]
    gains: Mapping[str, Interval] = field(default_factory=dict)
    distribution: ErrorDistribution | ScoreDistribution
    slices: tuple[Slice, ...] = ()
    by_block: Mapping[str, float]
    latency: Latency | None = None
    interval: IntervalQuality | None = None

    effective_rows: float | None = None

    @property
    def coverage(self) -> float:
        """Share of the test set's rows with a prediction, 0–1."""
        return self.rows / self.expected_rows

    @property
    def label(self) -> str:
        """Its name for people."""
        return "candidate" if self.version is None else "baseline" if self.version == 0 else f"version {self.version}"

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back; NaN is null."""
        return {
            "use_case": self.use_case,
            "version": self.version,
            "problem": self.problem,
            "metric": {"name": self.metric.name, "direction": self.metric.direction, "unit": self.metric.unit},
            "value": self.value.to_json(),
            "rows": self.rows,
            "expected_rows": self.expected_rows,
            "blocks": self.blocks,
            "metrics": _nulls(self.metrics),
            "application": _nulls(self.application),
            "gains": {name: interval.to_json() for name, interval in self.gains.items()},
            "distribution": self.distribution.to_json(),
            "slices": [
                {"field": s.field, "value": s.value, "rows": s.rows, "metric": _null(s.metric), "small": s.small}
                for s in self.slices
            ],
            "by_block": _nulls(self.by_block),
            "latency": self.latency.to_json() if self.latency else None,
            "effective_rows": self.effective_rows,
            "interval": self.interval.to_json() if self.interval else None,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Evaluation:
        """Reads what ``to_json`` wrote."""
        kind = ErrorDistribution if document["problem"] == "regression" else ScoreDistribution
        return cls(
            use_case=document["use_case"],
            version=document["version"],
            problem=document["problem"],
            metric=Metric(**document["metric"]),
            value=Interval.from_json(document["value"]),
            rows=document["rows"],
            expected_rows=document["expected_rows"],
            blocks=document["blocks"],
            metrics=_nans(document["metrics"]),
            application=_nans(document["application"]),
            gains={name: Interval.from_json(gain) for name, gain in document.get("gains", {}).items()},
            distribution=kind.from_json(document["distribution"]),
            slices=tuple(Slice(**{**s, "metric": _nan(s["metric"])}) for s in document["slices"]),
            by_block=_nans(document["by_block"]),
            latency=Latency.from_json(document["latency"]) if document["latency"] else None,
            effective_rows=document.get("effective_rows"),
            interval=IntervalQuality.from_json(found) if (found := document.get("interval")) else None,
        )


def _null(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _nulls(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _null(value) for name, value in values.items()}


def _nans(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: _nan(value) for name, value in values.items()}


def evaluate(
    use_case: UseCase,
    request: Columns,
    truth: Array,
    prediction: Array,
    *,
    blocks: Array,
    version: int | None,
    expected_rows: int | None = None,
    weight: Array | None = None,
    latency: Latency | None = None,
    interval: Array | None = None,
    sure_of_gains: bool = False,
) -> Evaluation:
    """Judges predictions by their truths.

    Args:
        use_case: Says what the metric, the slices and the application metrics are.
        request: Request columns [rows], for slices and application metrics.
        truth: [rows].
        prediction: [rows], in the target's unit, or the probability of 1.
        blocks: [rows], label of each row's independent block.
        version: What made the predictions; 0 for the baseline, None for a candidate without a number.
        expected_rows: Rows of the whole test set, where some have no prediction and were left out here.
        weight: [rows], the inverse of the chance that each row had of being picked, so that what is measured holds for
            all that it was picked from; None where all had the same.
        latency: From ``measure_latency``.
        interval: [rows, 2], the bounds around the predictions, NaN where a row has none; None where no row has one.
        sure_of_gains: Whether the application metrics get intervals, too: they are computed a hundred times for that.

    Raises:
        DataError: No rows, lengths that differ, or rows that can't be scored; the message counts them.
    """
    truths, predictions = checked(truth, prediction, use_case.problem)
    if len(blocks) != len(truths):
        raise DataError(f"{len(blocks):,} blocks do not fit {len(truths):,} rows.")
    labels, places = number_blocks(blocks)
    name = use_case.metric.name
    value, without = without_each_block(name, truths, predictions, places, weight)
    effective = None if weight is None else effective_blocks(places, weight)
    return Evaluation(
        use_case=use_case.name,
        version=version,
        problem=use_case.problem,
        metric=use_case.metric,
        value=jackknife(value, without, effective=effective),
        rows=len(truths),
        expected_rows=len(truths) if expected_rows is None else expected_rows,
        blocks=len(labels) if effective is None else int(effective),
        metrics={n: compute(n, truths, predictions, weight) for n in dict.fromkeys((name, *suite(use_case.problem)))},
        application=use_case.gains(request, truths, predictions, interval) if weight is None else {},
        gains=(
            gain_intervals(use_case, request, truths, predictions, interval, places)
            if sure_of_gains and weight is None
            else {}
        ),
        distribution=(
            ErrorDistribution.of(truths, predictions, weight)
            if use_case.problem == "regression"
            else ScoreDistribution.of(truths, predictions, weight)
        ),
        slices=tuple(
            Slice(
                field=field,
                value=label,
                rows=int(np.count_nonzero(mask)),
                metric=_compute(name, truths, predictions, weight, mask),
                small=np.count_nonzero(mask) < SMALL_SLICE_ROWS,
            )
            for field, label, mask in slice_rows(use_case, request)
        ),
        by_block=_by_block(name, truths, predictions, weight, labels, places) if len(labels) <= BLOCKS_SHOWN else {},
        latency=latency,
        effective_rows=None if weight is None else effective_rows(weight),
        interval=interval_quality(use_case, request, truths, interval, places, weight),
    )


def _compute(name: str, truth: Array, prediction: Array, weight: Array | None, rows: Array) -> float:
    """The metric on some rows; NaN where none of them has any weight."""
    if weight is None:
        return compute(name, truth[rows], prediction[rows])
    return compute(name, truth[rows], prediction[rows], weight[rows]) if weight[rows].sum() > 0 else math.nan


def _by_block(
    name: str, truth: Array, prediction: Array, weight: Array | None, labels: Array, places: Array
) -> dict[str, float]:
    order = np.argsort(places, kind="stable")
    ends = np.cumsum(np.bincount(places))[:-1]
    rows = np.split(order, ends)
    return {str(label): _compute(name, truth, prediction, weight, r) for label, r in zip(labels, rows, strict=True)}
