"""What is looked at in a window, and what is found: over a limit, within it, or blind."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from components.monitor.alerts import Finding, Outcome
from components.monitor.anomalies import Traffic
from components.monitor.reference import OUTPUT, Limits, Reference
from components.monitor.sources import check_feedback
from components.monitor.windows import Judged, Window, badness
from ninefold.dataset import FEATURE
from ninefold.usecase import UseCase


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """How one column was distributed in a window.

    Args:
        name: ``input.<name>``, ``feature.<name>`` or ``prediction``.
        rows: Rows of the window.
        psi: Distance from the windows before; NaN where there are none.
        null_share: Share of nulls, 0–1.
        unseen_share: Share of categories never seen; NaN for a number.
        quantiles: 10 %, 50 % and 90 % of a number; empty for a category.
    """

    name: str
    rows: int
    psi: float
    null_share: float
    unseen_share: float
    quantiles: tuple[float, ...]

    @property
    def subject(self) -> str:
        """Its name for people and alerts: ``input carrier``."""
        return self.name.replace(".", " ", 1)


def describe(answers: pl.DataFrame, reference: Reference, distances: Mapping[str, float], main: int) -> list[Column]:
    """The watched columns of a window's answers; of the predictions, those of the main version.

    Args:
        answers: Rows of the window.
        reference: How columns are counted.
        distances: Column → distance from the windows before.
        main: The main version.
    """
    found = []
    for name, bins in reference.bins.items():
        rows = answers.filter(pl.col("version") == main) if name == OUTPUT else answers
        counts = bins.count(rows[name], np.zeros(len(rows), dtype=np.int64), 1)[0]
        known = rows[name].drop_nulls() if bins.edges is not None else None
        quantiles = np.quantile(known.to_numpy(), (0.1, 0.5, 0.9)) if known is not None and len(known) else ()
        found.append(
            Column(
                name=name, rows=len(rows), psi=distances[name],
                null_share=bins.null_share(counts), unseen_share=bins.unseen_share(counts),
                quantiles=tuple(float(q) for q in quantiles),
            )
        )  # fmt: skip
    return found


def check_columns(
    window: Window, columns: Sequence[Column], limits: Limits, reference: Reference, minimum_rows: int
) -> Iterator[Finding]:
    """Drift of inputs and answers, nulls of inputs and features, categories never seen."""
    for column in columns:
        few = column.rows < minimum_rows
        why = f"{column.rows:,} rows are too few" if few else "too few windows before it"
        kinds = [("null_share", column.null_share, limits.nulls, "null in {0:.1%} of rows, at most {1:.1%} is usual")]
        if not column.name.startswith(FEATURE):
            kinds.append(("drift", column.psi, limits.psi, "PSI {0:.2f} against the windows before, limit {1:.2f}"))
            if reference.bins[column.name].edges is None:
                kinds.append(
                    (
                        "unseen",
                        column.unseen_share,
                        limits.unseen,
                        "{0:.1%} never seen before, at most {1:.1%} is usual",
                    )
                )
        for check, value, of, words in kinds:
            limit = of.get(column.name)
            blind = few or limit is None or math.isnan(value)
            yield _finding(
                check, column.subject, window, None if blind else value, limit,
                f"{column.subject}: {why if blind or limit is None else words.format(value, limit)}.",
            )  # fmt: skip


def check_freshness(use_case: UseCase, window: Window, answers: pl.DataFrame) -> Iterator[Finding]:
    """Windows whose stream stood still: their features are there, look as ever, and are of the past.

    Args:
        use_case: Declares the windows, and by ``gates.max_null_share`` how large a share may be stale; none is usual.
        window: Which.
        answers: Its rows.
    """
    limit = use_case.gates.max_null_share
    few = len(answers) < use_case.monitor.minimum_rows
    for declared in use_case.windows:
        value, message = None, f"{len(answers):,} rows are too few."
        if not few:
            value = int(answers["flags"].list.contains(f"stale:{declared.name}").sum()) / len(answers)
            message = f"stale in {value:.1%} of answers, at most {limit:.1%} is allowed: its stream stands still."
            if value <= limit:
                message = f"stale in {value:.1%} of answers, at most {limit:.1%} is allowed."
        subject = f"window {declared.name}"
        yield _finding("stale", subject, window, value, limit, f"{subject}: {message}")


def check_traffic(window: Window, traffic: Sequence[Traffic], needed: int) -> Iterator[Finding]:
    """Requests, fallbacks, errors and latency against the same hours of the days before."""
    for kind in traffic:
        if not kind.hours:
            message = f"{kind.name}: too few days, or too few requests an hour, to say what is usual."
            yield _finding(kind.name, "", window, None, float(needed), message)
            continue
        worst = ""
        if kind.worst is not None:
            hour, value, usual, distance = kind.worst
            worst = f"; worst {hour}: {value:.3g}, usually {usual:.3g}, {distance:+.0f} robust deviations"
        yield Finding(
            check=kind.name, subject="", window=window.label,
            outcome="over" if kind.anomalous >= needed else "within",
            value=float(kind.anomalous), limit=float(needed),
            message=f"{kind.name}: {kind.anomalous} of {kind.hours} hours unlike the days before{worst}.",
        )  # fmt: skip


def check_quality(use_case: UseCase, judged: Sequence[Judged], limits: Limits, now: datetime) -> Iterator[Finding]:
    """The loss of every version against history and against the baseline on the same rows, and whether truths come."""
    policy, metric = use_case.monitor, use_case.metric
    for one in judged:
        if one.cohort or one.requests < policy.minimum_rows:
            continue
        who = f"version {one.version}"
        covered = one.coverage >= policy.minimum_coverage
        if one.closed:
            # Few truths past the deadline is blindness about quality, and blindness is said.
            yield Finding(
                check="no_truths", subject=who, window=one.window.label, outcome="within" if covered else "over",
                value=one.coverage, limit=policy.minimum_coverage,
                message=f"{who}: the truths of {one.coverage:.0%} of {one.requests:,} requests are known.",
            )  # fmt: skip
        seen = covered and one.evaluation is not None
        waiting = f"{who}: truths of {one.coverage:.0%} are known, {policy.minimum_coverage:.0%} are needed."
        unit = f" {metric.unit}" if metric.unit else ""
        level = None if not seen or math.isnan(limits.loss) else float(badness(metric, one.value))
        yield _finding(
            "loss", who, one.window, level, None if math.isnan(limits.loss) else limits.loss,
            f"{who}: {metric.name} {one.value:.3f}{unit}; the worst that is usual is "
            f"{_as_metric(use_case, limits.loss):.3f}." if level is not None else waiting if not seen
            else f"{who}: {metric.name} {one.value:.3f}{unit}, and too little history to say what is usual.",
        )  # fmt: skip
        behind = float(badness(metric, one.value) / badness(metric, one.baseline)) if seen else None
        yield _finding(
            "behind_baseline", who, one.window, behind, 1.0 + use_case.gates.incumbent_margin,
            f"{who}: {metric.name} {one.value:.3f}{unit}, the baseline {one.baseline:.3f}{unit} on the same requests."
            if seen else waiting,
        )  # fmt: skip
        yield from _check_intervals(use_case, one, seen, waiting)
    yield from check_feedback(use_case, judged, _as_metric(use_case, limits.loss))


def _check_intervals(use_case: UseCase, one: Judged, seen: bool, waiting: str) -> Iterator[Finding]:
    """Whether fewer truths than promised lie inside of a version's intervals; over its limit is surely too few.

    Args:
        use_case: Declares what is promised, and by ``gates.interval_margin`` how much less is allowed.
        one: A version in a window.
        seen: Whether enough of its truths are known.
        waiting: What is said where they are not.
    """
    # Version 0 is a rule, and promises nothing.
    if use_case.interval is None or one.version == 0:
        return
    who, quality = f"version {one.version}", one.evaluation.interval if one.evaluation is not None else None
    limit = use_case.interval - use_case.gates.interval_margin
    enough = seen and quality is not None and quality.rows >= use_case.monitor.minimum_rows
    if quality is None or not enough or math.isnan(quality.coverage.high):
        why = waiting if not seen else f"{who}: too few of its answers have an interval, or too few blocks."
        yield _finding("interval_coverage", who, one.window, None, limit, why)
        return
    coverage = quality.coverage
    yield Finding(
        check="interval_coverage", subject=who, window=one.window.label,
        outcome="over" if coverage.high < limit else "within", value=coverage.value, limit=limit,
        message=f"{who}: {coverage.value:.1%} of the truths lie in their intervals [{coverage.low:.1%} to "
        f"{coverage.high:.1%}]; {use_case.interval:.0%} are promised.",
    )  # fmt: skip


def check_presence(window: Window, answered: int) -> Finding:
    """Whether anything was answered at all: nothing is never all well."""
    return Finding(
        check="no_predictions", subject="", window=window.label, outcome="within" if answered else "over",
        value=float(answered), limit=1.0, message=f"{answered:,} predictions.",
    )  # fmt: skip


def _as_metric(use_case: UseCase, worse: float) -> float:
    return worse if use_case.metric.direction == "minimize" else 1.0 - worse


def _finding(
    check: str, subject: str, window: Window, value: float | None, limit: float | None, message: str
) -> Finding:
    outcome: Outcome = "blind"
    if value is not None and limit is not None:
        outcome = "over" if value > limit else "within"
    return Finding(
        check=check, subject=subject, window=window.label, outcome=outcome, value=value, limit=limit, message=message
    )
