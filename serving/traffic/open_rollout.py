"""The rollout that the store has open, read into the rules' own terms; what can't be read is said, never guessed."""

from __future__ import annotations

from dataclasses import dataclass

from ninefold.errors import DataError, NinefoldError, StoreError
from ninefold.rollout.policy import RolloutPolicy
from ninefold.rollout.state import Rollout
from ninefold.rollout.stored import Routing, rollout_of, routing
from ninefold.store import Store, StoredRollout


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRollout:
    """The rollout that goes on, or else the one that waits.

    Args:
        kept: As the store keeps it.
        rollout: As its rules see it.
        policy: What it was opened with.
    """

    kept: StoredRollout
    rollout: Rollout
    policy: RolloutPolicy

    @property
    def candidate(self) -> int:
        """The version that it tries."""
        return self.rollout.candidate

    @property
    def share(self) -> float:
        """Share of the audience that gets the candidate's answer, as configured."""
        return self.policy.share(self.rollout.stage, self.rollout.step)

    def routing(self, live: int | None) -> Routing:
        """Where traffic goes by it while this version answers."""
        return routing(self.rollout, self.policy, live)


def read_open_rollout(store: Store, use_case: str, before: OpenRollout | None = None) -> OpenRollout | None:
    """The use case's open rollout; None where none is.

    Args:
        store: The production database.
        use_case: Name of the use case.
        before: What the last look found; its history is read again only when it has moved on.

    Raises:
        StoreError: The store is out of reach.
        DataError: The rollout, its history or its policy is damaged.
    """
    try:
        kept = store.rollout(use_case)
        if kept is None or (before is not None and before.kept == kept):
            return before if kept is not None else None
        # The history may have gone on since.
        steps = [step for step in store.steps(kept.rollout_id) if step.revision <= kept.revision]
        found = OpenRollout(
            kept=kept, rollout=rollout_of(kept, steps), policy=RolloutPolicy.from_json(kept.policy)
        )  # fmt: skip
        # What can't be routed by is found here, and not where the routes are made.
        found.routing(kept.incumbent)
    except StoreError:
        raise
    except (NinefoldError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise DataError(
            f"The open rollout of {use_case} can't be read: {error}.",
            remedy="The live version goes on alone. Repair its row in the table rollouts.",
        ) from error
    return found
