"""Following a use case's events while they are written, so that none slips past and none comes too late.

Writers of events take turns (``writing.py``), and whoever closes an instant takes a turn as well. So when it closes
one it has seen every event that is committed, none is on its way, and each one that follows is lifted past it, in the
writer's own transaction. No two clocks have to agree for that.

A notice that events came is a hint, sent by PostgreSQL with the commit. Who misses it looks a moment later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from ninefold.records import Event
from ninefold.store.database import Database
from ninefold.store.leases import Lease, require_lease
from ninefold.store.rows import EVENTS, from_micros, to_micros
from ninefold.store.tables import closings, events
from ninefold.store.writing import EVENTS_CHANNEL, EVENTS_LOCK

log = structlog.get_logger()

LOOK_SECONDS = 0.05
"""How often somebody who waits for events looks, where no notice comes (SQLite)."""

_LISTEN = f"LISTEN {EVENTS_CHANNEL}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """What one turn of following brought.

    Args:
        events: The next events after the cursor, in the order in which they were committed.
        cursor: Where to go on from.
        until: The instant up to which all events are known now; None while there are more events to take first.
    """

    events: Sequence[Event]
    cursor: int
    until: datetime | None


class Tailing(Database):
    """Closing instants behind events, and asking how far they are closed."""

    def last_cursor(self, use_case: str) -> int:
        """The cursor of the newest event of a use case; 0 where there is none."""
        query = sa.select(sa.func.max(events.c.cursor)).where(events.c.use_case == use_case)
        with self.reading() as connection:
            return connection.execute(query).scalar() or 0

    def closed_until(self, use_case: str) -> datetime | None:
        """The instant up to which a use case's events are closed; None where nobody closes any."""
        with self.reading() as connection:
            closed = closed_micros(connection, [use_case])
        return from_micros(closed[use_case]) if use_case in closed else None

    def close_events(
        self, use_case: str, until: datetime, *, after_cursor: int, lease: Lease, limit: int = 1_000
    ) -> Closing:
        """The events after a cursor; and, when these are all, closes an instant behind them.

        What is closed stays so: an earlier instant than the last one closes nothing more.

        Args:
            use_case: Name of the use case.
            until: What to close up to.
            after_cursor: What the last call returned.
            lease: Under which one the caller does so.
            limit: At most so many events; only where there are fewer is anything closed.

        Raises:
            Outdated: The lease is over.
            StoreError: The database refuses or is out of reach.
        """
        query = (
            sa.select(events)
            .where(events.c.use_case == use_case, events.c.cursor > after_cursor)
            .order_by(events.c.cursor)
            .limit(limit)
        )
        with self.writing(alone=EVENTS_LOCK) as connection:
            require_lease(connection, lease)
            rows = connection.execute(query).all()
            closed = None if len(rows) >= limit else _close(connection, use_case, until)
        return Closing(
            events=[EVENTS.from_row(row) for row in rows],
            cursor=rows[-1].cursor if rows else after_cursor,
            until=closed,
        )


def closed_micros(connection: Connection, use_cases: Sequence[str]) -> dict[str, int]:
    """Use case → microseconds up to which its events are closed, of those that have been closed at all."""
    query = sa.select(closings.c.use_case, closings.c.closed_until_us).where(closings.c.use_case.in_(use_cases))
    return {row.use_case: row.closed_until_us for row in connection.execute(query)}


def lifted_past_closed(connection: Connection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of events, those known at a closed instant lifted just past it; in the transaction that writes them."""
    closed = closed_micros(connection, list({row["use_case"] for row in rows}))
    if not closed:
        return rows
    lifted = []
    for row in rows:
        first = closed.get(row["use_case"], row["known_at_us"] - 1) + 1
        late = row["known_at_us"] < first
        lifted.append(
            row | {"known_at_us": first, "received_at_us": max(first, row["received_at_us"])} if late else row
        )
    return lifted


class EventNotices:
    """Waits until a use case's events may have grown. For one thread.

    Args:
        store: Where they are.
        use_case: Name of the use case.
    """

    def __init__(self, store: Tailing, use_case: str) -> None:
        self._store = store
        self._use_case = use_case
        self._listening: Any = None

    def wait(self, seconds: float, *, after_cursor: int, ending: threading.Event) -> None:
        """Returns when events may have come, after some seconds, or soon after ``ending`` is set."""
        try:
            if not self._store.is_postgresql:
                deadline = time.monotonic() + seconds
                while time.monotonic() < deadline and not ending.wait(LOOK_SECONDS):
                    if self._store.last_cursor(self._use_case) > after_cursor:
                        return
                return
            if self._listening is None:
                self._listening = self._listen()
                # Events may have come before anybody listened.
                return
            for notice in self._listening.notifies(timeout=seconds, stop_after=1):
                log.debug("events came", use_case=notice.payload)
        except Exception as error:
            # A hint that can't be had costs a moment; that the database is away is told by who reads from it.
            log.debug("no notices of events", error=str(error))
            self.close()
            ending.wait(seconds)

    def close(self) -> None:
        """Ends the connection that listens."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    def _listen(self) -> Any:
        pooled = self._store.engine.raw_connection()
        connection: Any = pooled.driver_connection
        # Out of the pool: it listens for as long as somebody waits.
        pooled.detach()
        try:
            connection.rollback()
            connection.autocommit = True
            connection.execute(_LISTEN)
        except BaseException:
            connection.close()
            raise
        return connection


def _close(connection: Connection, use_case: str, until: datetime) -> datetime:
    insert = (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(closings)
    micros = max(closed_micros(connection, [use_case]).get(use_case, to_micros(until)), to_micros(until))
    connection.execute(
        insert.values(use_case=use_case, closed_until_us=micros).on_conflict_do_update(
            index_elements=[closings.c.use_case], set_={"closed_until_us": micros}
        )
    )
    return from_micros(micros)
