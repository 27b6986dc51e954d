"""A database with a table of orders, in SQLite and in PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ninefold.sources import Database

START = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Shop:
    """A database that somebody else writes to.

    Args:
        url: SQLAlchemy URL.
        run: Executes a statement with ``?`` for its values.
        source: The query's rows.
    """

    url: str
    run: Callable[..., Any]
    source: Database

    def sell(self, number: int, minutes: float, paid: float = 1.5) -> None:
        """Adds an order that became known so many minutes after the start."""
        self.run("INSERT INTO orders VALUES (?, ?, ?, ?)", number, paid, "north", START + timedelta(minutes=minutes))


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Orders 1 to 40, one a minute."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'shop.db'}"
        connection: Any = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
        connection.execute("CREATE TABLE orders (id integer, paid, depot text, known_at text)")

        def run(statement: str, *values: Any) -> None:
            texts = [v.strftime("%Y-%m-%d %H:%M:%S+00:00") if isinstance(v, datetime) else v for v in values]
            connection.execute(statement, texts)
    else:
        url = request.getfixturevalue("new_postgresql_url")
        connection = psycopg.connect(url, autocommit=True)
        connection.execute("CREATE TABLE orders (id bigint, paid numeric, depot text, known_at timestamptz)")

        def run(statement: str, *values: Any) -> None:
            connection.execute(statement.replace("?", "%s"), values)

    (tmp_path / "orders.sql").write_text("-- what was sold; all of it\nSELECT * FROM orders WHERE id >= :least;\n")
    source = Database(name="orders", url=url, query=tmp_path / "orders.sql", parameters={"least": 1})
    found = Shop(url=url, run=run, source=source)
    for number in range(1, 41):
        found.sell(number, number)
    yield found
    connection.close()
