"""Rollouts and their history, on both databases."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ninefold.clock import EventClock
from ninefold.errors import DataError, NotFound, Outdated, StoreError, UsageError
from ninefold.store import Store, StoredRollout, open_store
from ninefold.store.tables import rollouts

NOW = datetime(2013, 7, 1, tzinfo=UTC)


@pytest.fixture
def clock(store: Store) -> EventClock:
    clock = EventClock(NOW)
    store.clock = clock
    return clock


def _open(store: Store, candidate: int, **more: Any) -> StoredRollout:
    return store.open_rollout(
        "arrivals", incumbent=1, candidate=candidate, policy={"mode": "canary"}, actor="r", **more
    )


def _step(store: Store, rollout: StoredRollout, state: Any, **more: Any) -> StoredRollout:
    return store.record_step(
        rollout.rollout_id, revision=rollout.revision, actor="controller", action="go", state=state, **more
    )


def test_a_rollout_is_opened_and_its_whole_history_is_kept(store: Store, clock: EventClock) -> None:
    opened = _open(store, 2, reason="passed its gate")
    assert (opened.state, opened.step, opened.revision, opened.opened_at) == ("pending", 0, 1, NOW)
    assert (opened.policy, opened.reason) == ({"mode": "canary"}, "passed its gate")
    clock.advance(NOW + timedelta(hours=1))
    shadow = _step(store, opened, "shadow", reasons=["its windows are filled"])
    held = _step(store, shadow, "shadow", reasons=["3 of 14 blocks"], numbers={"blocks": 3})
    canary = _step(store, held, "canary", reasons=["better", "by 0.4 min"], numbers={"lower": 0.1})
    wider = _step(store, canary, "canary", step=1)
    assert [r.revision for r in (shadow, held, canary, wider)] == [2, 2, 3, 4]
    assert store.rollout("arrivals") == wider
    clock.advance(NOW + timedelta(hours=9))
    ended = _step(store, wider, "rolled_back", reasons=["errors: 4 %"])
    assert (ended.ended_at, ended.reason, ended.updated_at) == (clock.now(), "errors: 4 %", clock.now())
    assert store.rollout("arrivals") is None
    assert store.find_rollout(opened.rollout_id) == ended
    steps = store.steps(opened.rollout_id)
    assert [(s.number, s.from_state, s.to_state, s.revision) for s in steps] == [
        (1, None, "pending", 1),
        (2, "pending", "shadow", 2),
        (3, "shadow", "shadow", 2),
        (4, "shadow", "canary", 3),
        (5, "canary", "canary", 4),
        (6, "canary", "rolled_back", 5),
    ]
    assert (steps[3].reasons, steps[3].numbers, steps[3].actor) == (
        ("better", "by 0.4 min"),
        {"lower": 0.1},
        "controller",
    )
    assert steps[1].at == NOW + timedelta(hours=1)


def test_opening_again_changes_nothing(store: Store, clock: EventClock) -> None:
    opened = _open(store, 2, rollout_id="run-7", salt="s")
    assert _open(store, 2) == opened
    assert _open(store, 9, rollout_id="run-7") == opened
    ended = _step(store, opened, "rolled_back")
    # A release that is repeated doesn't bring back what was rolled back; who asks anew does.
    assert _open(store, 2, rollout_id="run-7") == ended
    again = _open(store, 2)
    assert again.rollout_id != "run-7"
    assert again.salt != "s"
    assert len(store.rollouts("arrivals")) == 2


def test_a_newer_candidate_supersedes_the_one_that_waits_and_leaves_alone_the_one_that_goes_on(
    store: Store, clock: EventClock
) -> None:
    first = _step(store, _open(store, 2), "shadow")
    second = _open(store, 3)
    assert store.rollout("arrivals") == first
    third = _open(store, 4)
    superseded = store.find_rollout(second.rollout_id)
    assert superseded is not None
    assert (superseded.state, superseded.reason, superseded.ended_at) == ("superseded", "version 4 is newer", NOW)
    assert [s.action for s in store.steps(second.rollout_id)] == ["open", "supersede"]
    assert store.find_rollout(first.rollout_id) == first
    assert [r.candidate for r in store.rollouts("arrivals", states=("pending", "shadow"))] in ([2, 4], [4, 2])
    with pytest.raises(StoreError, match=r"can't be shadow: .* of arrivals, version 2, is shadow\. One at a time"):
        _step(store, third, "shadow")
    assert store.find_rollout(third.rollout_id) == third
    _step(store, first, "rolled_back")
    assert _step(store, third, "shadow").state == "shadow"
    # Another use case has a place of its own.
    assert store.open_rollout("churn", incumbent=0, candidate=1, policy={}, actor="r").state == "pending"


@pytest.mark.parametrize("state", ["pending", "shadow", "canary", "ab", "paused"])
def test_the_database_itself_holds_one_of_each(store: Store, state: str) -> None:
    row = {
        "use_case": "arrivals", "incumbent": 1, "candidate": 2, "state": state, "step": 0, "salt": "", "revision": 1,
        "policy": {}, "opened_at_us": 0, "updated_at_us": 0, "reason": "",
    }  # fmt: skip
    with store.writing() as connection:
        connection.execute(rollouts.insert().values(rollout_id="a", **row))
    with pytest.raises(DataError, match=r"(?i)unique"), store.writing() as connection:
        connection.execute(rollouts.insert().values(rollout_id="b", **row))


def test_a_decision_on_an_older_revision_is_refused(store: Store) -> None:
    opened = _open(store, 2)
    _step(store, opened, "shadow")
    with pytest.raises(Outdated, match=r"stands at revision 2 \(shadow\), not 1\. Look again") as caught:
        _step(store, opened, "canary")
    assert caught.value.http_status == 409
    assert len(store.steps(opened.rollout_id)) == 2
    with pytest.raises(NotFound, match="no rollout 'nobody'"):
        store.record_step("nobody", revision=1, actor="a", action="go", state="shadow")
    with pytest.raises(UsageError, match="'done' is no state of a rollout"):
        _step(store, opened, "done")


def test_of_two_that_decide_at_once_one_is_recorded(url: str) -> None:
    stores = [open_store(url) for _ in range(2)]
    rollout = _open(stores[0], 2)
    for state in ("shadow", "canary", "paused", "canary", "paused"):
        outcomes: list[Any] = []
        barrier = threading.Barrier(2)

        def deciding(store: Store, rollout: StoredRollout, state: str, outcomes: list[Any], barrier: Any) -> None:
            barrier.wait()
            try:
                outcomes.append(_step(store, rollout, state))
            except Outdated as error:
                outcomes.append(error)

        threads = [
            threading.Thread(target=deciding, args=(store, rollout, state, outcomes, barrier)) for store in stores
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        [rollout] = [outcome for outcome in outcomes if isinstance(outcome, StoredRollout)]
        assert len(outcomes) == 2
    assert [s.revision for s in stores[0].steps(rollout.rollout_id)] == [1, 2, 3, 4, 5, 6]
    for store in stores:
        store.close()


def test_a_promotion_and_the_version_that_goes_live_are_one(store: Store, clock: EventClock) -> None:
    store.register_version("arrivals", "a" * 64, "/a", version=0)
    for digest in ("b" * 64, "c" * 64):
        store.register_version("arrivals", digest, "/p")
    store.set_state("arrivals", 1, "live")
    canary = _step(store, _open(store, 2), "canary")
    with pytest.raises(NotFound, match="no version 9"):
        _step(store, canary, "promoted", live=9)
    assert store.rollout("arrivals") == canary
    assert len(store.steps(canary.rollout_id)) == 2
    _step(store, canary, "promoted", live=2, reasons=["better by 0.4 min"])
    live = store.live_version("arrivals")
    assert live is not None
    assert live.version == 2
    assert [(c.version, c.from_state, c.to_state, c.actor, c.reason) for c in store.version_changes("arrivals")][
        1:
    ] == [
        (1, "live", "retired", "controller", "better by 0.4 min"),
        (2, "registered", "live", "controller", "better by 0.4 min"),
    ]


def test_a_step_under_a_lost_lease_is_refused(store: Store, clock: EventClock) -> None:
    opened = _open(store, 2)
    mine = store.take_lease("rollout/arrivals", "a", timedelta(seconds=30))
    assert mine is not None
    shadow = _step(store, opened, "shadow", lease=mine)
    clock.advance(NOW + timedelta(seconds=31))
    # Late, but nobody else has acted.
    canary = _step(store, shadow, "canary", lease=mine)
    theirs = store.take_lease("rollout/arrivals", "b", timedelta(seconds=30))
    assert theirs is not None
    with pytest.raises(Outdated, match=r"The lease rollout/arrivals of a is over: b has it\."):
        _step(store, canary, "promoted", lease=mine)
    assert store.rollout("arrivals") == canary
    assert _step(store, canary, "rolled_back", lease=theirs).state == "rolled_back"


def _register(store: Store, count: int) -> None:
    store.register_version("arrivals", "a" * 64, "/a", version=0)
    for number in range(count):
        store.register_version("arrivals", f"{number}" * 64, "/p")
    store.set_state("arrivals", 1, "live")


def _states(store: Store) -> dict[int, str]:
    return {version.version: version.state for version in store.versions("arrivals")}


def test_a_candidate_whose_rollout_ends_without_it_is_retired_in_the_same_step(store: Store, clock: EventClock) -> None:
    _register(store, 4)
    first = _step(store, _open(store, 2), "shadow")
    _open(store, 3)
    _open(store, 4)
    assert _states(store) == {0: "registered", 1: "live", 2: "registered", 3: "retired", 4: "registered"}
    _step(store, first, "rolled_back", reasons=["errors: 4 %"])
    assert _states(store)[2] == "retired"
    changes = [(c.version, c.to_state, c.actor, c.reason) for c in store.version_changes("arrivals")]
    assert changes[1:] == [
        (3, "retired", "r", "version 4 is newer"),
        (2, "retired", "controller", "errors: 4 %"),
    ]


def test_what_is_live_and_the_baseline_are_not_retired_with_their_rollout(store: Store) -> None:
    _register(store, 2)
    opened = _open(store, 2)
    store.set_state("arrivals", 2, "live")
    _step(store, opened, "rolled_back")
    assert _states(store) == {0: "registered", 1: "retired", 2: "live"}
    _step(store, _open(store, 0), "rolled_back")
    assert _states(store)[0] == "registered"


def test_a_refused_step_retires_nobody(store: Store, clock: EventClock) -> None:
    _register(store, 2)
    opened = _open(store, 2)
    with pytest.raises(Outdated):
        store.record_step(opened.rollout_id, revision=7, actor="a", action="abort", state="rolled_back")
    assert _states(store)[2] == "registered"


def test_another_incumbent_is_another_revision(store: Store) -> None:
    _register(store, 3)
    opened = _open(store, 2)
    rebased = _step(store, opened, "pending", incumbent=3)
    assert (rebased.incumbent, rebased.revision, rebased.state) == (3, 2, "pending")
    with pytest.raises(Outdated, match="stands at revision 2"):
        _step(store, opened, "shadow")
    assert _step(store, rebased, "pending", incumbent=3).revision == 2


def test_a_promotion_does_not_replace_a_version_that_it_was_not_compared_with(store: Store) -> None:
    _register(store, 3)
    canary = _step(store, _open(store, 2), "canary")
    store.set_state("arrivals", 3, "live")
    with pytest.raises(Outdated, match=r"Version 3 of arrivals is live now, not version 1, which 2 was compared with"):
        _step(store, canary, "promoted", live=2)
    assert _states(store) == {0: "registered", 1: "retired", 2: "registered", 3: "live"}
    assert store.rollout("arrivals") == canary
    # Who knows what is live, and means it, says so.
    assert _step(store, canary, "promoted", live=2, incumbent=3).incumbent == 3
    assert _states(store)[2] == "live"


def test_where_no_version_is_live_the_baseline_was_compared_with(store: Store) -> None:
    store.register_version("arrivals", "a" * 64, "/a", version=0)
    store.register_version("arrivals", "b" * 64, "/b")
    opened = store.open_rollout("arrivals", incumbent=0, candidate=1, policy={}, actor="r")
    _step(store, opened, "promoted", live=1)
    assert _states(store) == {0: "registered", 1: "live"}


def test_who_goes_by_another_clock_says_when(store: Store, clock: EventClock) -> None:
    _register(store, 2)
    at = NOW + timedelta(days=400)
    opened = _open(store, 2, at=at)
    stepped = _step(store, opened, "rolled_back", at=at + timedelta(hours=1))
    assert (opened.opened_at, stepped.updated_at, stepped.ended_at) == (
        at,
        at + timedelta(hours=1),
        at + timedelta(hours=1),
    )
    assert [s.at for s in store.steps(opened.rollout_id)] == [at, at + timedelta(hours=1)]
    assert store.version_changes("arrivals")[-1].at == at + timedelta(hours=1)
