"""A rollout as the store keeps it, read back into the rules' own terms: its state, and where its traffic goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from ninefold.cohorts import CohortRules
from ninefold.rollout.policy import RolloutPolicy
from ninefold.rollout.state import ENDED, Rollout, State

_WEIGHTS = 10_000
"""Direct clients are split to a hundredth of a percent."""


class KeptRollout(Protocol):
    """What the store keeps of a rollout (``ninefold.store.StoredRollout``)."""

    @property
    def rollout_id(self) -> str: ...  # noqa: D102
    @property
    def use_case(self) -> str: ...  # noqa: D102
    @property
    def incumbent(self) -> int: ...  # noqa: D102
    @property
    def candidate(self) -> int: ...  # noqa: D102
    @property
    def state(self) -> State: ...  # noqa: D102
    @property
    def step(self) -> int: ...  # noqa: D102
    @property
    def salt(self) -> str: ...  # noqa: D102
    @property
    def revision(self) -> int: ...  # noqa: D102
    @property
    def policy(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def opened_at(self) -> datetime: ...  # noqa: D102


class KeptStep(Protocol):
    """What the store keeps of one entry of its history (``ninefold.store.RolloutStep``)."""

    @property
    def at(self) -> datetime: ...  # noqa: D102
    @property
    def from_state(self) -> State | None: ...  # noqa: D102
    @property
    def to_state(self) -> State: ...  # noqa: D102
    @property
    def revision(self) -> int: ...  # noqa: D102


def rollout_of(kept: KeptRollout, steps: Sequence[KeptStep]) -> Rollout:
    """The rollout in the terms of ``ninefold.rollout.state``.

    Args:
        kept: The rollout.
        steps: Its whole history, oldest first.
    """
    entered, paused_in, revision = kept.opened_at, None, 0
    for step in steps:
        if step.revision == revision:
            continue
        revision = step.revision
        if step.to_state == "paused":
            paused_in = step.from_state
        elif not (step.from_state == "paused" and step.to_state == paused_in):
            entered = step.at
    return Rollout(
        rollout_id=kept.rollout_id,
        use_case=kept.use_case,
        incumbent=kept.incumbent,
        candidate=kept.candidate,
        salt=kept.salt,
        opened_at=kept.opened_at,
        entered_at=entered,
        state=kept.state,
        step=kept.step,
        revision=kept.revision,
        paused_in=paused_in if kept.state == "paused" else None,
    )


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a rollout stood at one of its revisions.

    Args:
        state: The state, or the one that a pause interrupted.
        step: Place among the policy's steps.
    """

    state: State
    step: int


def stages_of(steps: Sequence[KeptStep]) -> dict[int, Stage]:
    """Revision → where the rollout stood then: what a prediction that names the revision was answered under.

    Args:
        steps: The whole history, oldest first.
    """
    found: dict[int, Stage] = {}
    stage = Stage("pending", 0)
    for step in steps:
        if step.revision in found:
            continue
        if step.to_state == "canary" and step.from_state != "paused":
            stage = Stage("canary", stage.step + 1 if step.from_state == "canary" else 0)
        elif step.to_state not in ("paused", stage.state):
            stage = Stage(step.to_state, stage.step)
        found[step.revision] = stage
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """What a rollout asks of the routes, in the terms of ``ninefold.routes.RouteTable``.

    Args:
        candidate: The version that is tried; None where none is.
        rollout: Id of its rollout.
        rollout_revision: Its revision.
        shadow: Whether the candidate is asked beside the live version.
        cohorts: Who is in its cohort, as JSON; empty for nobody.
        weights: Version → weight among direct clients; empty for the live version alone.
    """

    candidate: int | None = None
    rollout: str | None = None
    rollout_revision: int | None = None
    shadow: bool = False
    cohorts: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[int, int] = field(default_factory=dict)


def routing(rollout: Rollout | None, policy: RolloutPolicy | None, live: int | None) -> Routing:
    """Where traffic goes by a rollout.

    A pending candidate is named and not yet asked, so that the front end can say whether it could be. In shadow and
    canary it is asked beside the live version; a pause leaves all as it is. A rollout whose incumbent is not the live
    version moves nothing.

    Args:
        rollout: The rollout that goes on or waits; None while none does.
        policy: The policy that it was opened with.
        live: The version that answers.
    """
    if rollout is None or policy is None or rollout.state in ENDED or rollout.incumbent != live:
        return Routing()
    stage = rollout.stage
    share = policy.share(stage, rollout.step)
    drawn = round(share * _WEIGHTS)
    return Routing(
        candidate=rollout.candidate,
        rollout=rollout.rollout_id,
        rollout_revision=rollout.revision,
        shadow=stage in ("shadow", "canary"),
        cohorts=CohortRules(salt=rollout.salt, share=share, audience=policy.audience).to_json() if share else {},
        weights={rollout.incumbent: _WEIGHTS - drawn, rollout.candidate: drawn} if drawn else {},
    )
