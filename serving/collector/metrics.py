"""What the collector counts."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

from serving.collector.keeper import Outcome

RECORDS = Counter(
    "ninefold_collector_records", "Records that were kept, by kind and by what became of them.", ["kind", "outcome"]
)
REFUSED = Counter(
    "ninefold_collector_refused", "Requests that were refused, by kind and HTTP status.", ["kind", "status"]
)
LAG = Histogram(
    "ninefold_collector_windows_lag_seconds",
    "From the arrival of events to their windows being readable.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
WAITING = Gauge("ninefold_collector_waiting_records", "Records that wait to be written.")
WATERMARK = Gauge("ninefold_collector_watermark_timestamp_seconds", "How far the windows reach; NaN before the first.")
WATERMARK_AGE = Gauge(
    "ninefold_collector_watermark_age_seconds", "How far the windows lag behind the clock; NaN before the first."
)


def count(kind: str, outcome: Outcome) -> None:
    """Counts what became of a request's records."""
    for name in ("new", "repeated", "conflicting", "late", "unmatched", "waiting"):
        if number := getattr(outcome, name):
            RECORDS.labels(kind, name).inc(number)


def watch(waiting: Callable[[], float], watermark: Callable[[], float], age: Callable[[], float]) -> None:
    """Lets the gauges ask whenever they are read."""
    WAITING.set_function(waiting)
    WATERMARK.set_function(watermark)
    WATERMARK_AGE.set_function(age)
