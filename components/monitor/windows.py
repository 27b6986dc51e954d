"""Stretches of time that are judged as one, and what each version was worth in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import polars as pl

from components.evaluator.evaluation import Evaluation, evaluate
from components.monitor.label_weights import WEIGHT
from components.monitor.sources import by_source
from ninefold.dataset import REQUEST, columns_of
from ninefold.errors import UsageError
from ninefold.fields import Metric
from ninefold.metrics import compute
from ninefold.usecase import UseCase

Array = np.ndarray[Any, Any]

LENGTHS = {"day": timedelta(days=1), "week": timedelta(days=7)}
_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
"""A beginning that is earlier was meant otherwise, and what lies before its first window may be in no calendar."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """Decision moments in [start, end)."""

    start: datetime
    end: datetime

    @property
    def label(self) -> str:
        """As the store keeps it: ``2013-07-01/2013-07-02``."""
        return f"{self.start:%Y-%m-%d}/{self.end:%Y-%m-%d}"

    def rows(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows whose decision moment lies in it."""
        return frame.filter((pl.col("decided_at") >= self.start) & (pl.col("decided_at") < self.end))


def floor(instant: datetime, kind: Literal["day", "week"]) -> datetime:
    """The start of the window that holds an instant."""
    length = LENGTHS[kind]
    return _MONDAY + (instant - _MONDAY) // length * length


def windows_between(since: datetime, until: datetime, kind: Literal["day", "week"]) -> list[Window]:
    """The whole windows in [since, until), oldest first.

    Raises:
        UsageError: There is none, or it begins before there are any.
    """
    length = LENGTHS[kind]
    if since < EARLIEST:
        raise UsageError(
            f"There is no window from {since:%Y-%m-%d} on.", remedy=f"Begin at {EARLIEST:%Y-%m-%d} or later."
        )
    start = floor(since, kind)
    start += timedelta(0) if start == since else length
    found = []
    while start + length <= until:
        found.append(Window(start, start + length))
        start += length
    if not found:
        raise UsageError(
            f"There is no whole {kind} from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}.",
            remedy="A window begins at midnight UTC, a week on Monday.",
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one version was worth in one window.

    Args:
        window: Which.
        version: Which.
        cohort: Cohort that it is restricted to; empty for all.
        requests: Keys that it answered and that count.
        known: Of these, keys whose truth is known; without those that were picked by hand to be labelled, which tell
            nothing of the others.
        closed: Whether the deadline of the truths has passed.
        delay_hours: Median and 90 % quantile of the hours from decision to truth; NaN while there is none.
        evaluation: By the known truths; None while there is none.
        baseline: The metric of the baseline on the same rows; NaN while there is none.
        by_source: Who told truths → of how many keys, and the metric by these; what users say is of no account else.
    """

    window: Window
    version: int
    cohort: str
    requests: int
    known: int
    closed: bool
    delay_hours: tuple[float, float]
    evaluation: Evaluation | None
    baseline: float
    by_source: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def coverage(self) -> float:
        """Share of the keys whose truth is known, 0–1; NaN without keys."""
        return self.known / self.requests if self.requests else float("nan")

    @property
    def value(self) -> float:
        """The use case's metric; NaN while no truth is known."""
        return self.evaluation.value.value if self.evaluation else float("nan")


def judge(use_case: UseCase, counted: pl.DataFrame, window: Window, now: datetime) -> Iterator[Judged]:
    """Every version in one window, and its cohorts where it has several.

    Args:
        use_case: Whose.
        counted: One row per key and version, with ``baseline``.
        window: Which.
        now: What is known is known by now; past the use case's ``truth_delay`` the window is closed.
    """
    rows = window.rows(counted)
    closed = now >= window.end + use_case.truth_delay
    for (version,), of_version in sorted(rows.group_by("version", maintain_order=True), key=lambda group: group[0]):
        cohorts = sorted(of_version["cohort"].unique())
        yield _judged(use_case, of_version, window, version, "", closed)
        if len(cohorts) > 1:
            for cohort in cohorts:
                part = of_version.filter(pl.col("cohort") == cohort)
                yield _judged(use_case, part, window, version, cohort, closed)


def _judged(use_case: UseCase, rows: pl.DataFrame, window: Window, version: Any, cohort: str, closed: bool) -> Judged:
    known = rows.filter(pl.col("truth").is_not_null())
    weight = None
    if WEIGHT in known.columns:
        known = known.filter(pl.col(WEIGHT) > 0)
        weight = known[WEIGHT].to_numpy() if known[WEIGHT].n_unique() > 1 else None
    evaluation, baseline, delays = None, float("nan"), (float("nan"), float("nan"))
    if len(known):
        request = columns_of(known, REQUEST)
        truth = known["truth"].to_numpy()
        evaluation = evaluate(
            use_case, request, truth, known["value"].to_numpy(),
            blocks=use_case.block(request), version=version, expected_rows=len(rows), weight=weight,
            interval=None if use_case.interval is None else bounds_of(known),
        )  # fmt: skip
        baseline = compute(use_case.metric.name, truth, known["baseline"].to_numpy(), weight)
        hours = (known["first_known_at"] - known["decided_at"]).dt.total_seconds().to_numpy() / 3600.0
        delays = (float(np.quantile(hours, 0.5)), float(np.quantile(hours, 0.9)))
    return Judged(
        window=window, version=version, cohort=cohort, requests=len(rows), known=len(known), closed=closed,
        delay_hours=delays, evaluation=evaluation, baseline=baseline, by_source=by_source(use_case, rows),
    )  # fmt: skip


def bounds_of(rows: pl.DataFrame) -> Array:
    """The intervals of answers, [rows, 2], NaN where an answer has none."""
    return rows.select(pl.col("lower", "upper").fill_null(float("nan"))).to_numpy()


def badness(metric: Metric, value: Any) -> Any:
    """A metric as something that is worse when it is greater, and above zero: of a score, what is missing to 1."""
    return np.maximum(value if metric.direction == "minimize" else 1.0 - np.asarray(value), 1e-9)
