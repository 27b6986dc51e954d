"""A rollout and its steps, as the store keeps them: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ninefold.store.rows import from_micros

RolloutState = Literal["pending", "shadow", "canary", "ab", "promoted", "rolled_back", "superseded", "paused"]
GOING_ON: tuple[RolloutState, ...] = ("shadow", "canary", "ab", "paused")
"""States in which a rollout goes on; of a use case, one is in them."""

ENDED: tuple[RolloutState, ...] = ("promoted", "rolled_back", "superseded")
"""States in which a rollout is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRollout:
    """A rollout as it stands.

    Args:
        rollout_id: Minted by who opens it.
        use_case: Name of the use case.
        incumbent: The version that answers.
        candidate: The version that may replace it.
        state: Where it stands.
        step: Place in the policy's list of shares, from 0.
        salt: What cohorts are drawn with, so that rollouts draw independently.
        revision: Counts the changes of state and step, from 1.
        policy: The policy that it was opened with, as JSON.
        opened_at: When it was opened.
        updated_at: When it last changed.
        ended_at: When it ended; None until then.
        reason: Why it stands there.
    """

    rollout_id: str
    use_case: str
    incumbent: int
    candidate: int
    state: RolloutState
    step: int
    salt: str
    revision: int
    policy: Mapping[str, Any] = field(default_factory=dict)
    opened_at: datetime
    updated_at: datetime
    ended_at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStep:
    """One entry of a rollout's history: a change, or a look that changed nothing.

    Args:
        rollout_id: The rollout.
        number: Counts the entries, from 1.
        at: When.
        actor: Who: the controller, or a person.
        action: What was decided (``advance``, ``hold``, ``roll_back``).
        reasons: Why, in words.
        numbers: What it rests on.
        from_state: The state before; None for the opening.
        to_state: The state after.
        revision: The rollout's revision after it.
    """

    rollout_id: str
    number: int
    at: datetime
    actor: str
    action: str
    reasons: tuple[str, ...]
    numbers: Mapping[str, Any]
    from_state: RolloutState | None
    to_state: RolloutState
    revision: int


def rollout_from(row: Any) -> StoredRollout:
    """A rollout out of its row."""
    return StoredRollout(
        rollout_id=row.rollout_id,
        use_case=row.use_case,
        incumbent=row.incumbent,
        candidate=row.candidate,
        state=row.state,
        step=row.step,
        salt=row.salt,
        revision=row.revision,
        policy=row.policy,
        opened_at=from_micros(row.opened_at_us),
        updated_at=from_micros(row.updated_at_us),
        ended_at=None if row.ended_at_us is None else from_micros(row.ended_at_us),
        reason=row.reason,
    )


def step_from(row: Any) -> RolloutStep:
    """A step out of its row."""
    return RolloutStep(
        rollout_id=row.rollout_id,
        number=row.number,
        at=from_micros(row.at_us),
        actor=row.actor,
        action=row.action,
        reasons=tuple(row.reasons),
        numbers=row.numbers,
        from_state=row.from_state,
        to_state=row.to_state,
        revision=row.revision,
    )
