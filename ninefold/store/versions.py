"""Versions of a use case's model: registered once by digest, one of them live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, get_args

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from ninefold.errors import NotFound, StoreError, UsageError
from ninefold.records import ModelVersion
from ninefold.store.database import Database
from ninefold.store.rows import from_micros, to_micros
from ninefold.store.tables import models, version_changes

log = structlog.get_logger()

VERSIONS_LOCK = 0x9F01D_0003
"""Number of PostgreSQL's advisory lock under which versions are numbered."""

BASELINE = 0

VersionState = Literal["registered", "live", "retired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionChange:
    """A version's state changed.

    Args:
        use_case: Name of the use case.
        version: Which.
        from_state: Its state before.
        to_state: Its state after.
        at: When.
        actor: Who changed it; empty for a pipeline.
        reason: Why.
    """

    use_case: str
    version: int
    from_state: VersionState
    to_state: VersionState
    at: datetime
    actor: str
    reason: str


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
        model_format: str | None = None,
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
            model_format: The package's format; None for ONNX, or for the baseline's own in version 0.

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
                "format": model_format,
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

    def set_state(
        self,
        use_case: str,
        version: int,
        state: VersionState,
        *,
        actor: str = "",
        reason: str = "",
        checking: Callable[[ModelVersion], object] = lambda _: None,
    ) -> ModelVersion:
        """Changes a version's state, and keeps the change in the versions' history.

        One version is live: whichever was retires; the baseline goes back to ``registered``, as it stands by.

        Args:
            use_case: Name of the use case.
            version: Which.
            state: From now on.
            actor: Who changes it.
            reason: Why.
            checking: Called with the version before anything changes, while no package is pruned; may raise to refuse.

        Raises:
            NotFound: There is no such version.
            UsageError: There is no such state.
        """
        if state not in get_args(VersionState):
            raise UsageError(f"{state!r} is no state of a version.", remedy="Use registered, live or retired.")
        with self.writing(alone=VERSIONS_LOCK) as connection:
            known = _one(connection, models.c.use_case == use_case, models.c.version == version)
            if known is not None:
                checking(known)
            return change_state(connection, use_case, version, state, now=self.clock.now(), actor=actor, reason=reason)

    def version_changes(self, use_case: str) -> list[VersionChange]:
        """Every change of a version's state, oldest first."""
        mine = version_changes.c.use_case == use_case
        with self.reading() as connection:
            found = connection.execute(sa.select(version_changes).where(mine).order_by(version_changes.c.number))
            return [
                VersionChange(
                    use_case=row.use_case,
                    version=row.version,
                    from_state=row.from_state,
                    to_state=row.to_state,
                    at=from_micros(row.at_us),
                    actor=row.actor,
                    reason=row.reason,
                )
                for row in found
            ]

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


def change_state(
    connection: Connection, use_case: str, version: int, state: VersionState, *, now: datetime, actor: str, reason: str
) -> ModelVersion:
    """``Versions.set_state`` within a transaction that holds ``VERSIONS_LOCK``."""
    before = _one(connection, models.c.use_case == use_case, models.c.version == version)
    if before is None:
        raise NotFound(f"{use_case} has no version {version}.")
    changes: list[tuple[int, str, str]] = []
    if state == "live":
        others = (models.c.use_case == use_case, models.c.version != version, models.c.state == "live")
        for other in connection.execute(sa.select(models.c.version).where(*others)).scalars().all():
            changes.append((other, "live", "registered" if other == BASELINE else "retired"))
    if before.state != state:
        changes.append((version, before.state, state))
    for changed, from_state, to_state in changes:
        same = (models.c.use_case == use_case, models.c.version == changed)
        connection.execute(models.update().where(*same).values(state=to_state))
        entry = {
            "use_case": use_case,
            "version": changed,
            "from_state": from_state,
            "to_state": to_state,
            "at_us": to_micros(now),
            "actor": actor,
            "reason": reason,
        }
        connection.execute(version_changes.insert().values(entry))
    return replace(before, state=state)


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
        format=row.format or ("baseline" if row.version == BASELINE else "onnx"),
    )
