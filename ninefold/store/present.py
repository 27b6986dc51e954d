"""The clock that records go by: the wall's, or in event time the newest record's own."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from ninefold.clock import Clock, EventClock, WallClock
from ninefold.store.pruning import newest_instant
from ninefold.store.store import Store


def records_clock(
    store: Store, mode: Literal["wall", "event"], *, empty: datetime | None = None, wall: Clock | None = None
) -> Clock:
    """The clock that requests, versions and rollouts go by. In a replay that is when the requests are.

    Args:
        store: The production database.
        mode: ``Settings.clock``.
        empty: Where event time begins before the first record; None for the wall clock's instant.
        wall: The wall clock; None for the machine's.
    """
    begins = (newest_instant(store) or empty) if mode == "event" else None
    return EventClock(begins) if begins is not None else wall or WallClock()
