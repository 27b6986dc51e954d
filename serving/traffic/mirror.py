"""A rollout as the cluster shows it: annotations of its routes, and Events. A mirror; the store is what counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ninefold.rollout.policy import RolloutPolicy
from ninefold.rollout.stored import rollout_of
from ninefold.routes import RouteTable
from ninefold.store import RolloutStep, Store, StoredRollout

PREFIX = "ninefold.dev/"
REVISION = f"{PREFIX}revision"
"""Annotation with the route table's revision, which only grows."""

_LONGEST_REASONS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Where the newest rollout stands, as recorded.

    Args:
        rollout: Its id; empty where there never was one.
        state: Where it stands.
        candidate: The version that it tries; None without one.
        share: Share of its audience that is to get the candidate's answer, 0 to 1.
        reasons: Why, as the newest entry of its history says.
    """

    rollout: str = ""
    state: str = "none"
    candidate: int | None = None
    share: float = 0.0
    reasons: tuple[str, ...] = ()

    @property
    def share_words(self) -> str:
        """The share in percent, as people are shown it everywhere."""
        return f"{self.share:.2%}"

    @property
    def reason_words(self) -> str:
        """The reasons as one text."""
        words = " ".join(self.reasons)
        return words if len(words) <= _LONGEST_REASONS else words[: _LONGEST_REASONS - 1] + "…"

    @property
    def words(self) -> str:
        """All of it in a sentence."""
        if not self.rollout:
            return "No rollout was ever open."
        named = f"Rollout {self.rollout[:8]} of version {self.candidate} is {self.state}, {self.share_words}"
        return f"{named}: {self.reason_words}" if self.reasons else f"{named}."

    def annotations(self, table: RouteTable) -> dict[str, str]:
        """What the routes of a table carry."""
        return {
            f"{PREFIX}rollout": self.rollout or "none",
            f"{PREFIX}state": self.state,
            REVISION: str(table.revision),
            f"{PREFIX}share": self.share_words,
            f"{PREFIX}reasons": self.reason_words,
        }


def mirror_of(kept: StoredRollout | None, steps: Sequence[RolloutStep]) -> Mirror:
    """A rollout's mirror.

    Args:
        kept: The rollout; None where there never was one.
        steps: Its whole history, oldest first.
    """
    if kept is None:
        return Mirror()
    rollout = rollout_of(kept, [step for step in steps if step.revision <= kept.revision])
    return Mirror(
        rollout=kept.rollout_id,
        state=kept.state,
        candidate=kept.candidate,
        share=RolloutPolicy.from_json(kept.policy).share(rollout.stage, rollout.step),
        reasons=steps[-1].reasons if steps else (),
    )


def read_mirror(store: Store, use_case: str) -> Mirror:
    """The mirror of the open rollout, else of the last one.

    Raises:
        StoreError: The store is out of reach.
        DataError: The rollout's policy is damaged.
    """
    kept = store.rollout(use_case) or next(iter(store.rollouts(use_case, limit=1)), None)
    return mirror_of(kept, store.steps(kept.rollout_id) if kept is not None else [])
