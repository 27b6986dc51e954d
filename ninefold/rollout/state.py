"""Where a rollout stands, and what happens to it: events on a frozen state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from ninefold.clock import format_instant, parse_instant
from ninefold.errors import Outdated, UsageError

State = Literal["pending", "shadow", "canary", "ab", "paused", "promoted", "rolled_back", "superseded"]
Kind = Literal["start_shadow", "start_ab", "advance", "promote", "rollback", "pause", "resume", "abort", "supersede"]

ENDED: frozenset[State] = frozenset({"promoted", "rolled_back", "superseded"})
WATCHED: frozenset[State] = frozenset({"shadow", "canary", "ab"})

_OPEN: frozenset[State] = WATCHED | {"pending", "paused"}
_FROM: Mapping[Kind, frozenset[State]] = {
    "start_shadow": frozenset({"pending"}),
    "start_ab": frozenset({"pending"}),
    "advance": frozenset({"shadow", "canary"}),
    "promote": _OPEN,
    "rollback": _OPEN,
    "pause": WATCHED,
    "resume": frozenset({"paused"}),
    "abort": _OPEN,
    # One that serves or shadows has evidence that a newer one lacks; only a queued one gives way.
    "supersede": frozenset({"pending"}),
}
_END: Mapping[Kind, State] = {
    "promote": "promoted",
    "rollback": "rolled_back",
    "abort": "rolled_back",
    "supersede": "superseded",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One candidate on its way.

    Args:
        rollout_id: Its id.
        use_case: Name of the use case.
        incumbent: Version that serves.
        candidate: Version that wants to.
        salt: Draws its cohorts.
        opened_at: When it was opened.
        entered_at: When its present state or step began; a pause does not count as one.
        state: Where it stands.
        step: Place among the policy's steps, from 0; before ``canary``, the step that is to come.
        revision: Grows with every event.
        paused_in: The state that a pause interrupted.
    """

    rollout_id: str
    use_case: str
    incumbent: int
    candidate: int
    salt: str
    opened_at: datetime
    entered_at: datetime
    state: State = "pending"
    step: int = 0
    revision: int = 1
    paused_in: State | None = None

    @property
    def stage(self) -> State:
        """The state, or the one that a pause interrupted: whether the candidate serves goes by it."""
        return self.paused_in if self.state == "paused" and self.paused_in else self.state

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "opened_at": format_instant(self.opened_at),
            "entered_at": format_instant(self.entered_at),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Rollout:
        """Reads what ``to_json`` wrote."""
        times = {name: parse_instant(document[name], field=name) for name in ("opened_at", "entered_at")}
        return cls(**{**document, **times})


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a decision or a person does to a rollout.

    Args:
        kind: What.
        at: When.
        revision: The rollout's revision that it was decided on; a rollout that has moved on refuses it. None: any.
        step: For ``advance``: the step that begins.
        by: Who.
        words: Why.
    """

    kind: Kind
    at: datetime
    revision: int | None = None
    step: int | None = None
    by: str = "controller"
    words: str = ""


def apply(rollout: Rollout, event: Event) -> Rollout:
    """The rollout after an event.

    Raises:
        UsageError: The event can't happen in its state.
        Outdated: It was decided on another revision.
    """
    name = f"Rollout {rollout.rollout_id} of {rollout.use_case}"
    if rollout.state not in _FROM[event.kind]:
        states = ", ".join(sorted(_FROM[event.kind]))
        raise UsageError(f"{name} is {rollout.state}: {event.kind} is for {states}.")
    if event.revision is not None and event.revision != rollout.revision:
        raise Outdated(
            f"{name} is at revision {rollout.revision}; {event.kind} was decided on {event.revision}.",
            remedy="Read it again and decide anew.",
        )
    moved = replace(rollout, revision=rollout.revision + 1)
    match event.kind:
        case "pause":
            return replace(moved, state="paused", paused_in=rollout.state)
        case "resume":
            return replace(moved, state=rollout.stage, paused_in=None)
        case "advance":
            following = rollout.step + 1 if rollout.state == "canary" else 0
            if event.step != following:
                raise UsageError(f"{name} goes on with step {following}, not {event.step}.")
            return replace(moved, state="canary", step=following, entered_at=event.at)
        case "start_ab":
            return replace(moved, state="ab", entered_at=event.at)
        case "start_shadow":
            return replace(moved, state="shadow", entered_at=event.at)
    return replace(moved, state=_END[event.kind], entered_at=event.at, paused_in=None)
