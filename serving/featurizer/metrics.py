"""What the streaming featurizer counts, as a service of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

LAG = Histogram(
    "ninefold_featurizer_windows_lag_seconds",
    "From the arrival of an event at a collector to its windows being readable.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0),
)
FAILURES = Counter("ninefold_featurizer_failures", "Turns that failed; the next one tries again.")
RESTORED = Counter("ninefold_featurizer_restored", "Times that the windows were computed anew from the log.")
HOLDS = Gauge("ninefold_featurizer_holds_lease", "1 where this process keeps the windows, 0 where it stands by.")
WATERMARK = Gauge("ninefold_featurizer_watermark_timestamp_seconds", "How far the windows reach; NaN before the first.")
WATERMARK_AGE = Gauge(
    "ninefold_featurizer_watermark_age_seconds", "How far the windows lag behind the clock; NaN before the first."
)


def watch(watermark: Callable[[], float], age: Callable[[], float]) -> None:
    """Lets the gauges ask whenever they are read."""
    WATERMARK.set_function(watermark)
    WATERMARK_AGE.set_function(age)
