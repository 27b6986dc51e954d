"""What goes wrong around the controller: it holds, or converges; it never acts twice and never by mistake."""

from __future__ import annotations

import multiprocessing
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rollout_house import DAY, USE_CASE, Production, controller, found, run
from structlog.testing import capture_logs

from ninefold.clock import EventClock
from ninefold.errors import StoreError
from ninefold.records import Prediction
from ninefold.store import Store, open_store
from ninefold.store.erasure import erase_records, key_of
from serving.rollout.controller import Controller


class Killed(BaseException):
    """The process ends here."""


class Fragile:
    """A store on which one call is the last: before it has an effect, or after.

    Args:
        store: The store.
        last: Number of the call that is the last, from 0.
        after: Whether its effect is kept.
        error: What ends it.
    """

    def __init__(self, store: Store, last: int, *, after: bool, error: BaseException) -> None:
        self._store, self._last, self._after, self._error = store, last, after, error
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._store, name)
        if not callable(target):
            return target

        def call(*args: Any, **kwargs: Any) -> Any:
            is_last = self.calls == self._last
            self.calls += 1
            if is_last and not self._after:
                raise self._error
            result = target(*args, **kwargs)
            if is_last:
                raise self._error
            return result

        return call


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_call_it_converges(production: Production, after: bool) -> None:
    lasting, death, calls = timedelta(minutes=1), 0, 1
    for _ in range(16):
        production.day()
        # As many deaths as a look has calls, spread over the days; then somebody else goes on when the lease is over.
        fragile = Fragile(production.store, death % max(calls, 1), after=after, error=Killed())
        try:
            Controller(USE_CASE, fragile, clock=production.clock, lasting=lasting).look()  # type: ignore[arg-type]
        except Killed:
            death += 1
        else:
            death = 0
        calls = max(calls, fragile.calls)
        production.clock.advance(production.clock.now() + 2 * lasting)
        looking = controller(production, lasting=lasting)
        looking.look()
        looking.close()
    assert production.history == [
        ("open", "pending"),
        ("start_shadow", "shadow"),
        ("advance", "canary"),
        ("advance", "canary"),
        ("promote", "promoted"),
    ]
    assert production.live == 2
    assert [s.revision for s in production.store.steps(production.rollout.rollout_id) if s.action != "hold"] == [
        1,
        2,
        3,
        4,
        5,
    ]


def test_a_store_out_of_reach_holds_and_is_told(production: Production) -> None:
    run(production, 1)
    production.day()
    production.clock.advance(production.clock.now() + timedelta(minutes=5))
    for last in range(6):
        broken = Fragile(production.store, last, after=False, error=StoreError("The store does not answer."))
        with capture_logs() as logs:
            looking = Controller(USE_CASE, broken, clock=production.clock)  # type: ignore[arg-type]
            assert looking.look() is None
        assert any(line["event"] == "rollout is held" for line in logs)
        looking.close()
        production.clock.advance(production.clock.now() + timedelta(minutes=5))
    assert production.rollout.state == "shadow"
    assert controller(production).look() is not None


def test_of_two_controllers_one_looks_and_the_other_stands_by(production: Production) -> None:
    first, second = (controller(production, holder=name) for name in ("a", "b"))
    assert first.look() is not None
    assert second.look() is None
    production.clock.advance(production.clock.now() + timedelta(minutes=1))
    assert first.look() is not None
    # The first one dies, or sleeps: the second takes its place, and what the first does late is refused.
    production.clock.advance(production.clock.now() + timedelta(minutes=3))
    assert second.look() is not None
    assert first.look() is None
    second.close()
    assert first.look() is not None


def test_what_a_controller_decided_before_it_lost_the_lease_is_not_recorded(production: Production) -> None:
    other = controller(production, holder="b")

    def while_it_looks(_: Any) -> str:
        # It sleeps past its lease in the midst of a look; somebody else looks and acts.
        production.clock.advance(production.clock.now() + timedelta(minutes=10))
        assert other.look() is not None
        return ""

    slow = controller(production, obstacle=while_it_looks, holder="a")
    with capture_logs() as logs:
        assert slow.look() is None
    assert any(line["event"] == "rollout has moved on" for line in logs)
    assert production.history == [("open", "pending"), ("start_shadow", "shadow")]
    assert {s.revision for s in production.store.steps(production.rollout.rollout_id)} == {1, 2}


def test_who_lost_the_lease_records_nothing_though_nothing_has_changed(production: Production) -> None:
    def while_it_looks(_: Any) -> str:
        # Another one has its turn now and has not acted yet: the revision is still the same.
        production.clock.advance(production.clock.now() + timedelta(minutes=10))
        assert production.store.take_lease("rollout/parcels", "b", timedelta(minutes=2)) is not None
        return ""

    assert controller(production, obstacle=while_it_looks, holder="a").look() is None
    assert production.history == [("open", "pending")]


def test_a_person_who_acts_while_it_looks_wins(production: Production) -> None:
    def while_it_looks(_: Any) -> str:
        kept = production.store.rollout("parcels")
        assert kept is not None
        production.store.record_step(
            kept.rollout_id, revision=kept.revision, actor="ada", action="abort", state="rolled_back"
        )
        return ""

    assert controller(production, obstacle=while_it_looks).look() is None
    assert production.history == [("open", "pending"), ("abort", "rolled_back")]


def test_many_threads_that_look_at_once_act_once_each_time(production: Production, sqlite_url: str) -> None:
    stores = [open_store(sqlite_url, clock=production.clock) for _ in range(4)]
    barrier = threading.Barrier(len(stores))
    failures: list[BaseException] = []

    def looking(store: Store, name: str) -> None:
        try:
            # No lease lasts: only tokens and revisions keep them apart.
            mine = Controller(USE_CASE, store, clock=production.clock, holder=name, lasting=timedelta(0))
            for _ in range(5):
                barrier.wait()
                mine.look()
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    production.day()
    threads = [threading.Thread(target=looking, args=(store, str(n))) for n, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    assert failures == []
    assert production.history == [("open", "pending"), ("start_shadow", "shadow")]


def _look_once(url: str, at: datetime, name: str, start: Any) -> None:
    with open_store(url, clock=EventClock(at)) as store:
        start.wait()
        Controller(USE_CASE, store, clock=store.clock, holder=name, lasting=timedelta(0)).look()


def test_processes_that_look_at_once_act_once(production: Production, sqlite_url: str) -> None:
    spawned = multiprocessing.get_context("fork")
    start = spawned.Barrier(3)
    production.store.engine.dispose()
    children = [
        spawned.Process(target=_look_once, args=(sqlite_url, production.clock.now(), str(n), start)) for n in range(3)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert production.history == [("open", "pending"), ("start_shadow", "shadow")]


class SetClock:
    """A clock that can be put anywhere."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


def _jumped(production: Production, by: timedelta) -> Controller:
    return Controller(USE_CASE, production.store, clock=SetClock(production.clock.now() + by))


@pytest.mark.parametrize("days", [-400, -3, -1])
def test_a_clock_that_jumps_back_holds(production: Production, days: int) -> None:
    leading = controller(production)
    run(production, 7, leading)
    leading.close()
    production.day()
    decision = _jumped(production, timedelta(days=days)).look()
    assert decision is not None
    assert decision.action == "hold"
    assert decision.reasons[0].name == "clock"
    assert found(decision)["clock"] == "unknown"
    production.clock.advance(production.clock.now() + timedelta(hours=1))
    righted = controller(production).look()
    assert righted is not None
    assert righted.action == "advance"


def test_a_clock_that_jumps_back_does_not_keep_a_guardrail(production: Production) -> None:
    leading = controller(production)
    run(production, 2, leading)
    leading.close()
    production.failing[2] = "model_error"
    production.day()
    decision = _jumped(production, -DAY).look()
    assert decision is not None
    assert decision.action == "rollback"


def test_a_clock_that_jumps_ahead_closes_no_block(production: Production) -> None:
    leading = controller(production)
    run(production, 6, leading)
    production.day(hours=12)
    before = leading.look()
    leading.close()
    ahead = _jumped(production, timedelta(days=200)).look()
    assert before is not None
    assert ahead is not None
    # Half a day has been asked; by the clock its deadline is long over, by what was recorded it has not closed.
    assert ahead.action == "hold"
    assert ahead.numbers["blocks"] == before.numbers["blocks"]
    assert ahead.numbers["blocks_lapsed"] == 0


def test_a_rollout_that_was_opened_in_the_future_waits_for_it(production: Production) -> None:
    later = production.clock.now() + timedelta(days=3)
    production.store.open_rollout("parcels", incumbent=1, candidate=3, policy={}, actor="r", at=later)
    leading = controller(production)
    decision = leading.look()
    assert decision is not None
    assert decision.action == "hold"
    assert "was opened at 2024-01-04T00:00:00Z" in decision.words
    production.clock.advance(later)
    again = leading.look()
    assert again is not None
    assert again.action == "start_shadow"


def test_what_is_shipped_late_and_what_is_erased_is_seen_at_the_next_look(
    production: Production, monkeypatch: pytest.MonkeyPatch
) -> None:
    leading = controller(production)
    run(production, 3, leading)
    held_back: list[Prediction] = []
    write = production.store.write_predictions

    def shipping(records: Any) -> Any:
        listed = list(records)
        held_back.extend(listed[: len(listed) // 2])
        return write(listed[len(listed) // 2 :])

    monkeypatch.setattr(production.store, "write_predictions", shipping)
    run(production, 1, leading)
    monkeypatch.undo()
    run(production, 2, leading)
    halved = leading.look()
    production.store.write_predictions(held_back)
    whole = leading.look()
    assert whole is not None
    assert halved is not None
    assert (whole.numbers["candidate_requests"] or 0) - (halved.numbers["candidate_requests"] or 0) == 60
    erase_records(
        production.store, USE_CASE, key_of(USE_CASE, "p2-7", []), now=production.clock.now(), actor="t", dry_run=False
    )
    erased = leading.look()
    assert erased is not None
    assert (whole.numbers["candidate_requests"] or 0) - (erased.numbers["candidate_requests"] or 0) == 1
    # One that reads all of it anew finds the same.
    leading.close()
    again = controller(production).look()
    assert again is not None
    for name, value in erased.numbers.items():
        assert again.numbers[name] == (None if value is None else pytest.approx(value, rel=1e-9)), name


def test_a_package_that_is_gone_holds_the_step_that_needs_it(production: Production) -> None:
    version = production.store.version("parcels", 2)
    assert version is not None
    manifest = Path(version.uri) / "package.json"
    content = manifest.read_bytes()
    manifest.unlink()
    leading = controller(production)
    run(production, 9, leading)
    held = leading.look()
    assert found(held)["null_share"] == "unknown"
    assert production.rollout.state == "shadow"
    manifest.write_bytes(content)
    assert [d.action for d in run(production, 1, leading)] == ["advance"]


def test_use_case_code_that_fails_holds(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    leading = controller(production)
    monkeypatch.setattr("rollout_house.FAULTS", {"derive"})
    with capture_logs() as logs:
        run(production, 9, leading)
        held = leading.look()
    assert found(held)["null_share"] == "unknown"
    assert production.rollout.state == "shadow"
    assert any("no such column" in str(line.get("error")) for line in logs)
    leading.close()
    monkeypatch.setattr("rollout_house.FAULTS", {"block"})
    with capture_logs() as logs:
        assert controller(production).look() is None
    [line] = [line for line in logs if line["event"] == "rollout is held"]
    assert "The block of parcels can't be told" in line["error"]


def test_routes_that_do_not_follow_hold_what_goes_forward_and_not_what_goes_back(production: Production) -> None:
    edited = "HTTPRoute parcels was changed by hand."
    trouble = [edited]
    looking = controller(production, trouble=lambda: trouble[0])
    assert run(production, 3, looking) == []
    assert production.rollout.state == "pending"
    assert production.store.steps(production.rollout.rollout_id)[-1].reasons == (
        "HTTPRoute parcels was changed by hand.",
    )
    trouble[0] = ""
    (started,) = run(production, 1, looking)
    assert started.action == "start_shadow"
    trouble[0] = edited
    # It fails: that is counted, and needs no gateway to be ended.
    production.failing[2] = "model_error"
    assert [decision.action for decision in run(production, 4, looking)] == ["rollback"]
