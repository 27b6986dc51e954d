"""Feedback decides nothing: whatever users say, and however often, a rollout takes the very steps it would take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rollout_house import POLICY, Production, controller

from ninefold.records import Prediction, Truth, derived_id
from ninefold.rollout.decide import RolloutDecision

ATTACKERS = 5


@dataclass
class Attack:
    """Users who say, of every prediction, again and again, that one version was right to the minute.

    Args:
        production: Whose store they write to, as the collector would.
        favoured: The version.
    """

    production: Production
    favoured: int

    def strike(self) -> None:
        """Says it of all that was predicted until now, in the future as far as the collector admits it."""
        store, now = self.production.store, self.production.clock.now()
        favoured: dict[str, Prediction] = {p.key: p for p in store.predictions("parcels", version=self.favoured)}
        store.write_truths(
            Truth(
                truth_id=derived_id("said", prediction.prediction_id, str(user), now.isoformat()), use_case="parcels",
                key=key, value=prediction.value, known_at=now + timedelta(minutes=5 - 7 * user), received_at=now,
                source="user", annotator=f"user-{user}",
            )
            for key, prediction in favoured.items() for user in range(ATTACKERS)
        )  # fmt: skip


def decisions(production: Production, days: int, strike: Callable[[], None]) -> list[RolloutDecision | None]:
    """What is decided day by day, holds included."""
    leading, found = controller(production), []
    for _ in range(days):
        production.day()
        strike()
        found.append(leading.look())
    return found


@pytest.mark.parametrize(
    ("favoured", "error", "truths_kept"),
    [
        pytest.param(2, 2.6, 1.0, id="a worse candidate is praised"),
        pytest.param(1, 1.6, 1.0, id="a better candidate is slandered"),
        pytest.param(2, 1.6, 0.0, id="nobody but users says anything"),
    ],
)
def test_an_attacker_with_many_feedbacks_changes_no_decision(
    tmp_path: Path, furnish: Any, favoured: int, error: float, truths_kept: float
) -> None:
    found: list[list[RolloutDecision | None]] = []
    for attacked in (False, True):
        folder = tmp_path / str(attacked)
        folder.mkdir()
        store, production = furnish(f"sqlite:///{folder / 'store.db'}", folder)
        with store:
            production.errors[2], production.truths_kept = error, truths_kept
            attack = Attack(production, favoured)
            found.append(decisions(production, 12, attack.strike if attacked else lambda: None))
            if attacked:
                assert store.counts()["truths"] > 3_000
    assert [_told(decision) for decision in found[0]] == [_told(decision) for decision in found[1]]
    acted = {decision.action for decision in found[1] if decision is not None}
    assert ("promote" in acted) is False or error < 2.0
    if truths_kept == 0.0:
        assert acted <= {"start_shadow", "hold"}


def _told(decision: RolloutDecision | None) -> Any:
    if decision is None:
        return None
    return (
        decision.action,
        decision.share,
        dict(decision.numbers),
        [(r.name, r.finding, r.words) for r in decision.reasons],
    )


def test_feedback_alone_ends_no_rollout_by_its_deadlines(production: Production) -> None:
    production.truths_kept = 0.0
    policy = replace(POLICY, maximum_blocks=6)
    production.clock.advance(production.clock.now() + timedelta(seconds=1))
    production.store.open_rollout(
        "parcels", incumbent=1, candidate=3, policy=policy.to_json(), actor="release", salt="r3"
    )
    strike = Attack(production, 3).strike
    acted = {d.action for d in decisions(production, 14, strike) if d is not None}
    assert "promote" not in acted
    assert production.live == 1
