"""The production database as one object."""

from __future__ import annotations

import sqlalchemy as sa

from ninefold.clock import Clock, WallClock
from ninefold.store.alerts import Alerts
from ninefold.store.database import make_engine
from ninefold.store.labels import Labels
from ninefold.store.leases import Leases
from ninefold.store.ledger import Ledger
from ninefold.store.migrate import migrate, require_current
from ninefold.store.published import Published
from ninefold.store.recorded import Records
from ninefold.store.rollouts import Rollouts
from ninefold.store.tables import metadata
from ninefold.store.tailing import Tailing
from ninefold.store.versions import Versions


class Store(Records, Versions, Ledger, Rollouts, Leases, Published, Alerts, Labels, Tailing):
    """Records, versions, runs, rollouts, leases, routes, alerts and more, in one database. Threads may share it."""

    def counts(self) -> dict[str, int]:
        """Table → number of its rows."""
        with self.reading() as connection:
            return {
                name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
                for name, table in metadata.tables.items()
            }


def open_store(
    url: str, *, clock: Clock | None = None, migrating: bool = True, busy_seconds: float = 5.0, durable: bool = False
) -> Store:
    """Opens the production database.

    Args:
        url: ``sqlite:////absolute/store.db`` (folder and file are made) or ``postgresql://user:password@host/database``.
        clock: Stamps what nobody else stamps; the wall clock by default.
        migrating: Brings an older schema to the newest one; else an older one is refused.
        busy_seconds: How long a locked SQLite database is waited for.
        durable: Whether what was written survives the death of the machine, and not of the process alone, in SQLite.

    Raises:
        ConfigurationError: The URL names no such database.
        StoreError: It is out of reach, locked or damaged, or its schema is newer than this Ninefold.
    """
    store = Store(make_engine(url, busy_seconds=busy_seconds, durable=durable), clock or WallClock())
    try:
        (migrate if migrating else require_current)(store)
    except BaseException:
        store.close()
        raise
    return store
