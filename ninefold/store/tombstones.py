"""What was erased stays erased: an older record of an erased key is turned away, wherever it comes from.

A journal that is shipped late, one out of a backup, or a producer's retry would bring it back otherwise. A key is kept
as a salted hash. What was received after the erasure is new: the key may come again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Table
from sqlalchemy.engine import Connection

from ninefold.records import FEEDBACK_STREAM
from ninefold.store.tables import erasures, events, label_annotations, label_tasks, predictions, truths

ERASING_LOCK = 0x9F01D_0004
"""Number of PostgreSQL's advisory lock that writers share and an erasure has alone."""

_BY_KEY = {
    predictions: "received_at_us",
    truths: "received_at_us",
    label_tasks: "sent_at_us",
    label_annotations: "received_at_us",
}
"""Tables with a key → the column that says when a row came."""
_SALT = sa.select(erasures.c.salt).where(erasures.c.use_case == sa.bindparam("use_case")).limit(1)


def key_hash(salt: str, key: str) -> str:
    """A key's salted hash, 32 hexadecimal digits."""
    return hashlib.blake2b(key.encode(), key=salt.encode(), digest_size=16).hexdigest()


def salt_of(connection: Connection, use_case: str) -> str | None:
    """The salt that all of a use case's erasures share; None while nothing was erased."""
    found: str | None = connection.execute(_SALT, {"use_case": use_case}).scalar()
    return found


def without_erased(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows whose key was not erased after they were received. Within the transaction that writes them."""
    if table is not events and table not in _BY_KEY:
        return rows
    if connection.dialect.name == "postgresql":
        # An erasure that is under way is waited for: the statements below see what it noted.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(ERASING_LOCK)))
    kept, came = rows, _BY_KEY.get(table, "received_at_us")
    for use_case in {row["use_case"] for row in rows}:
        if (salt := salt_of(connection, use_case)) is not None:
            erased = _erased(connection, use_case, salt, (_key(row) for row in rows if row["use_case"] == use_case))
            kept = [row for row in kept if row["use_case"] != use_case or row[came] > erased.get(_key(row) or "", -1)]
    return kept


def erased_keys(connection: Connection, use_case: str, keys: Iterable[str]) -> set[str]:
    """Of the keys, those that were ever erased."""
    salt = salt_of(connection, use_case)
    return set() if salt is None else set(_erased(connection, use_case, salt, keys))


def _erased(connection: Connection, use_case: str, salt: str, keys: Iterable[str | None]) -> dict[str, int]:
    """Of the keys, those that were erased, with the last instant of it."""
    hashes = {key_hash(salt, key): key for key in keys if key is not None}
    query = (
        sa.select(erasures.c.key_hash, sa.func.max(erasures.c.at_us).label("at_us"))
        .where(erasures.c.use_case == use_case, erasures.c.key_hash.in_(list(hashes)))
        .group_by(erasures.c.key_hash)
    )
    return {hashes[row.key_hash]: row.at_us for row in connection.execute(query)}


def _key(row: dict[str, Any]) -> str | None:
    """The key that a row tells of; None for an event that is no feedback."""
    if "key" in row:
        return str(row["key"])
    return row["values"].get("key") if row["stream"] == FEEDBACK_STREAM else None
