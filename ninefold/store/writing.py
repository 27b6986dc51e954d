"""Idempotent bulk writes: a record is kept once, as it was first, and whatever contradicts it is kept aside.

Order of events. A reader tails events by a growing number (``cursor``). Numbers are given when a row is written and
show when its transaction commits, so with two writers a low number could show after a reader went past it. SQLite has
one writer at a time. On PostgreSQL, writers of events take an advisory lock first, which PostgreSQL releases after the
commit is visible: so numbers show in their order. (The other way, reading only below ``pg_snapshot_xmin``, lets any
long transaction in the cluster hold up every stream.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from operator import itemgetter
from typing import Any, TypeVar

import orjson
import sqlalchemy as sa
import structlog
from sqlalchemy import JSON, Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from ninefold.records import derived_id
from ninefold.store.database import Database, to_json
from ninefold.store.rows import EVENTS, Kind, Record, to_micros
from ninefold.store.tables import conflicts
from ninefold.store.tombstones import without_erased

log = structlog.get_logger()

CHUNK = 5_000
"""Rows a transaction: long enough to be fast, short enough that nobody waits long for the lock."""

ROWS_A_STATEMENT = 64
"""Rows that SQLite gets at once: between two statements the driver takes Python's lock back from whoever answers."""

EVENTS_LOCK = 0x9F01D_0002
"""Number of PostgreSQL's advisory lock under which events get their cursor."""

EVENTS_CHANNEL = "ninefold_events"
"""PostgreSQL tells on it, with the commit, whose events came."""

_EXACT = 2.0**53
_T = TypeVar("_T")

Preparing = Callable[[Connection, list[dict[str, Any]]], list[dict[str, Any]]]


class Written(int):
    """How many records were new; with it, those that contradict what is kept.

    Attributes:
        repeated: How many were there already, contradicting ones included.
        erased: How many were turned away, as their key was erased after they were received.
        conflicts: Ids that came with another content than the one that is kept.
    """

    repeated: int
    erased: int
    conflicts: tuple[str, ...]

    def __new__(cls, new: int, *, repeated: int = 0, erased: int = 0, conflicts: Sequence[str] = ()) -> Written:
        """Counts."""
        written = super().__new__(cls, new)
        written.repeated = repeated
        written.erased = erased
        written.conflicts = tuple(conflicts)
        return written


def write(
    database: Database, kind: Kind[Record], records: Iterable[Record], prepare: Preparing | None = None
) -> Written:
    """Writes what is not there yet; chunk by chunk, each one a transaction, so that a failed call can be sent again.

    Raises:
        StoreError: The database refuses; chunks before the one that failed are kept.
        DataError: A record can't be kept; likewise.
    """
    return write_rows(database, kind, map(kind.encode, records), prepare)


def write_rows(
    database: Database, kind: Kind[Any], records: Iterable[dict[str, Any]], prepare: Preparing | None = None
) -> Written:
    """Writes rows as ``write`` writes the records that they are of; JSON may be text already.

    Args:
        database: Where to.
        kind: Of which kind they are.
        records: The rows.
        prepare: What becomes of them in their transaction, before they are written.
    """
    new, total, erased = 0, 0, 0
    contradicting: list[str] = []
    alone = EVENTS_LOCK if kind.table is EVENTS.table else None
    for rows in _chunks(records):
        if alone is None:
            # Two writers that take the same ids in different orders would wait for each other for ever.
            rows.sort(key=itemgetter(kind.identity))
        with database.writing(alone=alone) as connection:
            allowed = without_erased(connection, kind.table, rows)
            if prepare is not None:
                allowed = prepare(connection, allowed)
            inserted = _insert_plain(connection, kind.table, allowed)
            if alone is not None and inserted and database.is_postgresql:
                _tell(connection, {row["use_case"] for row in allowed})
            if inserted < len(allowed):
                contradicting += _keep_aside(connection, kind, allowed, to_micros(database.clock.now()))
        new += inserted
        total += len(rows)
        erased += len(rows) - len(allowed)
    if contradicting:
        log.warning("records contradict what is kept", kind=kind.name, count=len(contradicting), ids=contradicting[:5])
    if erased:
        log.info("records of erased keys turned away", kind=kind.name, count=erased)
    return Written(new, repeated=total - new - erased, erased=erased, conflicts=contradicting)


def _tell(connection: Connection, use_cases: Iterable[str]) -> None:
    for use_case in use_cases:
        connection.execute(sa.select(sa.func.pg_notify(EVENTS_CHANNEL, use_case)))


def _insert_plain(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    """As ``insert_new``, past SQLAlchemy's look at every value, which costs more than the database does."""
    if not rows:
        return 0
    names = [c.name for c in table.columns if c.autoincrement is not True]
    documents = [c.name for c in table.columns if isinstance(c.type, JSON)]
    in_order = itemgetter(*names)
    values = [in_order(_with_texts(row, documents)) for row in rows]
    options = {"preserve_rowcount": True}
    if connection.dialect.name == "postgresql":
        named = [dict(zip(names, row, strict=True)) for row in values]
        return connection.exec_driver_sql(_insertion(table, connection.dialect), named, options).rowcount
    inserted = 0
    for start in range(0, len(values), ROWS_A_STATEMENT):
        several = values[start : start + ROWS_A_STATEMENT]
        statement = _insertion(table, connection.dialect, len(several))
        inserted += connection.exec_driver_sql(statement, tuple(chain.from_iterable(several)), options).rowcount
    return inserted


def _with_texts(row: dict[str, Any], documents: Sequence[str]) -> dict[str, Any]:
    for name in documents:
        # No column of JSON holds a bare string, so a string is JSON already.
        if type(row[name]) is not str:
            return row | {name: to_json(row[name]) for name in documents if type(row[name]) is not str}
    return row


@lru_cache(maxsize=4 * ROWS_A_STATEMENT)
def _insertion(table: Table, dialect: Dialect, rows: int = 1) -> str:
    insert = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    names = [c.name for c in table.columns if c.autoincrement is not True]
    one = str(insert(table).on_conflict_do_nothing().compile(dialect=dialect, column_keys=names))
    row = f"({', '.join('?' * len(names))})"
    return one.replace(row, ", ".join([row] * rows))


def insert_new(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    """Inserts the rows whose identity is not there yet; how many those were."""
    if not rows:
        return 0
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    return connection.execute(statement, rows).rowcount


def _chunks(records: Iterable[_T]) -> Iterator[list[_T]]:
    iterator = iter(records)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _keep_aside(connection: Connection, kind: Kind[Record], rows: list[dict[str, Any]], seen_at_us: int) -> list[str]:
    """Keeps the rows that contradict the table; their ids."""
    names = [c.name for c in kind.table.columns if c.name in rows[0] and c.name not in kind.stamped]
    identity = kind.table.c[kind.identity]
    documents = [c.name for c in kind.table.columns if isinstance(c.type, JSON)]
    rows = [row | {n: orjson.loads(row[n]) for n in documents if type(row[n]) is str} for row in rows]
    kept = {
        row[kind.identity]: _canonical(row, names)
        for row in connection.execute(
            sa.select(*(kind.table.c[name] for name in names)).where(identity.in_([r[kind.identity] for r in rows]))
        ).mappings()
    }
    aside = []
    for row in rows:
        content = _canonical(row, names)
        if content != kept[row[kind.identity]]:
            aside.append(
                {
                    "conflict_id": derived_id(kind.name, content.decode()),
                    "kind": kind.name,
                    "use_case": row["use_case"],
                    "record_id": row[kind.identity],
                    "content": row,
                    "seen_at_us": seen_at_us,
                }
            )
    insert_new(connection, conflicts, aside)
    return [row["record_id"] for row in aside]


def _canonical(row: Any, names: list[str]) -> bytes:
    """A row's content as bytes that are equal when the content is: 1 and 1.0 are one number."""
    return orjson.dumps([_plain(row[name]) for name in names], option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _EXACT else value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
