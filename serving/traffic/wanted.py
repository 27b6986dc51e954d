"""What the store wants served: its versions, and the rollout that is open, read so that no promotion falls between."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from ninefold.errors import DataError
from ninefold.store import Store
from serving.traffic.desired import Desired, desired_models
from serving.traffic.open_rollout import OpenRollout, read_open_rollout

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the store wants.

    Args:
        desired: What should be served.
        rollout: The open rollout; None where none is, or it can't be read.
        problem: Why the open rollout can't be served; empty where it can.
    """

    desired: Desired = field(default_factory=lambda: Desired(live=None, models=frozenset()))
    rollout: OpenRollout | None = None
    problem: str = ""


def read_wanted(store: Store, use_case: str, before: Wanted) -> Wanted:
    """Reads what the store wants.

    Args:
        store: The production database.
        use_case: Name of the use case.
        before: What the last look found.

    Raises:
        StoreError: It can't be read; what was wanted before stands.
    """
    problem = ""
    try:
        # The rollout before the versions: one that is promoted in between still finds its candidate wanted.
        rollout = read_open_rollout(store, use_case, before.rollout)
        desired = desired_models(store.versions(use_case), None if rollout is None else rollout.candidate)
        if rollout is not None and desired.candidate is None:
            # One that was rolled back in between is over.
            rollout = read_open_rollout(store, use_case, rollout)
        if rollout is not None and desired.candidate is None:
            problem = f"Version {rollout.candidate}, which the open rollout tries, is retired or not registered."
    except DataError as error:
        rollout, desired, problem = None, desired_models(store.versions(use_case)), str(error)
    if problem and problem != before.problem:
        log.warning("the open rollout can't be served", problem=problem)
    return Wanted(desired=desired, rollout=rollout, problem=problem)
