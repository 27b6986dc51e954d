"""Online rows in one SQLite file: the embedded store."""

from __future__ import annotations

import functools
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgpack

from ninefold.errors import StoreError
from ninefold.online.rows import OnlineRow, from_microseconds, moved, to_microseconds

_SCHEMA_VERSION = 1
_BUSY_SECONDS = 5.0
_CHUNK = 256
_MOST_CACHED = 20_000
"""Rows that are kept in memory; one takes about half a kilobyte."""


class SQLiteOnlineStore:
    """Online rows in one SQLite file, in write-ahead mode: readers never wait for a writer.

    Every read sees what any process committed before it began, and one state of it. What was read is kept in memory
    for as long as nobody commits anything. The connection and its prepared statements are kept. Use an instance from
    the thread that opened it.

    Args:
        path: The file; its folder is made when it is missing.

    Raises:
        StoreError: The file is damaged, locked, of another version, or can't be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cached: dict[tuple[str, str], OnlineRow | None] = {}
        self._state = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, cached_statements=2 * _CHUNK
            )
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"The online rows in {path} can't be opened: {error}.") from error
        try:
            self._prepare()
        except (sqlite3.Error, StoreError) as error:
            self._connection.close()
            raise (self._explained(error) if isinstance(error, sqlite3.Error) else error) from error
        self._execute = self._connection.execute

    def _prepare(self) -> None:
        connection = self._connection
        _switch_to_write_ahead(connection)
        # Rows can be written anew from their sources, so a power cut may cost the last commits but never the file.
        connection.execute("PRAGMA synchronous = NORMAL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == _SCHEMA_VERSION:
            return
        if version != 0:
            raise StoreError(
                f"The online rows in {self._path} have schema {version}; this is a Ninefold for {_SCHEMA_VERSION}.",
                remedy="Move the file away and run: ninefold features materialize",
            )
        connection.executescript(
            f"""
            BEGIN IMMEDIATE;
            CREATE TABLE IF NOT EXISTS rows (
                view TEXT NOT NULL, key TEXT NOT NULL, known_at INTEGER NOT NULL, columns BLOB NOT NULL,
                PRIMARY KEY (view, key)
            ) WITHOUT ROWID;
            CREATE TABLE IF NOT EXISTS watermarks (view TEXT PRIMARY KEY, known_until INTEGER NOT NULL) WITHOUT ROWID;
            PRAGMA user_version = {_SCHEMA_VERSION};
            COMMIT;
            """
        )

    def read_many(self, requests: Sequence[tuple[str, str]]) -> list[OnlineRow | None]:
        """The rows of (view, key) pairs, in their order, from one consistent state; None where there is none.

        Raises:
            StoreError: The file is damaged or out of reach.
        """
        cached = self._cached
        try:
            self._drop_what_is_old()
            missing = [pair for pair in requests if pair not in cached]
            if missing:
                self._execute("BEGIN")
                try:
                    # Rows that were read before and rows that are read now have to be of one state.
                    if self._drop_what_is_old() or len(cached) + len(missing) > _MOST_CACHED:
                        cached.clear()
                        missing = list(requests)
                    missing = list(dict.fromkeys(missing))
                    for start in range(0, len(missing), _CHUNK):
                        self._read_chunk(missing[start : start + _CHUNK])
                finally:
                    self._execute("COMMIT")
        except (sqlite3.Error, msgpack.UnpackException, ValueError) as error:
            cached.clear()
            raise self._explained(error) from error
        return [cached[pair] for pair in requests]

    def _drop_what_is_old(self) -> bool:
        # SQLite's number of the state, as others' commits left it: it costs a tenth of what a look at the rows does.
        state = self._execute("PRAGMA data_version").fetchone()[0]
        if state == self._state:
            return False
        self._state = state
        self._cached.clear()
        return True

    def _read_chunk(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._cached.update(dict.fromkeys(pairs))
        arguments = [part for pair in pairs for part in pair]
        for place, known_at, columns in self._execute(_select(len(pairs)), arguments):
            pair = pairs[place]
            self._cached[pair] = OnlineRow(
                pair[1], from_microseconds(known_at), msgpack.unpackb(columns, use_list=False)
            )

    def write(self, view: str, rows: Iterable[OnlineRow]) -> int:
        """Writes rows, all or none, and returns how many changed something.

        A row is written when it is newer than what is there, or differs at the same instant; an older one never is.

        Raises:
            StoreError: The file is damaged, full, or locked for more than five seconds.
        """
        packed = _packed(view, rows)
        if not packed:
            return 0
        with self._transaction():
            return self._upsert(packed)

    def write_views(
        self,
        rows: Mapping[str, Iterable[OnlineRow]],
        watermark: datetime,
        *,
        after: Mapping[str, datetime | None] | None = None,
    ) -> int:
        """Writes rows of several views, as ``write`` does, and moves these views' watermarks: all or nothing.

        One transaction costs a third of one a view and watermark, and a reader never sees half an instant.

        Raises:
            Outdated: A watermark is not the one that ``after`` names; nothing is written.
            StoreError: The file is damaged, full, or locked for more than five seconds.
        """
        packed = [row for view, mine in rows.items() for row in _packed(view, mine)]
        known_until = to_microseconds(watermark)
        with self._transaction():
            if after:
                self._require(after)
            changed = self._upsert(packed)
            self._connection.executemany(_ADVANCE, [(view, known_until) for view in rows])
        return changed

    def _require(self, after: Mapping[str, datetime | None]) -> None:
        for view, present in self.watermarks(after).items():
            if present != after[view]:
                raise moved(str(self._path), view, present, after[view])

    def _upsert(self, packed: list[tuple[str, str, int, bytes]]) -> int:
        before = self._connection.total_changes
        self._connection.executemany(_UPSERT, packed)
        return self._connection.total_changes - before

    def watermark(self, view: str) -> datetime | None:
        """The instant up to which everything known is in the view's rows; None before the first."""
        return self.watermarks((view,))[view]

    def watermarks(self, views: Iterable[str]) -> dict[str, datetime | None]:
        """The watermarks of several views."""
        try:
            known = dict(self._execute("SELECT view, known_until FROM watermarks").fetchall())
        except sqlite3.Error as error:
            raise self._explained(error) from error
        return {view: from_microseconds(known[view]) if view in known else None for view in views}

    def advance_watermark(self, view: str, to: datetime) -> None:
        """Moves a watermark forward; an earlier instant leaves it where it is."""
        with self._transaction():
            self._execute(_ADVANCE, (view, to_microseconds(to)))

    def forget(self, view: str) -> int:
        """Removes a view's rows and watermark, and returns the number of rows."""
        with self._transaction():
            removed = self._execute("DELETE FROM rows WHERE view = ?", (view,)).rowcount
            self._execute("DELETE FROM watermarks WHERE view = ?", (view,))
        return removed

    def remove(self, pairs: Iterable[tuple[str, str]]) -> int:
        """Erases the rows of (view, key) pairs, leaving nothing of them on the disk; how many there were.

        Raises:
            StoreError: The file is damaged, full, or locked for more than five seconds.
        """
        try:
            # Else the bytes stay in the file until something else needs their place.
            self._execute("PRAGMA secure_delete = ON")
            before = self._connection.total_changes
            with self._transaction():
                self._connection.executemany("DELETE FROM rows WHERE view = ? AND key = ?", pairs)
            removed = self._connection.total_changes - before
            self._execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise self._explained(error) from error
        return removed

    def close(self) -> None:
        """Ends the connection; the instance can't be used any more."""
        self._connection.close()

    def _transaction(self) -> _Transaction:
        return _Transaction(self)

    def _explained(self, error: Exception) -> StoreError:
        code = getattr(error, "sqlite_errorcode", None)
        primary = code & 0xFF if code is not None else None
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreError(
                f"The online rows in {self._path} are locked: another process has been writing for over"
                f" {_BUSY_SECONDS:g} s.",
                remedy="Find it with: ninefold status",
            )
        if primary == sqlite3.SQLITE_FULL:
            return StoreError(f"The disk of the online rows in {self._path} is full.", remedy="Free some space.")
        if isinstance(error, sqlite3.ProgrammingError):
            return StoreError(f"The online rows in {self._path} are used wrongly: {error}")
        if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR):
            return StoreError(f"The online rows in {self._path} can't be read or written: {error}.")
        return StoreError(
            f"The online rows in {self._path} are damaged: {error}.",
            remedy="Move the file away and run: ninefold features materialize",
        )


def _packed(view: str, rows: Iterable[OnlineRow]) -> list[tuple[str, str, int, bytes]]:
    return [(view, row.key, to_microseconds(row.known_at), msgpack.packb(row.values)) for row in rows]


class _Transaction:
    """A write transaction that takes its lock at once, so that it can wait for others instead of failing midway."""

    def __init__(self, store: SQLiteOnlineStore) -> None:
        self._store = store

    def __enter__(self) -> None:
        try:
            self._store._execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._store._explained(error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        connection = self._store._connection
        try:
            if error is None:
                connection.execute("COMMIT")
        except sqlite3.Error as failed:
            raise self._store._explained(failed) from failed
        finally:
            # The number of the state counts others' commits alone.
            self._store._cached.clear()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise self._store._explained(error) from error


_UPSERT = """
INSERT INTO rows (view, key, known_at, columns) VALUES (?, ?, ?, ?)
ON CONFLICT (view, key) DO UPDATE SET known_at = excluded.known_at, columns = excluded.columns
WHERE excluded.known_at > rows.known_at OR (excluded.known_at = rows.known_at AND excluded.columns <> rows.columns)
"""
_ADVANCE = """
INSERT INTO watermarks (view, known_until) VALUES (?, ?)
ON CONFLICT (view) DO UPDATE SET known_until = excluded.known_until WHERE excluded.known_until > watermarks.known_until
"""


@functools.lru_cache(maxsize=_CHUNK)
def _select(pairs: int) -> str:
    # One statement for all pairs is one read transaction: half the time of one statement a pair, and one state.
    places = ", ".join(f"({place}, ?, ?)" for place in range(pairs))
    return (
        f"WITH wanted (place, view, key) AS (VALUES {places}) SELECT wanted.place, rows.known_at, rows.columns"  # noqa: S608
        " FROM wanted CROSS JOIN rows ON rows.view = wanted.view AND rows.key = wanted.key"
    )


def _switch_to_write_ahead(connection: sqlite3.Connection) -> None:
    # Two processes that make the file at the same moment: SQLite refuses one of them without waiting.
    deadline = time.monotonic() + _BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
