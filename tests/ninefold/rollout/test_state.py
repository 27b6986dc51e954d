"""What can happen to a rollout, and what can't."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.errors import Outdated, UsageError
from ninefold.rollout.state import ENDED, Event, Kind, Rollout, apply

START = datetime(2013, 7, 1, tzinfo=UTC)
LATER = START + timedelta(days=1)
PENDING = Rollout(
    rollout_id="r1", use_case="arrivals", incumbent=1, candidate=2, salt="s", opened_at=START, entered_at=START
)
KINDS: tuple[Kind, ...] = (
    "start_shadow", "start_ab", "advance", "promote", "rollback", "pause", "resume", "abort", "supersede",
)  # fmt: skip


def after(*kinds: Kind | tuple[Kind, int]) -> Rollout:
    rollout = PENDING
    for kind in kinds:
        name, step = kind if isinstance(kind, tuple) else (kind, None)
        rollout = apply(rollout, Event(kind=name, at=LATER, step=step))
    return rollout


def test_a_candidate_goes_through_shadow_and_steps_to_promotion() -> None:
    rollout = after("start_shadow", ("advance", 0), ("advance", 1), "promote")
    assert (rollout.state, rollout.step, rollout.revision) == ("promoted", 1, 5)


def test_a_step_can_t_be_skipped_nor_repeated() -> None:
    for step in (0, 2):
        with pytest.raises(UsageError, match="step 1"):
            apply(after("start_shadow", ("advance", 0)), Event(kind="advance", at=LATER, step=step))


def test_a_pause_keeps_where_it_stood() -> None:
    before = after("start_shadow", ("advance", 0))
    paused = apply(before, Event(kind="pause", at=LATER + timedelta(days=3)))
    assert (paused.state, paused.stage, paused.step) == ("paused", "canary", 0)
    resumed = apply(paused, Event(kind="resume", at=LATER + timedelta(days=4)))
    assert (resumed.state, resumed.step, resumed.entered_at) == ("canary", 0, before.entered_at)


@pytest.mark.parametrize("kind", ["abort", "rollback"])
def test_it_can_be_ended_from_wherever_it_stands(kind: Kind) -> None:
    for before in (PENDING, after("start_shadow"), after("start_ab"), after("start_shadow", "pause")):
        ended = apply(before, Event(kind=kind, at=LATER))
        assert (ended.state, ended.stage) == ("rolled_back", "rolled_back")


def test_a_person_can_promote_from_wherever_it_stands() -> None:
    assert apply(after("start_shadow", "pause"), Event(kind="promote", at=LATER, by="ada")).state == "promoted"


def test_only_what_waits_gives_way_to_a_newer_one() -> None:
    assert after("supersede").state == "superseded"
    with pytest.raises(UsageError, match="is shadow"):
        after("start_shadow", "supersede")


def test_a_decision_on_an_older_revision_is_refused() -> None:
    event = Event(kind="advance", at=LATER, step=0, revision=PENDING.revision)
    with pytest.raises(Outdated, match="revision 2"):
        apply(after("start_shadow"), event)


@given(st.lists(st.sampled_from(KINDS), max_size=12), st.integers(0, 3))
def test_whatever_happens_an_ended_rollout_stays_ended(kinds: list[Kind], step: int) -> None:
    rollout = PENDING
    for kind in kinds:
        before = rollout
        try:
            rollout = apply(rollout, Event(kind=kind, at=LATER, step=step))
        except UsageError:
            continue
        assert before.state not in ENDED
        assert rollout.revision == before.revision + 1
        assert (rollout.paused_in is not None) == (rollout.state == "paused")


@pytest.mark.parametrize("rollout", [PENDING, after("start_shadow", ("advance", 0), "pause")])
def test_it_is_read_back_as_it_was_written(rollout: Rollout) -> None:
    document: dict[str, Any] = json.loads(json.dumps(rollout.to_json()))
    assert Rollout.from_json(document) == rollout
