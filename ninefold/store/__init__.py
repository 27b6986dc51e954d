"""The production database and the front end's journal."""

from ninefold.store.leases import Lease
from ninefold.store.published import PublishedRoutes
from ninefold.store.rollout_rows import RolloutState, RolloutStep, StoredRollout
from ninefold.store.rows import Alert, Conflict, Joined, Measurement, Run
from ninefold.store.store import Store, open_store
from ninefold.store.versions import VersionChange
from ninefold.store.writing import Written

__all__ = [
    "Alert",
    "Conflict",
    "Joined",
    "Lease",
    "Measurement",
    "PublishedRoutes",
    "RolloutState",
    "RolloutStep",
    "Run",
    "Store",
    "StoredRollout",
    "VersionChange",
    "Written",
    "open_store",
]
