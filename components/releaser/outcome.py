"""What became of a candidate that passed its gate; and in words: what happens next, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ninefold.rollout.policy import RolloutPolicy
from ninefold.store import StoredRollout

Outcome = Literal["live", "opened", "known_live", "known_open", "known_ended", "known_retired"]

_ENDED = {"rolled_back": "rolled back", "superseded": "superseded by a newer one"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What became of a candidate.

    Args:
        version: Its version.
        outcome: ``live``: it answers from now on. ``opened``: its rollout is open. The others are of a package that
            was a version before, so nothing changed: it is live, its rollout is open or has ended, or it is retired.
        rollout: Its rollout; None where it has none.
        unmet: The live version, where its gate did not compare the candidate with it: it went live since.
        ahead: The rollout that goes on, and has to end first; None where none does.
        superseded: The candidate that waited, and gave way to this one; None where none did.
    """

    version: int
    outcome: Outcome
    rollout: StoredRollout | None = None
    unmet: int | None = None
    ahead: StoredRollout | None = None
    superseded: int | None = None

    def to_json(self) -> dict[str, Any] | None:
        """The rollout that is open, as a run's result holds it; None where none is."""
        if self.rollout is None or self.outcome not in ("opened", "known_open"):
            return None
        return {
            "id": self.rollout.rollout_id,
            "state": self.rollout.state,
            "candidate": self.rollout.candidate,
            "incumbent": self.rollout.incumbent,
            "waits_for": self.ahead.candidate if self.ahead is not None else None,
            "superseded": self.superseded,
        }


def words(released: Released, use_case: str) -> list[str]:
    """What happens next, in sentences.

    Args:
        released: What became of the candidate.
        use_case: Name or import path, as commands take it.
    """
    number, rollout = released.version, released.rollout
    shown = use_case.partition(":")[0] if ":" in use_case else use_case
    name = f"Version {number} of {shown}"
    match released.outcome:
        case "live":
            return [f"{name} is live."]
        case "known_live":
            return [f"This package is version {number} of {shown}, which is live already: nothing changes."]
        case "known_retired":
            return [
                f"This package is version {number} of {shown}, which was live once and is retired: nothing changes.",
                f"To make it live again: ninefold store set-live {use_case} {number}",
            ]
        case "known_ended" if rollout is not None:
            why = f": {rollout.reason}" if rollout.reason else "."
            return [
                f"This package is version {number} of {shown}, whose rollout is over, {_ENDED[rollout.state]}{why}",
                f"Nothing changes. To make it live all the same: ninefold store set-live {use_case} {number}",
            ]
        case "known_open" if rollout is not None:
            found = [f"{name} has its rollout already: it is {rollout.state}."]
        case _:
            found = _opened(released, name)
    return [*found, *_commands(released, use_case)]


def _opened(released: Released, name: str) -> list[str]:
    rollout, ahead = released.rollout, released.ahead
    if rollout is None:
        return []
    if ahead is not None:
        found = [
            f"{name} waits for its rollout: one goes on at a time, and that of version {ahead.candidate} is "
            f"{ahead.state}."
        ]
    elif (policy := RolloutPolicy.from_json(rollout.policy)).mode == "ab":
        found = [
            f"{name} opened a rollout: in an A/B test it answers {policy.ab_share:.0%} of the audience, version "
            f"{rollout.incumbent} the others."
        ]
    else:
        found = [
            f"{name} opened a rollout: it is asked beside version {rollout.incumbent}, and nobody gets its answers "
            "until they are shown to be better."
        ]
    if released.superseded is not None:
        found.append(f"Version {released.superseded}, which waited, gave way to it.")
    if released.unmet is not None:
        found.append(f"Its gate did not compare it with version {released.unmet}, which went live since.")
    return found


def _commands(released: Released, use_case: str) -> list[str]:
    see = f"See: ninefold rollout status {use_case}"
    if released.ahead is not None:
        return [see]
    return [f'{see}; at once: ninefold rollout promote {use_case} --reason "…"']
