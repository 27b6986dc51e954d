"""A query's rows: read without a right to write, only what became known since, and never less than there is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ninefold.errors import ConfigurationError, DataError
from ninefold.sources import Database
from ninefold.sources.database import check_url, with_password


def ids(shop: Any) -> list[int]:
    frame: pl.DataFrame = shop.source.collect(shop.source.scan())
    return sorted(frame["id"].to_list())


def test_a_second_extract_reads_only_what_became_known_since(shop: Any) -> None:
    assert shop.source.update() == 40
    assert ids(shop) == list(range(1, 41))
    shop.sell(41, 41)
    shop.sell(42, 42)
    # The newest of before is asked for again: another may have become known in the same instant.
    assert shop.source.update() == 3
    assert ids(shop) == list(range(1, 43))


def test_rows_of_the_same_instant_are_neither_lost_nor_doubled(shop: Any) -> None:
    shop.source.update()
    shop.sell(41, 40)
    assert ids(shop) == list(range(1, 42))
    assert ids(shop) == list(range(1, 42))


def test_rows_that_were_removed_corrected_or_committed_late_are_noticed(shop: Any) -> None:
    shop.source.update()
    shop.run("DELETE FROM orders WHERE id = ?", 7)
    assert 7 not in ids(shop)
    shop.sell(50, 5.5)
    assert 50 in ids(shop)
    shop.run("DELETE FROM orders WHERE id = ?", 9)
    shop.sell(9, 60, paid=99.0)
    frame = shop.source.collect(shop.source.scan())
    assert frame.filter(pl.col("id") == 9)["paid"].to_list() == [99.0]


def test_the_state_changes_with_what_the_database_holds_and_reads_nothing(shop: Any) -> None:
    before = shop.source.state()
    assert shop.source.state() == before
    assert not shop.source.kept.exists()
    shop.sell(41, 41)
    assert shop.source.state() != before


def test_another_query_or_value_of_it_reads_all_anew(shop: Any) -> None:
    shop.source.update()
    other = dataclasses.replace(shop.source, parameters={"least": 31})
    assert other.update() == 10
    assert other.update() == 1
    assert shop.source.update() == 40


def test_what_is_kept_and_damaged_is_read_again(shop: Any) -> None:
    shop.source.update()
    shop.source.kept.write_bytes(b"PAR1 and no more")
    assert shop.source.update() == 40


def test_it_can_not_write(shop: Any) -> None:
    for statement in ("DELETE FROM orders", "SELECT 1 AS known_at; DELETE FROM orders", "UPDATE orders SET paid = 0"):
        shop.source.query.write_text(statement)
        with pytest.raises(ConfigurationError, match="is not one SELECT"):
            shop.source.update()
    shop.source.query.write_text("WITH gone AS (DELETE FROM orders RETURNING *) SELECT * FROM gone WHERE id > :least")
    with pytest.raises(DataError, match="the database refuses"):
        shop.source.update()
    shop.source.query.write_text("SELECT * FROM orders WHERE id >= :least")
    assert ids(shop) == list(range(1, 41))


def test_a_function_that_writes_is_refused_by_the_transaction(shop: Any) -> None:
    if not shop.url.startswith("postgresql"):
        pytest.skip("SQLite has no function that writes")
    shop.run("CREATE SEQUENCE drawn")
    shop.source.query.write_text("SELECT id, known_at, nextval('drawn') AS number FROM orders WHERE id >= :least")
    with pytest.raises(DataError, match="read-only transaction"):
        shop.source.update()


def test_a_query_that_fails_or_lacks_its_time_says_so(shop: Any) -> None:
    shop.source.query.write_text("SELECT * FROM odrers WHERE id > :least")
    with pytest.raises(DataError, match=r"orders\.sql: the database refuses: .*odrers.*asked at"):
        shop.source.update()
    shop.source.query.write_text("SELECT id, paid FROM orders WHERE id > :least")
    with pytest.raises(DataError, match=r"known_at"):
        shop.source.update()
    shop.source.query.write_text("SELECT id, NULL AS known_at FROM orders WHERE id > :least")
    with pytest.raises(DataError, match=r"39 of 39 rows have no known_at"):
        shop.source.update()


def test_values_are_what_the_database_says(shop: Any) -> None:
    shop.run("UPDATE orders SET paid = NULL WHERE id = ?", 2)
    frame = shop.source.collect(shop.source.scan())
    assert frame.schema["id"] == pl.Int64
    assert frame.schema["paid"] == pl.Float64
    assert frame["paid"].null_count() == 1


def test_a_column_of_several_types_is_named_with_its_row(tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("CREATE TABLE t (v, known_at text)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(1, "2024-01-01"), ("two", "2024-01-02")])
    (tmp_path / "q.sql").write_text("SELECT * FROM t")
    source = Database(name="x", url=f"sqlite:///{tmp_path / 'x.db'}", query=tmp_path / "q.sql")
    with pytest.raises(DataError, match=r"column 'v', row 2: 'two' is a text, and the column's others are a number"):
        source.update()
    (tmp_path / "q.sql").write_text("SELECT 1 AS v, known_at || 'T0' AS known_at FROM t UNION SELECT 2, '2024-01-01'")
    with pytest.raises(DataError, match="a text of several forms"):
        source.update()


@pytest.mark.parametrize(
    "url", ["postgresql://reader:hunter2@host/shop", "postgresql://host/shop?password=hunter2", "not a url"]
)
def test_an_address_with_a_password_is_refused_and_the_password_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"holds a password|can't be read") as refused:
        check_url(url, "SHOP_DATABASE_PASSWORD")
    assert "hunter2" not in str(refused.value)


def test_the_password_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_password("postgresql://reader@host/shop", "SHOP_PASSWORD").password is None
    monkeypatch.setenv("SHOP_PASSWORD", "hunter2")
    assert with_password("postgresql://reader@host/shop", "SHOP_PASSWORD").password == "hunter2"


def test_a_database_out_of_reach_says_where_it_was_asked_and_not_with_which_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "hunter2")
    (tmp_path / "q.sql").write_text("SELECT 1 AS known_at")
    source = Database(
        name="x", url="postgresql://reader@127.0.0.1:1/shop", password="SHOP_PASSWORD", query=tmp_path / "q.sql"
    )
    with pytest.raises(DataError, match=r"asked at postgresql://reader@127\.0\.0\.1:1/shop.*SHOP_PASSWORD") as refused:
        source.update()
    assert "hunter2" not in str(refused.value)
    missing = Database(name="x", url="sqlite:////nowhere/shop.db", query=tmp_path / "q.sql")
    with pytest.raises(ConfigurationError, match=r"There is no database /nowhere/shop\.db"):
        missing.update()
    other = Database(name="x", url="clickhouse://host/shop", query=tmp_path / "q.sql")
    with pytest.raises(ConfigurationError, match="Nothing here speaks to 'clickhouse'"):
        other.update()
