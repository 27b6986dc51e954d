"""What a run saw as numbers over time: the store's measurements."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from components.monitor.alerts import Finding
from components.monitor.anomalies import Traffic
from components.monitor.checks import Column
from components.monitor.sources import told
from components.monitor.windows import Judged
from ninefold.store import Measurement
from ninefold.usecase import UseCase

CHECK = "check."
"""Prefix of the measurements that keep what checks found: 1 over, 0 within, null blind; the subject is their slice."""
_FOUND = {"over": 1.0, "within": 0.0, "blind": None}


def measurements(
    use_case: UseCase, main: int, now: datetime, answered: Mapping[str, int], judged: Sequence[Judged],
    columns: Mapping[str, Sequence[Column]], traffic: Mapping[str, Sequence[Traffic]], findings: Sequence[Finding],
) -> Iterator[Measurement]:  # fmt: skip
    """Everything that was measured; what could not be is null, never zero.

    Args:
        use_case: Whose.
        main: Version that measurements of no version in particular are kept under.
        now: When it was measured.
        answered: Window → predictions that clients got.
        judged: Versions and cohorts, window by window.
        columns: Window → the watched columns.
        traffic: Window → requests, fallbacks, errors, latency.
        findings: What every check found.
    """

    def one(
        name: str, window: str, value: float | None, of: str = "", who: tuple[int, str] = (main, "")
    ) -> Measurement:
        known = value if value is not None and math.isfinite(value) else None
        version, cohort = who
        return Measurement(
            use_case=use_case.name, version=version, name=name, value=known, at=now, window=window, cohort=cohort,
            slice=of,
        )  # fmt: skip

    for window, count in answered.items():
        yield one("predictions", window, float(count))
        for kind in traffic[window]:
            yield one(f"anomalous_hours.{kind.name}", window, float(kind.anomalous) if kind.hours else None)
        for column in columns[window]:
            yield one("psi", window, column.psi, column.name)
            yield one("null_share", window, column.null_share, column.name)
            if not math.isnan(column.unseen_share):
                yield one("unseen_share", window, column.unseen_share, column.name)
            for quantile, number in zip(("p10", "p50", "p90"), column.quantiles, strict=False):
                yield one(f"distribution.{quantile}", window, number, column.name)
    for j in judged:
        who, window = (j.version, j.cohort), j.window.label
        yield one("coverage", window, j.coverage, who=who)
        yield one("truth_delay_p50_hours", window, j.delay_hours[0], who=who)
        yield one("truth_delay_p90_hours", window, j.delay_hours[1], who=who)
        yield one(f"baseline.{use_case.metric.name}", window, j.baseline, who=who)
        for name, number in told(j, use_case.metric.name).items():
            yield one(name, window, number, who=who)
        if j.evaluation is None:
            yield one(use_case.metric.name, window, None, who=who)
            continue
        for name, number in {**j.evaluation.application, **j.evaluation.metrics}.items():
            yield one(name, window, number, who=who)
        for s in j.evaluation.slices:
            if not s.small:
                yield one(use_case.metric.name, window, s.metric, f"{s.field}={s.value}", who)
        if (intervals := j.evaluation.interval) is not None:
            yield one("interval_coverage", window, intervals.coverage.value, who=who)
            yield one("interval_width", window, intervals.width.value, who=who)
            for part in intervals.slices:
                if not part.small:
                    of = f"{part.field}={part.value}"
                    yield one("interval_coverage", window, part.coverage, of, who)
                    yield one("interval_width", window, part.width, of, who)
    for f in findings:
        yield one(CHECK + f.check, f.window, _FOUND[f.outcome], f.subject)
