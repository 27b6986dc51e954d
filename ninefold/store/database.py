"""One database behind a URL: connections, transactions, and errors that say what is wrong in one line.

SQLite runs in WAL mode, so that readers and the one writer don't wait for each other; a writer takes its lock when it
begins, not when it first writes, because a lock that is upgraded half-way can't wait and fails at once.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import orjson
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.pool import ConnectionPoolEntry

from ninefold.clock import Clock
from ninefold.errors import ConfigurationError, DataError, StoreError

CONNECT_SECONDS = 5
"""How long a PostgreSQL that does not answer is waited for."""

_WRITES = "ninefold_writes"
_OVER_A_LIMIT = "54000"
"""What PostgreSQL says of a value that is too long for an index, as if it were the server's trouble."""


class Database:
    """A database that is open.

    Args:
        engine: From ``make_engine``.
        clock: Stamps what nobody else stamps.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.engine = engine
        self.clock = clock
        self.where = describe(engine.url)

    @property
    def is_postgresql(self) -> bool:
        """Whether it is PostgreSQL; else it is SQLite."""
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the database.

        Raises:
            StoreError: The database refuses or is out of reach.
        """
        with clear_errors(self.where), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, alone: int | None = None) -> Iterator[Connection]:
        """A transaction: all of it or nothing.

        Args:
            alone: A number; of the transactions that give the same one, one runs at a time. (On SQLite any two.)

        Raises:
            StoreError: The database refuses, is locked by another writer, or is out of reach.
            DataError: A value can't be kept.
        """
        with (
            clear_errors(self.where),
            self.engine.connect().execution_options(**{_WRITES: True}) as connection,
            connection.begin(),
        ):
            if alone is not None and self.is_postgresql:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(alone)))
            yield connection

    def tidy(self, *, compact: bool = False) -> bool:
        """Empties SQLite's log into its file; whether readers let it, in some seconds. PostgreSQL does so by itself.

        Args:
            compact: Also give the space of what was removed back to the disk. It locks the database, and writes all
                of it anew in SQLite.

        Raises:
            StoreError: The database refuses, or is locked by another process.
        """
        with clear_errors(self.where):
            if self.is_postgresql:
                if compact:
                    with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                        connection.execute(sa.text("VACUUM (ANALYZE)"))
                return True
            # By the driver alone: neither statement may stand in a transaction.
            raw = self.engine.raw_connection()
            try:
                if compact:
                    raw.cursor().execute("VACUUM")
                held_up: int = raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0]
                return not held_up
            finally:
                raw.close()

    def close(self) -> None:
        """Closes every connection; one that a thread still uses, when it is given back."""
        pool = self.engine.pool
        self.engine.dispose()
        # What comes back goes into a pool that nobody takes from any more, and would stay open there.
        sa.event.listen(pool, "checkin", _end)
        pool.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end(_: Any, record: ConnectionPoolEntry) -> None:
    record.close()


def make_engine(url: str, *, busy_seconds: float, durable: bool = False) -> Engine:
    """Connects lazily; for SQLite the folder is made and WAL is switched on.

    Args:
        url: ``sqlite:////absolute/store.db`` or ``postgresql://user:password@host/database``.
        busy_seconds: How long a locked SQLite database is waited for.
        durable: Whether a commit in SQLite waits for the disk. Else it survives the death of the process alone.
            PostgreSQL's own settings say it there.

    Raises:
        ConfigurationError: Another kind of URL, or the driver is not installed.
        StoreError: The folder or the file can't be used.
    """
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError) as error:
        # The text may hold a password, so it is not quoted.
        raise ConfigurationError(
            "The store's URL can't be read.",
            remedy="Write sqlite:////path/store.db or postgresql://user@host/database.",
        ) from error
    match parsed.drivername:
        case "sqlite" | "sqlite+pysqlite":
            return _sqlite(parsed, busy_seconds, durable)
        case "postgres" | "postgresql" | "postgresql+psycopg":
            return _postgresql(parsed.set(drivername="postgresql+psycopg"))
        case other:
            raise ConfigurationError(
                f"The store can't be kept in {other!r}.", remedy="Use sqlite:/// or postgresql://."
            )


def describe(url: URL) -> str:
    """Where the database is, for people: no user, no password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = url.host or str(url.query.get("host", "localhost"))
    return f"{host}:{url.port or url.query.get('port', 5432)}/{url.database}"


def to_json(value: Any) -> str:
    """A value as a column of JSON keeps it.

    Raises:
        DataError: It is none of JSON's.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    except TypeError as error:
        raise DataError(f"A value can't be kept as JSON: {error}.") from error


def _postgresql(url: URL) -> Engine:
    options = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_SECONDS}
    try:
        return sa.create_engine(
            url,
            connect_args=options,
            # A server that was restarted leaves dead connections in the pool.
            pool_pre_ping=True,
            # It sends rows in one statement, and then doesn't know how many were new.
            use_insertmanyvalues=False,
            json_serializer=to_json,
            json_deserializer=orjson.loads,
        )
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "A PostgreSQL store needs psycopg, which is not installed.", remedy="Install ninefold[cluster]."
        ) from error


def _sqlite(url: URL, busy_seconds: float, durable: bool) -> Engine:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ConfigurationError(
            f"A store in SQLite needs a file; {url.database!r} names none.", remedy="Write sqlite:////path/store.db."
        )
    path = Path(url.database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"The folder {path.parent} of the store can't be made: {error.strerror}.") from error
    engine = sa.create_engine(
        url,
        connect_args={"timeout": busy_seconds},
        json_serializer=to_json,
        json_deserializer=orjson.loads,
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        # Else the driver begins transactions by itself, too late and in the wrong mode.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        cursor.execute("PRAGMA foreign_keys=ON")
        # An index that outgrows the default of 2 MB is read anew with every batch that is written.
        cursor.execute("PRAGMA cache_size=-16000")
        # Pages that every batch touches are copied into the database once in 16 MB, and not once in 4.
        cursor.execute("PRAGMA wal_autocheckpoint=4000")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    with clear_errors(describe(url)):
        _switch_wal_on(path, busy_seconds)
    return engine


def _switch_wal_on(path: Path, busy_seconds: float) -> None:
    connection = sqlite3.connect(path, timeout=busy_seconds)
    try:
        deadline = time.monotonic() + busy_seconds
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError as error:
                # Two processes that make the file at once: this statement fails at once instead of waiting.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
    finally:
        connection.close()


@contextmanager
def clear_errors(where: str) -> Iterator[None]:
    """Turns a driver's error into one line of Ninefold's."""
    try:
        yield
    except (exc.DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        said = (str(cause).strip() or type(cause).__name__).splitlines()[0].rstrip(".")
        if isinstance(error, (exc.DataError, exc.IntegrityError)) or getattr(cause, "sqlstate", "") == _OVER_A_LIMIT:
            raise DataError(f"The store {where} can't keep a value: {said}.") from error
        message, remedy = _refusal(where, said)
        raise StoreError(message, remedy=remedy) from error
    except exc.TimeoutError as error:
        raise StoreError(f"The store {where} has no free connection.", remedy="Try again.") from error
    except (exc.StatementError, OverflowError) as error:
        said = str(error).splitlines()[0]
        raise DataError(f"The store {where} can't keep a value: {said}.") from error


def _refusal(where: str, said: str) -> tuple[str, str]:
    """What is wrong and what to do, by what SQLite and PostgreSQL say."""
    if "database is locked" in said:
        return f"The store {where} is locked by another process.", "Try again when it has finished."
    if "disk is full" in said or "No space left" in said:
        return f"The disk of the store {where} is full.", "Free some space; what was not acknowledged is not kept."
    if "unable to open" in said or "readonly database" in said:
        return f"The store {where} can't be opened for writing: {said}.", "Check the file's and its folder's owner."
    if "not a database" in said or "malformed" in said:
        return f"The store {where} is damaged: {said}.", "Restore it from a copy, or move it away to begin anew."
    if "connection" in said or "resolve" in said:
        return f"The store {where} does not answer: {said}.", "Check that PostgreSQL runs there."
    return f"The store {where} refuses: {said}.", ""
