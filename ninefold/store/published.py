"""Routes that are in force on a cluster: what its gateway carries, and every front end goes by.

One row a use case, the newest. Whoever steers the gateway writes it after the gateway has taken the routes, so a front
end that reads it asks for nothing that is not there. Revisions only grow: one who woke up late can't put an older
table back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ninefold.errors import DataError, Outdated
from ninefold.routes import RouteTable
from ninefold.store.database import Database
from ninefold.store.rows import from_micros, to_micros
from ninefold.store.tables import route_tables


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRoutes:
    """The newest routes of a use case.

    Args:
        use_case: Whose.
        revision: Theirs; 0 before the first.
        document: The table, as ``RouteTable.to_json`` wrote it; empty before the first.
        published_at: Since when they are in force.
        problem: Why what the store wants is not in force, in words; empty where it is.
    """

    use_case: str
    revision: int
    document: Mapping[str, Any]
    published_at: datetime
    problem: str = ""

    @property
    def table(self) -> RouteTable | None:
        """The table; None before the first.

        Raises:
            DataError: The document is damaged.
        """
        if not self.document:
            return None
        try:
            return RouteTable.from_json(self.document)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"The published routes of {self.use_case} are damaged: {error!r}.",
                remedy="Delete their row in the table route_tables; the rollout's controller writes it anew.",
            ) from error


class Published(Database):
    """The routes that front ends on a cluster go by."""

    def publish_routes(self, table: RouteTable) -> PublishedRoutes:
        """Makes these the routes in force; the very same again changes nothing.

        Raises:
            Outdated: Routes of this revision or a later one are in force already, and they are others.
        """
        document, now = table.to_json(), self.clock.now()
        row = {
            "use_case": table.use_case,
            "revision": table.revision,
            "document": document,
            "published_at_us": to_micros(now),
        }
        insert = (postgresql.insert if self.is_postgresql else sqlite.insert)(route_tables).values(**row, problem="")
        writing = insert.on_conflict_do_update(
            index_elements=[route_tables.c.use_case], set_=row, where=route_tables.c.revision < table.revision
        )
        with self.writing() as connection:
            written = connection.execute(writing.returning(route_tables.c.revision)).one_or_none()
        found = self.published_routes(table.use_case)
        if written is None and (found is None or found.document != document):
            at = "another" if found is None else f"revision {found.revision}"
            raise Outdated(
                f"Routes of {table.use_case} are at {at}: revision {table.revision} comes too late.",
                remedy="Look again and decide anew.",
            )
        return found or PublishedRoutes(
            use_case=table.use_case, revision=table.revision, document=document, published_at=now
        )

    def note_routes(self, use_case: str, problem: str) -> None:
        """Keeps in words why what the store wants is not in force; empty where it is."""
        row = {"use_case": use_case, "revision": 0, "document": {}, "published_at_us": to_micros(self.clock.now())}
        insert = (postgresql.insert if self.is_postgresql else sqlite.insert)(route_tables)
        noting = insert.values(**row, problem=problem).on_conflict_do_update(
            index_elements=[route_tables.c.use_case], set_={"problem": problem}
        )
        with self.writing() as connection:
            connection.execute(noting)

    def published_routes(self, use_case: str) -> PublishedRoutes | None:
        """The newest routes of a use case; None where nobody ever published any."""
        with self.reading() as connection:
            query = sa.select(route_tables).where(route_tables.c.use_case == use_case)
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return PublishedRoutes(
            use_case=row.use_case,
            revision=row.revision,
            document=row.document,
            published_at=from_micros(row.published_at_us),
            problem=row.problem,
        )
