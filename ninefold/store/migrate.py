"""Brings a database's schema to the newest revision, once, however many processes open it at the same time."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from ninefold.errors import StoreError
from ninefold.store.database import Database
from ninefold.store.tables import SCHEMA

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x9F01D_0001
"""Number of PostgreSQL's advisory lock for migrations."""


def revision(database: Database) -> str | None:
    """The schema that a database has; None for an empty one.

    Raises:
        StoreError: The database is out of reach.
    """
    with database.reading() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        return found


def migrate(database: Database) -> None:
    """Brings the schema to ``SCHEMA``, in one transaction; the current one is left alone.

    Raises:
        StoreError: The schema is newer than this Ninefold, or the database refuses.
    """
    if _is_current(database, revision(database)):
        return
    # Alembic is slow to import, and nearly every process finds the schema current.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    # Who waited for the lock finds the work done: Alembic looks at the revision again.
    with database.writing(alone=_LOCK) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def require_current(database: Database) -> None:
    """Refuses a database whose schema is not ``SCHEMA``.

    Raises:
        StoreError: It is older or newer.
    """
    found = revision(database)
    if not _is_current(database, found):
        raise StoreError(
            f"The store {database.where} has schema {found or 'none'}; this Ninefold needs {SCHEMA}.",
            remedy="Run: ninefold store migrate",
        )


def _is_current(database: Database, found: str | None) -> bool:
    if found is not None and found > SCHEMA:
        raise StoreError(
            f"The store {database.where} has schema {found}; this Ninefold knows schemas up to {SCHEMA}.",
            remedy="Use the Ninefold that migrated it, or a newer one.",
        )
    return found == SCHEMA
