"""Which versions nobody needs a model server of any longer; and taking those servers away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from ninefold.cluster.api import ClusterApi
from ninefold.cluster.inference_service import API_VERSION, KIND, server_labels, server_name, version_of
from ninefold.records import ModelVersion
from ninefold.store.rollout_rows import ENDED, StoredRollout
from ninefold.store.versions import BASELINE, VersionChange

GRACE = timedelta(minutes=2)
"""How long a server outlives its need: routes have to be taken up everywhere, and answers under way to be given."""


def to_retire(
    versions: Sequence[ModelVersion],
    rollouts: Sequence[StoredRollout],
    changes: Sequence[VersionChange],
    *,
    now: datetime,
    warm: int = 1,
    grace: timedelta = GRACE,
) -> list[int]:
    """The versions whose servers can go, lowest first.

    Kept are the live version, the baseline, both sides of an open rollout, a version that has had no rollout yet (it is
    being released, or was left to be looked at), the last versions that were live before, and for a grace what has just
    ended.

    Args:
        versions: All of a use case.
        rollouts: All of it, in any order.
        changes: Of its versions' states, oldest first.
        now: The instant, by the clock that rollouts go by.
        warm: How many that were live before stay, to be gone back to at once.
        grace: How long a server outlives its need.
    """
    state = {version.version: version.state for version in versions}
    needed = {BASELINE} | {number for number, found in state.items() if found == "live"}
    tried: set[int] = set()
    for rollout in rollouts:
        sides = {rollout.incumbent, rollout.candidate}
        tried.add(rollout.candidate)
        if rollout.state not in ENDED or (rollout.ended_at is not None and rollout.ended_at > now - grace):
            needed |= sides
    needed |= {change.version for change in changes if change.at > now - grace}
    left = [change.version for change in reversed(changes) if change.from_state == "live"]
    before = [number for number in dict.fromkeys(left) if state.get(number) == "retired"]
    needed |= set(before[:warm])
    return sorted(
        number for number, found in state.items() if number not in needed and (found == "retired" or number in tried)
    )


def served_versions(api: ClusterApi, use_case: str) -> dict[int, dict[str, object]]:
    """Version → its InferenceService, of those that are there.

    Raises:
        ClusterError: The cluster has no KServe, or it is forbidden.
        Unavailable: The API server does not answer.
    """
    found = ((version_of(service), service) for service in api.list(API_VERSION, KIND, server_labels(use_case)))
    return {number: service for number, service in found if number is not None}


def retire(api: ClusterApi, use_case: str, numbers: Iterable[int]) -> list[int]:
    """Deletes the InferenceServices of versions; returns those that were there.

    Raises:
        ClusterError: It is forbidden.
        Unavailable: The API server does not answer.
    """
    return [number for number in numbers if api.delete(API_VERSION, KIND, server_name(use_case, number))]
