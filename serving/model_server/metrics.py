"""The fast path's metrics: plain integers while requests run, Prometheus families only when somebody looks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the latency histogram, in seconds; the last bucket is open."""


class ModelCounters:
    """What one model name has answered so far."""

    __slots__ = ("buckets", "codes", "instances", "not_finite", "seconds")

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self.instances = 0
        self.not_finite = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)

    def answered(self, code: int, seconds: float) -> None:
        """Counts one answer: its HTTP status and how long it took."""
        self.codes[code] = self.codes.get(code, 0) + 1
        self.seconds += seconds
        self.buckets[bisect_left(BUCKETS, seconds)] += 1


class Counters(Collector):
    """All counters of a model server, as a Prometheus collector."""

    def __init__(self) -> None:
        self._models: dict[str, ModelCounters] = {}
        self._packages: dict[str, tuple[str, str]] = {}
        self.not_authenticated = 0

    def model(self, name: str) -> ModelCounters:
        """The counters of a model name; they outlive a reload."""
        counters = self._models.get(name)
        if counters is None:
            counters = self._models[name] = ModelCounters()
        return counters

    def loaded(self, name: str, digest: str, package_format: str) -> None:
        """Notes which package answers under a name."""
        self._packages[name] = (digest, package_format)

    def unloaded(self, name: str) -> None:
        """Notes that nothing answers under a name any more."""
        self._packages.pop(name, None)

    def collect(self) -> Iterator[Metric]:
        """The families, as Prometheus' registry asks for them."""
        requests = CounterMetricFamily(
            "ninefold_model_requests", "v1 predict requests by HTTP status.", labels=("model_name", "code")
        )
        instances = CounterMetricFamily(
            "ninefold_model_instances", "Instances that were predicted.", labels=("model_name",)
        )
        not_finite = CounterMetricFamily(
            "ninefold_model_not_finite", "Requests refused because the model answered NaN.", labels=("model_name",)
        )
        latency = HistogramMetricFamily(
            "ninefold_model_request_seconds", "Time from a request's head to its answer.", labels=("model_name",)
        )
        package = GaugeMetricFamily(
            "ninefold_model_package", "The package that answers.", labels=("model_name", "digest", "format")
        )
        for name, counters in self._models.items():
            for code, count in counters.codes.items():
                requests.add_metric((name, str(code)), count)
            instances.add_metric((name,), counters.instances)
            not_finite.add_metric((name,), counters.not_finite)
            cumulative, buckets = 0, []
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), counters.buckets, strict=True):
                cumulative += count
                buckets.append((bound, float(cumulative)))
            latency.add_metric((name,), buckets, counters.seconds)
        for name, (digest, package_format) in self._packages.items():
            package.add_metric((name, digest, package_format), 1)
        unknown = CounterMetricFamily("ninefold_model_not_authenticated", "Requests without a known API key.")
        unknown.add_metric((), self.not_authenticated)
        yield from (requests, instances, not_finite, latency, package, unknown)
