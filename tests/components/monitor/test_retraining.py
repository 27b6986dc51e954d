"""One alert gets one run: not while another is under way, not where one has seen the trouble, again where it failed."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import pytest

from components.monitor.retraining import TRIES, ask_for_training
from ninefold.clock import EventClock, format_instant
from ninefold.settings import Settings
from ninefold.store import Alert, Run, Store
from ninefold.store.workers import at_work

WINDOW = 12


@pytest.fixture
def ask(stalls: ModuleType, store: Store) -> Any:
    """Asks at the end of a day, by default that of the window that raised the alert."""

    def asked(day: int = WINDOW + 1, *, main: int = 2, name: str = "stalls:USE_CASE", **settings: Any) -> str | None:
        until = stalls.BEGAN + timedelta(days=day)
        here = Settings.model_validate(settings)
        return ask_for_training(
            name, stalls.USE_CASE, store, here, EventClock(until + timedelta(hours=1)), until=until, main=main
        )

    return asked


def _raise(stalls: ModuleType, store: Store, check: str = "loss", *, day: int = WINDOW, version: int = 2) -> str:
    begin: datetime = stalls.BEGAN + timedelta(days=day)
    alert = Alert(
        alert_id=f"{check}{version}{day}".ljust(32, "0"), use_case="stalls", check=check, subject=f"version {version}",
        severity="critical", window=f"{begin:%Y-%m-%d}/{begin + timedelta(days=1):%Y-%m-%d}", value=9.0, limit=5.0,
        message="mae is 9 kg.", raised_at=begin + timedelta(days=2),
    )  # fmt: skip
    assert store.raise_alert(alert)
    return alert.alert_id


def _requested(store: Store) -> list[str]:
    return [run.run_id for run in store.runs(state="requested")]


def test_a_run_learns_up_to_the_end_of_the_day_within_the_bounds_that_are_set(
    stalls: ModuleType, store: Store, ask: Any
) -> None:
    _raise(stalls, store)
    assert (
        ask(WINDOW + 3, monitoring={"max_training_time": 15, "max_trials": 2}) == "training-stalls-alert-loss21200000"
    )
    (run,) = store.runs()
    assert (run.use_case, run.pipeline, run.state) == ("stalls:USE_CASE", "training", "requested")
    assert run.parameters == {
        "until": "2024-03-16T00:00:00Z", "max_training_time": 15.0, "max_trials": 2, "windows": {}, "seed": 0,
    }  # fmt: skip


@pytest.mark.parametrize("check", ["drift", "null_share", "requests", "no_truths", "error_share"])
def test_what_is_no_loss_asks_for_nothing(stalls: ModuleType, store: Store, ask: Any, check: str) -> None:
    _raise(stalls, store, check)
    assert ask() is None


def test_a_loss_of_a_version_that_does_not_answer_any_more_asks_for_nothing(
    stalls: ModuleType, store: Store, ask: Any
) -> None:
    _raise(stalls, store, version=1)
    assert ask() is None


def test_an_alert_asks_once_whatever_came_of_it(stalls: ModuleType, store: Store, ask: Any) -> None:
    _raise(stalls, store)
    _raise(stalls, store, "behind_baseline")
    first = ask()
    assert first is not None
    assert ask(name="stalls") is None
    store.update_run(first, state="succeeded")
    # Neither the same alert nor its twin of the same day: the run has learned from that day.
    assert [ask(WINDOW + more) for more in (1, 2, 9)] == [None, None, None]
    store.clear_alert("loss212".ljust(32, "0"), stalls.BEGAN)
    _raise(stalls, store, day=WINDOW + 7)
    assert ask(WINDOW + 8) == "training-stalls-alert-loss21900000"


def test_a_run_that_has_seen_the_trouble_is_enough_whoever_asked(stalls: ModuleType, store: Store, ask: Any) -> None:
    _raise(stalls, store)
    for name, day in (("before", WINDOW), ("after", WINDOW + 1)):
        until = format_instant(stalls.BEGAN + timedelta(days=day))
        store.write_run(
            Run(
                run_id=f"training-stalls-{name}", pipeline="training", use_case="elsewhere:STALLS", state="succeeded",
                started_at=stalls.BEGAN, parameters={"until": until},
            )
        )  # fmt: skip
        assert (ask() is None) == (name == "after")
        for run_id in _requested(store):
            store.update_run(run_id, state="failed")


@pytest.mark.parametrize("pipeline", ["training", "tuning"])
def test_while_a_run_is_under_way_nothing_is_asked_and_then_it_is(
    stalls: ModuleType, store: Store, ask: Any, pipeline: str
) -> None:
    _raise(stalls, store)
    begun = Run(
        run_id=f"{pipeline}-stalls-scheduled", pipeline=pipeline, use_case="stalls", state="running",
        started_at=stalls.BEGAN, parameters={"until": "2024-03-01T00:00:00Z"},
    )  # fmt: skip
    store.write_run(begun)
    with at_work(store, begun.run_id):
        assert ask() is None
    assert ask() is not None
    found = store.run(begun.run_id)
    assert found is not None
    assert (found.state, str(found.error).startswith("Whoever worked on it went away")) == ("failed", True)


def test_a_run_that_failed_is_asked_for_again_but_not_for_ever(stalls: ModuleType, store: Store, ask: Any) -> None:
    _raise(stalls, store)
    asked = []
    for day in range(WINDOW + 1, WINDOW + 8):
        if (run_id := ask(day)) is not None:
            asked.append(run_id)
            store.update_run(run_id, state="failed", error="the well is dry.")
    name = "training-stalls-alert-loss21200000"
    assert asked == [name, f"{name}-2", f"{name}-3"]
    assert len(asked) == TRIES


def test_looking_back_at_days_before_the_trouble_asks_for_nothing(stalls: ModuleType, store: Store, ask: Any) -> None:
    _raise(stalls, store)
    assert ask(WINDOW) is None
    assert ask(WINDOW + 1) is not None
