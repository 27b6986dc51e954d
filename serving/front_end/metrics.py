"""What the front end counts: plain integers on the hot path, turned into Prometheus families when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import prometheus_client
import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

if TYPE_CHECKING:
    from serving.front_end.directions import OpenRollout

log = structlog.get_logger()

_BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_LOG_EVERY = 1000


class Metrics(Collector):
    """The counters of one front end.

    Args:
        use_case: Name of the use case, a label of every family.
    """

    def __init__(self, use_case: str) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.predictions: Counter[tuple[int, str, str | None]] = Counter()
        self.flags: Counter[str] = Counter()
        self.model_failures: Counter[str] = Counter()
        self.model_calls = 0
        self.routes_refused = 0
        self.online_failures = 0
        self.journal_failures = 0
        self.candidates_refused = 0
        self.shadows: Counter[tuple[int, str, str]] = Counter()
        """(Version, ``answered``, ``failed`` or ``dropped``, why) → predictions in shadow."""
        self.shadow_waiting: Callable[[], int] = lambda: 0
        """Predictions in shadow that are neither kept nor dropped yet."""
        self.rollout: OpenRollout | None = None
        self.live_version: int | None = None
        self.journal_lag: Callable[[], tuple[int, float]] = lambda: (0, 0.0)
        """Bytes of the journal that are not in the store yet, and for how many seconds."""
        self._shadow_failures: Counter[str] = Counter()
        self._use_case = use_case
        self._buckets = [0] * (len(_BOUNDS) + 1)
        self._seconds = 0.0
        self._registry = CollectorRegistry()
        self._registry.register(self)
        prometheus_client.ProcessCollector(registry=self._registry)
        prometheus_client.PlatformCollector(registry=self._registry)

    def observe(self, seconds: float) -> None:
        """Counts the time that one prediction request took."""
        self._buckets[bisect_left(_BOUNDS, seconds)] += 1
        self._seconds += seconds

    def online_failed(self, error: Exception) -> None:
        """Counts a read of online rows that failed; the log gets the first of every thousand."""
        if self.online_failures % _LOG_EVERY == 0:
            log.error("online rows can't be read", error=str(error))
        self.online_failures += 1

    def model_failed(self, reason: str, detail: str) -> None:
        """Counts a call of a model server that failed; the log gets the first of every thousand of a reason."""
        if self.model_failures[reason] % _LOG_EVERY == 0:
            log.error("the model gave no answer", reason=reason, detail=detail)
        self.model_failures[reason] += 1

    def shadow_failed(self, reason: str, detail: str) -> None:
        """Logs a call of a candidate in shadow that failed, the first of every thousand of a reason."""
        if self._shadow_failures[reason] % _LOG_EVERY == 0:
            log.warning("the candidate in shadow gave no answer", reason=reason, detail=detail)
        self._shadow_failures[reason] += 1

    def shadow_dropped(self, version: int, reason: str, rows: int, error: Exception | None) -> None:
        """Counts predictions in shadow that are dropped; the log gets the first of every thousand of a reason."""
        before = self.shadows[version, "dropped", reason]
        if before % _LOG_EVERY == 0 or before // _LOG_EVERY != (before + rows) // _LOG_EVERY:
            log.warning("predictions in shadow are dropped", reason=reason, version=version, error=repr(error))
        self.shadows[version, "dropped", reason] += rows

    def render(self) -> bytes:
        """The Prometheus text format."""
        return prometheus_client.generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The families, made from the integers as they stand."""
        label = [self._use_case]
        requests = CounterMetricFamily("ninefold_front_end_requests", "Requests.", labels=["use_case", "verb", "code"])
        for (verb, code), count in sorted(self.requests.items()):
            requests.add_metric([*label, verb, str(code)], count)
        yield requests
        predictions = CounterMetricFamily(
            "ninefold_front_end_predictions", "Predictions given.", labels=["use_case", "version", "cohort"]
        )
        fallbacks = CounterMetricFamily(
            "ninefold_front_end_fallbacks",
            "Predictions that the baseline gave.",
            labels=["use_case", "cohort", "reason"],
        )
        given: Counter[tuple[int, str]] = Counter()
        fallen: Counter[tuple[str, str]] = Counter()
        for (version, cohort, reason), count in self.predictions.items():
            given[version, cohort] += count
            if reason is not None:
                fallen[cohort, reason] += count
        for (version, cohort), count in sorted(given.items()):
            predictions.add_metric([*label, str(version), cohort], count)
        for (cohort, reason), count in sorted(fallen.items()):
            fallbacks.add_metric([*label, cohort, reason], count)
        yield predictions
        yield fallbacks
        yield self._labelled("flags", "Predictions with a flag.", "flag", self.flags)
        yield self._labelled(
            "model_failures", "Calls of a model server without a good answer.", "reason", self.model_failures
        )
        for name, text, value in (
            ("model_calls", "Calls of a model server; one serves all requests of a moment.", self.model_calls),
            ("routes_refused", "Route tables that were refused; the last good one stays.", self.routes_refused),
            (
                "candidates_refused",
                "Candidates that can't be asked; the live version answers.",
                self.candidates_refused,
            ),
            ("online_failures", "Reads of online rows that failed.", self.online_failures),
            ("journal_failures", "Requests refused because the journal could not be written.", self.journal_failures),
        ):
            counter = CounterMetricFamily(f"ninefold_front_end_{name}", text, labels=["use_case"])
            counter.add_metric(label, value)
            yield counter
        shadows = CounterMetricFamily(
            "ninefold_front_end_shadows",
            "Predictions in shadow: answered, failed (the baseline's value is kept), or dropped.",
            labels=["use_case", "version", "outcome", "reason"],
        )
        for (shadowed, outcome, why), count in sorted(self.shadows.items()):
            shadows.add_metric([*label, str(shadowed), outcome, why], count)
        yield shadows
        yield from self._of_rollout()
        lag_bytes, lag_seconds = self.journal_lag()
        version = -1 if self.live_version is None else self.live_version
        gauges: tuple[tuple[str, str, float], ...] = (
            ("live_version", "Version that answers; -1 before the first.", version),
            ("shadows_waiting", "Predictions in shadow that are neither kept nor dropped yet.", self.shadow_waiting()),
            ("journal_lag_bytes", "Bytes of the journal that are not in the store yet.", lag_bytes),
            ("journal_lag_seconds", "How long ago everything kept was in the store.", lag_seconds),
        )
        for name, text, level in gauges:
            gauge = GaugeMetricFamily(f"ninefold_front_end_{name}", text, labels=["use_case"])
            gauge.add_metric(label, level)
            yield gauge
        yield self._latency()

    def _of_rollout(self) -> Iterator[Metric]:
        """What the open rollout's revision asks for, and what was seen of it since it began."""
        rollout = self.rollout
        names = ["use_case", "rollout", "revision"]
        share = GaugeMetricFamily(
            "ninefold_front_end_rollout_share", "Share of the audience that is the candidate's.", labels=names
        )
        ready = GaugeMetricFamily(
            "ninefold_front_end_rollout_ready", "Whether the candidate can be asked.", labels=names
        )
        observed = GaugeMetricFamily(
            "ninefold_front_end_rollout_predictions",
            "Predictions given since the revision began.",
            labels=[*names, "cohort"],
        )
        if rollout is not None:
            labels = [self._use_case, rollout.rollout_id, str(rollout.revision)]
            share.add_metric(labels, rollout.share)
            ready.add_metric(labels, rollout.problem is None)
            for cohort in ("live", "candidate"):
                observed.add_metric([*labels, cohort], rollout.observed[cohort])
        yield share
        yield ready
        yield observed

    def _labelled(self, name: str, text: str, by: str, counts: Counter[str]) -> Metric:
        family = CounterMetricFamily(f"ninefold_front_end_{name}", text, labels=["use_case", by])
        for value, count in sorted(counts.items()):
            family.add_metric([self._use_case, value], count)
        return family

    def _latency(self) -> Metric:
        family = HistogramMetricFamily(
            "ninefold_front_end_predict_seconds", "Time from a prediction request to its answer.", labels=["use_case"]
        )
        buckets = []
        total = 0
        for bound, count in zip((*map(str, _BOUNDS), "+Inf"), self._buckets, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric([self._use_case], buckets=buckets, sum_value=self._seconds)
        return family
