"""Quiet windows stay quiet, planted faults are each caught by the check that should, and blindness is never 'well'."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import pytest

from components.monitor.run import Watched, watch
from ninefold.settings import settings
from ninefold.store import Run, Store
from ninefold.store.workers import at_work

QUIET = 10
"""Days without a fault; each fault after them has two, with two quiet ones between."""


class At:
    """A clock that stands."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now


def _watch(stalls: ModuleType, store: Store, since: int, until: int, **more: Any) -> Watched:
    begin, end = (stalls.BEGAN + timedelta(days=day) for day in (since, until))
    more = {"reports": False, "clock": At(end + timedelta(days=2)), **more}
    return watch("stalls:USE_CASE", store, settings(), begin, end, **more)


def _overs(watched: Watched, day: int) -> set[tuple[str, str]]:
    return {
        (f.check, f.subject) for f in watched.findings if f.outcome == "over" and f.window == watched.windows[day].label
    }


def _nulls(row: dict[str, Any], rng: Any) -> dict[str, Any]:
    return {**row, "size": None if rng.random() < 0.4 else row["size"]}


def _shift(row: dict[str, Any], rng: Any) -> dict[str, Any]:
    return {**row, "size": row["size"] * 1.5}


def _unseen(row: dict[str, Any], rng: Any) -> dict[str, Any]:
    return {**row, "kind": "plants" if rng.random() < 0.3 else row["kind"]}


def _slow(row: dict[str, Any], rng: Any) -> dict[str, Any]:
    return {**row, "latency_ms": 8.0 * row["latency_ms"]}


def _errors(row: dict[str, Any], rng: Any) -> dict[str, Any]:
    return {**row, "fallback": "model_slow" if rng.random() < 0.6 else None}


def _silence(row: dict[str, Any], rng: Any) -> None:
    return None


def _unknown(row: dict[str, Any], rng: Any) -> dict[str, Any]:
    return {**row, "unknown": True}


def _worse(row: dict[str, Any], rng: Any) -> dict[str, Any]:
    return {**row, "truth": row["truth"] + 40.0}


PLANTED = {
    "nulls": (_nulls, {("null_share", "feature stall__size"), ("null_share", "input size"), ("drift", "input size")}),
    "shift": (_shift, {("drift", "input size")}),
    "unseen": (_unseen, {("unseen", "input kind"), ("drift", "input kind")}),
    "slow": (_slow, {("latency_p99_ms", "")}),
    "errors": (_errors, {("error_share", ""), ("fallback_share", "")}),
    "silence": (_silence, {("no_predictions", ""), ("requests", "")}),
    "unknown": (_unknown, {("no_truths", "version 0")}),
    "worse": (_worse, {("loss", "version 0")}),
}
FIRST = {name: QUIET + 4 * place for place, name in enumerate(PLANTED)}


@pytest.fixture
def faulty(stalls: ModuleType, store: Store) -> Watched:
    stalls.write_history(settings().home)
    faults = {FIRST[name] + day: fault for name, (fault, _) in PLANTED.items() for day in (0, 1)}
    stalls.produce(store, QUIET + 4 * len(PLANTED), faults)
    return _watch(stalls, store, 0, QUIET + 4 * len(PLANTED))


def test_each_fault_is_caught_by_its_check_and_quiet_days_are_quiet(faulty: Watched, store: Store) -> None:
    loud = {day for first in FIRST.values() for day in (first, first + 1)}
    quiet = set(range(len(faulty.windows))) - loud
    assert {day: _overs(faulty, day) for day in quiet if _overs(faulty, day)} == {}
    for name, (_, expected) in PLANTED.items():
        for day in (FIRST[name], FIRST[name] + 1):
            assert _overs(faulty, day) == expected, name
    # Each was raised; each cleared, but the last, whose two days within have just been.
    alerts = store.alerts("stalls")
    assert {(a.check, a.subject) for a in alerts} == set().union(*(e for _, e in PLANTED.values()))
    assert faulty.standing == ()
    assert faulty.missing == ""


def test_without_history_production_calibrates_and_that_is_said(stalls: ModuleType, store: Store) -> None:
    stalls.produce(store, 30, {28: _shift, 29: _shift})
    watched = _watch(stalls, store, 26, 30)
    assert "no history" in watched.missing
    assert {(a.check, a.subject) for a in watched.standing} == {("drift", "input size")}


def test_too_little_of_everything_is_blind_and_not_well(stalls: ModuleType, store: Store) -> None:
    stalls.produce(store, 3)
    watched = _watch(stalls, store, 0, 3)
    assert watched.standing == ()
    assert watched.state == "blind"
    assert {"drift", "loss", "requests", "latency_p99_ms"} <= set(watched.blind)


def test_nothing_at_all_is_an_alert(stalls: ModuleType, store: Store) -> None:
    watched = _watch(stalls, store, 0, 2)
    assert watched.state == "alerts"
    assert {a.check for a in watched.standing} == {"no_predictions"}


def test_truths_that_may_still_come_are_waited_for(stalls: ModuleType, store: Store) -> None:
    stalls.write_history(settings().home)
    stalls.produce(store, 8, {7: _unknown})
    early = _watch(stalls, store, 6, 8, clock=At(stalls.BEGAN + timedelta(days=8, hours=1)))
    assert "no_truths" not in {a.check for a in early.standing}
    assert "loss" in early.blind
    late = _watch(stalls, store, 6, 8)
    assert {a.check for a in late.standing} == {"no_truths"}


def test_a_loss_asks_for_training_once_and_drift_never_does(stalls: ModuleType, store: Store) -> None:
    stalls.write_history(settings().home)
    stalls.produce(store, 14, {8: _shift, 9: _shift, 12: _worse, 13: _worse})
    drifted = _watch(stalls, store, 0, 10)
    assert {a.check for a in drifted.standing} == {"drift"}
    assert drifted.requested_run is None
    assert store.runs() == []
    worse = _watch(stalls, store, 10, 14)
    assert "loss" in {a.check for a in worse.standing}
    (run,) = store.runs()
    assert (run.run_id, run.pipeline, run.state) == (worse.requested_run, "training", "requested")
    assert run.parameters["until"] == "2024-03-15T00:00:00Z"
    assert _watch(stalls, store, 10, 14).requested_run is None
    assert len(store.runs()) == 1


def test_a_run_that_is_under_way_is_not_asked_for_again(stalls: ModuleType, store: Store) -> None:
    stalls.write_history(settings().home)
    stalls.produce(store, 10, {8: _worse, 9: _worse})
    store.write_run(
        Run(run_id="r", pipeline="training", use_case="stalls:USE_CASE", state="running", started_at=stalls.BEGAN)
    )
    with at_work(store, "r") as mine:
        assert mine
        watched = _watch(stalls, store, 0, 10)
    assert "loss" in {a.check for a in watched.standing}
    assert watched.requested_run is None
    # Nobody works on it any more: it is ended, and the alert that stands gets its own.
    asked = _watch(stalls, store, 8, 10).requested_run
    assert asked is not None
    assert {run.run_id: run.state for run in store.runs()} == {"r": "failed", asked: "requested"}


def test_a_version_that_is_behind_the_baseline_is_named(stalls: ModuleType, store: Store) -> None:
    stalls.write_history(settings().home)
    worse = {day: lambda row, rng: {**row, "value": 2.2 * row["visits"]} for day in (8, 9)}
    stalls.produce(store, 10, worse, version=3)
    watched = _watch(stalls, store, 0, 10)
    assert watched.main == 3
    assert ("behind_baseline", "version 3") in {(a.check, a.subject) for a in watched.standing}
    assert all("baseline" in a.message for a in watched.standing if a.check == "behind_baseline")


def test_days_one_by_one_find_what_all_at_once_find(stalls: ModuleType, store: Store) -> None:
    stalls.write_history(settings().home)
    stalls.produce(store, 13, {9: _nulls, 10: _nulls})
    raised, cleared = [], []
    for day in range(8, 13):
        watched = _watch(stalls, store, day, day + 1)
        raised += [(day, a.check, a.subject) for a in watched.changes.raised]
        cleared += [(day, a.check, a.subject) for a in watched.changes.cleared]
    expected = PLANTED["nulls"][1]
    assert set(raised) == {(10, *of) for of in expected}
    assert set(cleared) == {(12, *of) for of in expected}
    before = store.counts()["alerts"]
    _watch(stalls, store, 8, 13)
    assert store.counts()["alerts"] == before


def test_what_was_measured_is_in_the_store_and_unknown_is_null(stalls: ModuleType, store: Store) -> None:
    stalls.write_history(settings().home)
    stalls.produce(store, 8, {7: _unknown})
    _watch(stalls, store, 6, 8)
    values = {(m.name, m.slice): m.value for m in store.metrics("stalls", window="2024-03-07/2024-03-08")}
    assert values["predictions", ""] == 288.0
    assert values["coverage", ""] == 1.0
    assert values["truth_delay_p50_hours", ""] == 3.0
    assert 2.0 < (values["mae", ""] or 0) < 3.0
    assert ("mae", "kind=fish") in values
    assert ("psi", "input.visits") in values
    assert values["distribution.p50", "feature.stall__size"] == pytest.approx(10.0, abs=0.5)
    unknown = {m.name: m.value for m in store.metrics("stalls", "mae", window="2024-03-08/2024-03-09")}
    assert unknown == {"mae": None}
