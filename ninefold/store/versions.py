"""Versions of a use case's model: registered once by digest, one of them live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from ninefold.errors import NotFound, StoreError, UsageError
from ninefold.records import ModelVersion
from ninefold.store.database import Database
from ninefold.store.rows import from_micros, to_micros
from ninefold.store.tables import models

log = structlog.get_logger()

VERSIONS_LOCK = 0x9F01D_0003
"""Number of PostgreSQL's advisory lock under which versions are numbered."""

BASELINE = 0


class Versions(Database):
    """The versions of every use case's model. The digest that a package is verified against comes from here."""

    def register_version(
        self,
        use_case: str,
        digest: str,
        uri: str,
        metrics: Mapping[str, float] | None = None,
        lengths: Mapping[str, str] | None = None,
        version: int | None = None,
    ) -> ModelVersion:
        """Gives a package its version; one that has one keeps it.

        Args:
            use_case: Name of the use case.
            digest: The package's digest.
            uri: Where the package lies.
            metrics: Offline metrics, name → value.
            lengths: Window name → length that it needs online.
            version: 0 for the baseline, whose code changes without a new version: the newest package stands.
                None takes the next free number from 1.

        Raises:
            StoreError: The version is taken by another package: versions are immutable.
        """
        with self.writing(alone=VERSIONS_LOCK) as connection:
            known = _one(connection, models.c.use_case == use_case, models.c.digest == digest)
            if known is not None and version in (None, known.version):
                return known
            if known is not None:
                raise StoreError(
                    f"The package {digest[:12]} is version {known.version} of {use_case}; it can't be {version} too."
                )
            highest = sa.select(sa.func.max(models.c.version)).where(models.c.use_case == use_case)
            if version is None:
                version = (connection.execute(highest).scalar() or BASELINE) + 1
            row = {
                "digest": digest,
                "uri": uri,
                "metrics": dict(metrics or {}),
                "lengths": dict(lengths or {}),
                "created_at_us": to_micros(self.clock.now()),
            }
            same = (models.c.use_case == use_case, models.c.version == version)
            taken = _one(connection, *same)
            if taken is None:
                row |= {"use_case": use_case, "version": version, "state": "registered"}
                connection.execute(models.insert().values(row))
            elif version == BASELINE:
                log.info("baseline replaced", use_case=use_case, was=taken.digest, now=digest)
                connection.execute(models.update().where(*same).values(row))
            else:
                raise StoreError(
                    f"Version {version} of {use_case} is the package {taken.digest[:12]}, not {digest[:12]}.",
                    remedy="Versions are immutable; register it without a number.",
                )
            registered = _one(connection, *same)
        if registered is None:
            raise StoreError(f"Version {version} of {use_case} was not kept.")
        return registered

    def set_state(self, use_case: str, version: int, state: Literal["registered", "live", "retired"]) -> ModelVersion:
        """Changes a version's state. One version is live: whichever was retires.

        Raises:
            NotFound: There is no such version.
            UsageError: There is no such state.
        """
        if state not in ("registered", "live", "retired"):
            raise UsageError(f"{state!r} is no state of a version.", remedy="Use registered, live or retired.")
        same = (models.c.use_case == use_case, models.c.version == version)
        with self.writing(alone=VERSIONS_LOCK) as connection:
            if _one(connection, *same) is None:
                raise NotFound(f"{use_case} has no version {version}.")
            if state == "live":
                others = (models.c.use_case == use_case, models.c.version != version, models.c.state == "live")
                connection.execute(models.update().where(*others).values(state="retired"))
            connection.execute(models.update().where(*same).values(state=state))
            changed = _one(connection, *same)
        if changed is None:
            raise NotFound(f"{use_case} has no version {version}.")
        return changed

    def versions(self, use_case: str) -> list[ModelVersion]:
        """All versions of a use case, lowest first."""
        with self.reading() as connection:
            query = sa.select(models).where(models.c.use_case == use_case).order_by(models.c.version)
            return [_version(row) for row in connection.execute(query)]

    def version(self, use_case: str, version: int) -> ModelVersion | None:
        """One version; None when there is none of that number."""
        with self.reading() as connection:
            return _one(connection, models.c.use_case == use_case, models.c.version == version)

    def live_version(self, use_case: str) -> ModelVersion | None:
        """The version that answers; None before the first release."""
        with self.reading() as connection:
            return _one(connection, models.c.use_case == use_case, models.c.state == "live")


def _one(connection: Connection, *where: sa.ColumnElement[bool]) -> ModelVersion | None:
    row = connection.execute(sa.select(models).where(*where)).one_or_none()
    return None if row is None else _version(row)


def _version(row: Any) -> ModelVersion:
    return ModelVersion(
        use_case=row.use_case,
        version=row.version,
        digest=row.digest,
        uri=row.uri,
        state=row.state,
        created_at=from_micros(row.created_at_us),
        metrics=row.metrics,
        lengths=row.lengths,
    )
