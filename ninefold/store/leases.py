"""Leases: of several processes that could act, one does, and one that lost its turn is known by its token.

A lease alone keeps no two from acting: a holder can sleep past its end, or its clock can jump. So each holder has a
token that is greater than all before it, and whatever is written under a lease is refused once a greater one is out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from ninefold.errors import Outdated
from ninefold.store.database import Database
from ninefold.store.rows import from_micros, to_micros
from ninefold.store.tables import leases

_FREE = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to act alone, for a while.

    Args:
        name: What it is for (``rollout/arrivals``).
        holder: Who has it.
        until: When it ends, unless it is renewed.
        token: Greater than that of every lease of this name before it.
    """

    name: str
    holder: str
    until: datetime
    token: int


class Leases(Database):
    """Taking, keeping and giving back leases. All is decided in the database, by the store's clock."""

    def take_lease(self, name: str, holder: str, lasting: timedelta) -> Lease | None:
        """Takes a lease that nobody has, or whose time is over; None while somebody has it, whoever asks.

        Args:
            name: What it is for.
            holder: Who takes it, for people to read.
            lasting: How long it holds.
        """
        now = self.clock.now()
        until = now + lasting
        insert = (postgresql.insert if self.is_postgresql else sqlite.insert)(leases)
        taking = insert.values(name=name, holder=holder, until_us=to_micros(until), token=1).on_conflict_do_update(
            index_elements=[leases.c.name],
            set_={"holder": holder, "until_us": to_micros(until), "token": leases.c.token + 1},
            where=leases.c.until_us <= to_micros(now),
        )
        with self.writing() as connection:
            row = connection.execute(taking.returning(leases.c.token)).one_or_none()
        return None if row is None else Lease(name=name, holder=holder, until=until, token=row.token)

    def renew_lease(self, lease: Lease, lasting: timedelta) -> Lease | None:
        """The lease with a later end; None when it was given back, or somebody else has it."""
        until = self.clock.now() + lasting
        mine = (leases.c.name == lease.name, leases.c.token == lease.token, leases.c.until_us != _FREE)
        with self.writing() as connection:
            kept = connection.execute(leases.update().where(*mine).values(until_us=to_micros(until))).rowcount == 1
        return Lease(name=lease.name, holder=lease.holder, until=until, token=lease.token) if kept else None

    def release_lease(self, lease: Lease) -> bool:
        """Gives a lease back; whether it was still this holder's."""
        mine = (leases.c.name == lease.name, leases.c.token == lease.token, leases.c.until_us != _FREE)
        with self.writing() as connection:
            return connection.execute(leases.update().where(*mine).values(until_us=_FREE)).rowcount == 1

    def drop_lease(self, lease: Lease) -> bool:
        """Gives a lease back that nobody will ever take again, and forgets it; whether it was still this holder's.

        Of a name that somebody may take again a lease is released: only what is kept knows older holders.
        """
        mine = (leases.c.name == lease.name, leases.c.token == lease.token)
        with self.writing() as connection:
            return connection.execute(leases.delete().where(*mine)).rowcount == 1

    def holds_lease(self, lease: Lease) -> bool:
        """Whether the holder may act now: its time is not over, and nobody took it since."""
        row = self.lease(lease.name)
        return row is not None and row.token == lease.token and row.until > self.clock.now()

    def lease(self, name: str) -> Lease | None:
        """The newest lease of a name, over or not; None when there was none."""
        with self.reading() as connection:
            row = connection.execute(sa.select(leases).where(leases.c.name == name)).one_or_none()
        if row is None:
            return None
        return Lease(name=row.name, holder=row.holder, until=from_micros(row.until_us), token=row.token)


def require_lease(connection: Connection, lease: Lease) -> None:
    """Refuses a write under a lease that was given back, or that somebody else has now.

    A lease whose time is over, but which nobody took, still counts: nobody else has acted.

    Raises:
        Outdated: It was given back or taken.
    """
    query = sa.select(leases).where(leases.c.name == lease.name).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None or row.token != lease.token or row.until_us == _FREE:
        now = "nobody" if row is None or row.until_us == _FREE else row.holder
        raise Outdated(f"The lease {lease.name} of {lease.holder} is over: {now} has it.", remedy="Take it anew.")
