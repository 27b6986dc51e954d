"""Production's intervals are measured by version and slice, and an alert stands where they hold too few truths."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import pytest

from components.monitor.gauges import render
from components.monitor.run import watch
from ninefold.settings import settings
from ninefold.store import Store

HALF = 3.0 * 1.2816
"""Of the width that holds four in five of the made truths."""


class At:
    """A clock that stands."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now


def _bounded(share: float) -> Any:
    def answered(row: dict[str, Any], rng: Any) -> dict[str, Any]:
        at = 2.0 * row["visits"]
        # One in ten is answered by the baseline, which has none.
        return {**row, "interval": None if rng.random() < 0.1 else (at - share * HALF, at + share * HALF)}

    return answered


def _watch(stalls: ModuleType, store: Store, days: int) -> Any:
    end = stalls.BEGAN + timedelta(days=days)
    clock = At(end + timedelta(days=2))
    return watch("stalls:BOUNDED", store, settings(), stalls.BEGAN, end, clock=clock, reports=False)


def test_coverage_and_width_are_measured_and_too_little_raises_an_alert(stalls: ModuleType, store: Store) -> None:
    narrow = {day: _bounded(0.5) for day in (3, 4)}
    stalls.produce(store, 6, {day: _bounded(1.0) for day in range(6)} | narrow, version=1)
    watched = _watch(stalls, store, 6)
    found = {f.window: f for f in watched.findings if f.check == "interval_coverage"}
    assert [found[w.label].outcome for w in watched.windows] == ["within"] * 3 + ["over"] * 2 + ["within"]
    assert all(f.limit == pytest.approx(0.78) for f in found.values())
    assert ("interval_coverage", "version 1") in stalls.keys(watched.changes.raised)
    (alert,) = [a for a in watched.standing if a.check == "interval_coverage"]
    assert alert.severity == "warning"
    assert "of the truths lie in their intervals" in alert.message
    measured = {(m.name, m.slice): m for m in store.metrics("stalls") if m.window == watched.windows[3].label}
    # Half as wide holds 47.8 % of a normal deviation's truths.
    assert measured["interval_coverage", ""].value == pytest.approx(0.478, abs=0.1)
    assert measured["interval_width", ""].value == pytest.approx(HALF)
    assert measured["interval_coverage", "kind=fish"].version == 1
    lines = render(stalls.BOUNDED, watched).decode().splitlines()
    (line,) = [text for text in lines if text.startswith("ninefold_monitor_interval_coverage{")]
    assert float(line.rpartition(" ")[2]) == pytest.approx(0.8, abs=0.08)


def test_answers_without_intervals_are_blindness_and_never_well(stalls: ModuleType, store: Store) -> None:
    stalls.produce(store, 2, version=1)
    watched = _watch(stalls, store, 2)
    found = [f for f in watched.findings if f.check == "interval_coverage"]
    assert [(f.outcome, f.value) for f in found] == [("blind", None)] * 2
    assert "interval_coverage" in watched.blind
    lines = render(stalls.BOUNDED, watched).decode().splitlines()
    (line,) = [text for text in lines if text.startswith("ninefold_monitor_interval_coverage{")]
    assert math.isnan(float(line.rpartition(" ")[2]))


def test_the_baseline_promises_no_interval(stalls: ModuleType, store: Store) -> None:
    stalls.produce(store, 2)
    assert not [f for f in _watch(stalls, store, 2).findings if f.check == "interval_coverage"]
