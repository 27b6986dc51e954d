"""The newest window as Prometheus gauges, in a text file that a node exporter's textfile collector reads."""

from __future__ import annotations

import math
from pathlib import Path

from components.monitor.run import Watched
from ninefold.atomic import replace_file
from ninefold.settings import Settings
from ninefold.usecase import UseCase


def render(use_case: UseCase, watched: Watched) -> bytes:
    """The Prometheus text format; what is not known is NaN, never zero."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"ninefold_monitor_{name}", text, ["use_case", *labels], registry=registry)

    newest = watched.windows[-1]
    who = use_case.name
    gauge("window_end_timestamp_seconds", "End of the newest window that was judged.").labels(who).set(
        newest.end.timestamp()
    )
    gauge("predictions", "Predictions that clients got in the newest window.").labels(who).set(
        watched.answered[newest.label]
    )
    metric = gauge("metric", "The use case's metric, by the truths that are known.", "metric", "version", "cohort")
    baseline = gauge("baseline_metric", "The baseline's metric on the same requests.", "metric", "version", "cohort")
    coverage = gauge("coverage", "Share of requests whose truth is known.", "version", "cohort")
    for judged in watched.judged:
        if judged.window == newest:
            of = (str(judged.version), judged.cohort)
            metric.labels(who, use_case.metric.name, *of).set(judged.value)
            baseline.labels(who, use_case.metric.name, *of).set(judged.baseline)
            coverage.labels(who, *of).set(judged.coverage)
    if use_case.interval is not None:
        inside = gauge("interval_coverage", "Share of truths inside of their intervals.", "version", "cohort")
        width = gauge("interval_width", "Mean width of intervals, in the target's unit.", "version", "cohort")
        for judged in watched.judged:
            quality = judged.evaluation.interval if judged.evaluation is not None else None
            if judged.window == newest:
                of = (str(judged.version), judged.cohort)
                inside.labels(who, *of).set(quality.coverage.value if quality is not None else math.nan)
                width.labels(who, *of).set(quality.width.value if quality is not None else math.nan)
    psi = gauge("psi", "Distance of a column from the windows before.", "column")
    nulls = gauge("null_share", "Share of nulls of a column.", "column")
    for column in watched.columns[newest.label]:
        psi.labels(who, column.name).set(column.psi)
        nulls.labels(who, column.name).set(column.null_share)
    hours = gauge("anomalous_hours", "Hours unlike the same hours of the days before.", "kind")
    for traffic in watched.traffic[newest.label]:
        hours.labels(who, traffic.name).set(traffic.anomalous if traffic.hours else math.nan)
    standing = gauge("alerts", "Alerts that stand.", "check", "severity")
    for alert in watched.standing:
        standing.labels(who, alert.check, alert.severity).inc()
    gauge("blind_checks", "Checks that saw nothing in the newest window.").labels(who).set(len(watched.blind))
    return generate_latest(registry)


def write_gauges(use_case: UseCase, watched: Watched, settings: Settings) -> Path:
    """Writes the gauges to ``reports/<use case>/monitor/metrics.prom``; readers see the old file or the new one."""
    folder = settings.folder("reports") / use_case.name / "monitor"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.prom"
    replace_file(path, render(use_case, watched))
    path.chmod(0o644)
    return path
