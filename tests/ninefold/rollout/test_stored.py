from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ninefold.cohorts import CohortRules
from ninefold.rollout.policy import RolloutPolicy
from ninefold.rollout.state import Event, Rollout, apply
from ninefold.rollout.stored import Routing, Stage, rollout_of, routing, stages_of
from ninefold.store.rollout_rows import RolloutStep, StoredRollout

AT = datetime(2013, 7, 1, tzinfo=UTC)
POLICY = RolloutPolicy()


@dataclass
class History:
    """Applies events to a rollout, and keeps what the store would keep of each."""

    rollout: Rollout
    steps: list[RolloutStep]

    @classmethod
    def begin(cls) -> History:
        rollout = Rollout(
            rollout_id="r1", use_case="arrivals", incumbent=1, candidate=2, salt="s", opened_at=AT, entered_at=AT
        )
        history = cls(rollout, [])
        history.keep("open", None)
        return history

    def keep(self, action: str, before: Any, days: int = 0) -> None:
        self.steps.append(
            RolloutStep(
                rollout_id="r1", number=len(self.steps) + 1, at=AT + timedelta(days=days), actor="a", action=action,
                reasons=(), numbers={}, from_state=before, to_state=self.rollout.state, revision=self.rollout.revision,
            )
        )  # fmt: skip

    def happen(self, kind: Any, days: int, step: int | None = None) -> None:
        before = self.rollout.state
        self.rollout = apply(self.rollout, Event(kind=kind, at=AT + timedelta(days=days), step=step))
        self.keep(kind, before, days)

    def read_back(self) -> Rollout:
        r = self.rollout
        kept = StoredRollout(
            rollout_id=r.rollout_id, use_case=r.use_case, incumbent=r.incumbent, candidate=r.candidate, state=r.state,
            step=r.step, salt=r.salt, revision=r.revision, policy=POLICY.to_json(), opened_at=AT, updated_at=AT,
        )  # fmt: skip
        return rollout_of(kept, self.steps)


def test_what_the_store_keeps_reads_back_as_the_rules_left_it() -> None:
    history = History.begin()
    assert history.read_back() == history.rollout
    for kind, days, step in (
        ("start_shadow", 1, None), ("pause", 3, None), ("resume", 4, None), ("advance", 5, 0), ("advance", 7, 1),
        ("pause", 8, None),
    ):  # fmt: skip
        history.happen(kind, days, step)
        history.keep("hold", history.rollout.state, days + 1)
        assert history.read_back() == history.rollout
    assert history.rollout.entered_at == AT + timedelta(days=7)
    history.happen("abort", 9)
    assert history.read_back() == history.rollout


def test_a_pending_candidate_is_named_and_not_asked() -> None:
    found = routing(History.begin().rollout, POLICY, 1)
    assert found == Routing(candidate=2, rollout="r1", rollout_revision=1)


@pytest.mark.parametrize(("state", "share"), [("shadow", 0.0), ("canary", 0.2), ("ab", 0.5)])
@pytest.mark.parametrize("paused", [False, True])
def test_shares_follow_the_stage_also_while_it_is_paused(state: Any, share: float, paused: bool) -> None:
    rollout = replace(History.begin().rollout, state=state, step=1, revision=4)
    if paused:
        rollout = replace(rollout, state="paused", paused_in=state)
    found = routing(rollout, POLICY, 1)
    assert (found.candidate, found.shadow) == (2, state != "ab")
    if share:
        assert CohortRules.from_json(found.cohorts).share == share
        assert found.weights == {1: 10_000 - share * 10_000, 2: share * 10_000}
    else:
        assert found.cohorts == {}
        assert found.weights == {}


@pytest.mark.parametrize("state", ["promoted", "rolled_back", "superseded"])
def test_a_rollout_that_is_over_routes_nothing(state: Any) -> None:
    assert routing(replace(History.begin().rollout, state=state), POLICY, 1) == Routing()


def test_a_rollout_whose_incumbent_is_not_live_routes_nothing() -> None:
    rollout = replace(History.begin().rollout, state="canary", step=1)
    assert routing(rollout, POLICY, 3) == Routing()
    assert routing(None, None, 3) == Routing()


def test_a_revision_says_where_the_rollout_stood_then() -> None:
    history = History.begin()
    for kind, days, step in (
        ("start_shadow", 1, None), ("pause", 2, None), ("resume", 3, None), ("advance", 4, 0), ("advance", 5, 1),
        ("pause", 6, None), ("resume", 7, None), ("advance", 8, 2), ("promote", 9, None),
    ):  # fmt: skip
        history.happen(kind, days, step)
        # A look that changes nothing leaves the revision, and what it says.
        history.keep("hold", history.rollout.state, days)
    assert stages_of(history.steps) == {
        1: Stage("pending", 0), 2: Stage("shadow", 0), 3: Stage("shadow", 0), 4: Stage("shadow", 0),
        5: Stage("canary", 0), 6: Stage("canary", 1), 7: Stage("canary", 1), 8: Stage("canary", 1),
        9: Stage("canary", 2), 10: Stage("promoted", 2),
    }  # fmt: skip
