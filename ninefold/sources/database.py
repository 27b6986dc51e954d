"""A query's rows, read without a right to write, and incrementally: a second extract asks for what became known since.

What was read is kept in the home as Parquet. The next time, rows from the newest ``known_at`` on are asked for, and the
older ones are counted: where the database holds another number of them, because rows were corrected, removed, or
committed late, everything is read again. So what is kept is never taken for what it no longer is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL, Connection, Engine, make_url

from ninefold.atomic import replacing
from ninefold.errors import ConfigurationError, DataError
from ninefold.settings import settings
from ninefold.sources.cells import Cells
from ninefold.sources.source import missing_columns

BATCH = 20_000
"""Rows asked for at a time."""
CONNECT_SECONDS = 10
_SECRET = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)
_NOTE = "ninefold_source"


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """The rows of a query.

    Args:
        name: Names the folder in ``data`` where the rows are kept: the use case's name.
        url: SQLAlchemy URL without a password.
        password: Environment variable with the password; where it is not set, none is sent.
        query: File with one ``SELECT``.
        known_at: The query's column that says when a row, as it stands, became known to the database. It never goes
            back: a row that changes gets a new one.
        parameters: Values of the query's ``:parameters``.
        columns: The query's name of a column → the contract's, where they differ.
    """

    name: str
    url: str
    query: Path
    password: str = ""
    known_at: str = "known_at"
    parameters: Mapping[str, str | float] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The query's file."""
        return self.query.name

    @property
    def first_row(self) -> int:
        """Rows are counted from 1, in order of ``known_at``."""
        return 1

    @property
    def is_text(self) -> bool:
        """A database has types of its own."""
        return False

    @property
    def kept(self) -> Path:
        """The file with what was read."""
        return settings().folder("data") / self.name / "source" / "rows.parquet"

    def names(self) -> list[str]:
        """The columns as the query calls them.

        Raises:
            DataError, ConfigurationError: As ``scan``.
        """
        with self._connected() as connection:
            nothing: sa.Select[Any] = sa.select(sa.literal_column("*")).select_from(self._rows()).where(sa.false())
            return list(connection.execute(nothing).keys())

    def scan(self) -> pl.LazyFrame:
        """Brings what is kept up to date, and reads it.

        Raises:
            DataError: The query fails, lacks ``known_at``, or a column holds values of several kinds.
            ConfigurationError: The URL can't be used, or holds a password.
        """
        self.update()
        return pl.scan_parquet(self.kept)

    def collect(self, lazy: pl.LazyFrame) -> pl.DataFrame:
        """Reads what ``scan`` promised."""
        return lazy.collect(engine="streaming")

    def state(self) -> str:
        """How many rows there are, and what became known last: asked of the database, where nothing is read."""
        rows = self._rows()
        with self._connected() as connection:
            count, newest = connection.execute(
                sa.select(sa.func.count(), sa.func.max(rows.c[self.known_at])).select_from(rows)
            ).one()
        return hashlib.sha256(f"{self._digest()}|{count}|{newest}".encode()).hexdigest()[:16]

    def update(self) -> int:
        """Reads what became known since; returns how many rows the database was asked to send.

        Raises:
            DataError, ConfigurationError: As ``scan``.
        """
        kept = self._read_kept()
        with self._connected() as connection:
            if kept is not None and kept.height:
                since = kept[self._kept_known_at].max()
                older = kept.filter(pl.col(self._kept_known_at) < since)
                if self._count_before(connection, since) == older.height:
                    fresh = self._fetch(connection, since)
                    self._keep(_stacked(older, fresh, self.where))
                    return fresh.height
            fresh = self._fetch(connection, None)
        self._keep(fresh)
        return fresh.height

    @property
    def _kept_known_at(self) -> str:
        return self.columns.get(self.known_at, self.known_at)

    def _text(self) -> str:
        try:
            text = self.query.read_text(encoding="utf-8").strip().rstrip(";").strip()
        except OSError as error:
            raise ConfigurationError(f"The query {self.query} can't be read: {error.strerror}.") from error
        bare = re.sub(r"--[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL).strip()
        if not re.match(r"(?i)(select|with)\b", bare) or ";" in re.sub(r"'[^']*'", "", bare):
            raise ConfigurationError(
                f"{self.where} is not one SELECT, but {bare[:40]!r}.", remedy="Write one SELECT; nothing else is run."
            )
        return text

    def _digest(self) -> str:
        document = [
            self.url,
            self._text(),
            sorted(self.parameters.items()),
            sorted(self.columns.items()),
            self.known_at,
        ]
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:16]

    def _rows(self) -> sa.Subquery:
        """The query as a table, so that nothing is put into its text; its values are bound."""
        query = sa.text(f"\n{self._text()}\n").bindparams(**self.parameters)
        return query.columns(sa.column(self.known_at)).subquery("source")

    def _count_before(self, connection: Connection, since: Any) -> int:
        rows = self._rows()
        older = sa.select(sa.func.count()).select_from(rows).where(rows.c[self.known_at] < _literal(since))
        return int(connection.execute(older).scalar_one())

    def _fetch(self, connection: Connection, since: Any) -> pl.DataFrame:
        source = self._rows()
        asked: sa.Select[Any] = sa.select(sa.literal_column("*")).select_from(source)
        if since is not None:
            asked = asked.where(source.c[self.known_at] >= _literal(since))
        connection = connection.execution_options(stream_results=True, yield_per=BATCH)
        with closing(connection.execute(asked)) as rows:
            return self._received(rows)

    def _received(self, rows: sa.CursorResult[Any]) -> pl.DataFrame:
        names = list(rows.keys())
        if (error := missing_columns(self.where, [self.known_at], names)) is not None:
            raise DataError(
                error.message, remedy="Select when each row became known, as known_at, or name it: --known-at COLUMN."
            )
        if len(set(names)) != len(names):
            raise DataError(
                f"{self.where} selects two columns of one name: {', '.join(names)}.", remedy="Name them AS."
            )
        cells = Cells(self.where, names)
        for batch in rows.partitions():
            cells.add(batch)
        frame = cells.frame()
        unknown = frame[self.known_at].null_count()
        if unknown:
            raise DataError(
                f"{self.where}: {unknown:,} of {frame.height:,} rows have no {self.known_at}.",
                remedy="Leave out rows that nobody knows yet, or say since when they are known.",
            )
        self._check_order(frame[self.known_at])
        return frame.sort(self.known_at, maintain_order=True).rename(dict(self.columns), strict=False)

    def _check_order(self, known_at: pl.Series) -> None:
        """Texts are compared as texts by the database, so their order has to be that of the times."""
        if known_at.dtype == pl.String and known_at.str.len_chars().n_unique() > 1:
            shapes = known_at.str.len_chars().unique(maintain_order=True).head(2).to_list()
            examples = [known_at.filter(known_at.str.len_chars() == shape)[0] for shape in shapes]
            raise DataError(
                f"{self.where}: {self.known_at} is a text of several forms, such as {examples[0]!r} and "
                f"{examples[1]!r}: their order is not that of the times.",
                remedy="Select them in one form, as in strftime('%Y-%m-%d %H:%M:%S', …).",
            )

    def _read_kept(self) -> pl.DataFrame | None:
        try:
            noted = pl.read_parquet_metadata(self.kept).get(_NOTE)
            return pl.read_parquet(self.kept) if noted == self._digest() else None
        except FileNotFoundError:
            return None
        except (OSError, pl.exceptions.PolarsError):
            # Damaged: the database has it all.
            return None

    def _keep(self, frame: pl.DataFrame) -> None:
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.kept) as temporary:
            frame.write_parquet(temporary, metadata={_NOTE: self._digest()})

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and can't change it."""
        engine = _engine(with_password(self.url, self.password))
        try:
            with engine.connect() as connection:
                if engine.dialect.name == "postgresql":
                    connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                elif engine.dialect.name == "sqlite":
                    connection.exec_driver_sql("BEGIN")
                yield connection
                connection.rollback()
        except exc.SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).strip().splitlines()
            secret = f" Its password is read from {self.password}." if self.password else ""
            raise DataError(
                f"{self.where}: the database refuses: {cause[0] if cause else type(error).__name__}.",
                remedy=f"It was asked at {make_url(self.url).render_as_string()}.{secret}",
            ) from error
        finally:
            engine.dispose()


def check_url(url: str, variable: str) -> URL:
    """Reads an address that holds no secret.

    Args:
        url: SQLAlchemy URL.
        variable: Where a password belongs, for the message.

    Raises:
        ConfigurationError: It can't be read, or holds a password.
    """
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError) as error:
        # The text may hold a password, so it is not quoted.
        raise ConfigurationError(
            "The database's URL can't be read.", remedy="Write postgresql://user@host/database or sqlite:///file.db."
        ) from error
    if parsed.password is not None or any(_SECRET.search(name) for name in parsed.query):
        raise ConfigurationError(
            "The database's URL holds a password, which would be written to a file.",
            remedy=f"Leave it out of the URL, and set the environment variable {variable}.",
        )
    return parsed


def with_password(url: str, variable: str) -> URL:
    """The address with the password that the environment holds, if any."""
    parsed = check_url(url, variable or "that names it")
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    given = os.environ.get(variable) if variable else None
    return parsed if given is None else parsed.set(password=given)


def _literal(since: Any) -> Any:
    """A bound value of the type that the database gave it."""
    if isinstance(since, datetime):
        return sa.literal(since, sa.DateTime(timezone=since.tzinfo is not None))
    return sa.literal(since)


def _engine(url: URL) -> Engine:
    try:
        if url.get_backend_name() == "sqlite":
            path = Path(url.database or "")
            if not path.is_file():
                raise ConfigurationError(f"There is no database {path}.", remedy="Correct the path in the URL.")
            address = f"file:{quote(str(path.absolute()))}?mode=ro"
            return sa.create_engine(
                "sqlite://",
                creator=lambda: sqlite3.connect(address, uri=True, timeout=CONNECT_SECONDS, isolation_level=None),
                poolclass=sa.NullPool,
            )
        timeout = {"connect_timeout": CONNECT_SECONDS} if url.get_backend_name() == "postgresql" else {}
        return sa.create_engine(url, connect_args=timeout)
    except (exc.NoSuchModuleError, ImportError) as error:
        raise ConfigurationError(
            f"Nothing here speaks to {url.drivername!r}: {error}.", remedy="Install the database's SQLAlchemy driver."
        ) from error


def _stacked(older: pl.DataFrame, fresh: pl.DataFrame, where: str) -> pl.DataFrame:
    """Both, in columns of one type; a column that was empty until now takes the type that it has now."""
    for name in fresh.columns:
        a, b = older[name], fresh[name]
        if a.dtype == b.dtype:
            continue
        if a.null_count() == len(a):
            older = older.with_columns(pl.lit(None, dtype=b.dtype).alias(name))
        elif b.null_count() == len(b):
            fresh = fresh.with_columns(pl.lit(None, dtype=a.dtype).alias(name))
        elif a.dtype.is_numeric() and b.dtype.is_numeric():
            older, fresh = (
                older.with_columns(pl.col(name).cast(pl.Float64)),
                fresh.with_columns(pl.col(name).cast(pl.Float64)),
            )
        else:
            raise DataError(
                f"{where}: column {name!r} was {a.dtype}, and is {b.dtype} in newer rows.",
                remedy="Cast the column to one type in the query.",
            )
    return pl.concat([older, fresh])
