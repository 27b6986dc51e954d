from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from types import ModuleType

import polars as pl
import pytest

from components.featurizer.historical import write_changelogs
from components.featurizer.materialize import BatchRowFeed, materialize
from feature_repo.definitions import apply
from ninefold.errors import DataError
from ninefold.online import OnlineRow, OnlineStore, open_online_store
from ninefold.settings import settings

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own, of its dependencies.

DAY = datetime(2013, 7, 1, tzinfo=UTC)
KEYS = [("driver", str(i)) for i in range(6)] + [("route", f"Z{i}|Z{j}") for i in range(3) for j in range(3)]


@pytest.fixture
def history(rides: ModuleType) -> pl.DataFrame:
    return rides.write_history(settings().folder("data") / "rides")


@pytest.fixture
def store(history):
    opened = open_online_store(settings().online_url)
    yield opened
    opened.close()


def rows(store: OnlineStore) -> list[OnlineRow | None]:
    return store.read_many(KEYS)


@pytest.mark.parametrize("since", [None, DAY + timedelta(hours=9)])
def test_it_writes_the_rows_that_feast_would(rides: ModuleType, store: OnlineStore, since: datetime | None) -> None:
    until = DAY + timedelta(hours=15)
    written = materialize(rides.USE_CASE, settings(), until, since)
    ours = rows(store)
    assert sum(written.values()) == sum(row is not None for row in ours) > 3
    assert store.watermarks(["driver", "route"]) == {"driver": until, "route": until}
    for view in ("driver", "route"):
        store.forget(view)
    write_changelogs(rides.USE_CASE, None, settings())
    apply(rides.USE_CASE, settings()).materialize(since or datetime(1970, 1, 2, tzinfo=UTC), until)
    # By representation: 1 equals 1.0 and True in Python, and rows have to be the same bytes.
    assert repr(rows(store)) == repr(ours)


def test_again_changes_nothing_and_earlier_does_not_go_back(rides: ModuleType, store: OnlineStore) -> None:
    materialize(rides.USE_CASE, settings(), DAY + timedelta(hours=15))
    before = rows(store)
    assert materialize(rides.USE_CASE, settings(), DAY + timedelta(hours=15)) == {"driver": 0, "route": 0}
    assert materialize(rides.USE_CASE, settings(), DAY + timedelta(hours=5)) == {"driver": 0, "route": 0}
    assert rows(store) == before
    assert store.watermark("driver") == DAY + timedelta(hours=15)


def test_the_feed_minute_by_minute_is_materialization_at_every_minute(rides: ModuleType, store: OnlineStore) -> None:
    feed = BatchRowFeed(rides.USE_CASE, settings())
    for minute in range(0, 24 * 60, 7):
        feed.write(store, DAY + timedelta(minutes=minute))
        if minute % 210 == 0:
            expected = {(view, row.key): row for view, row in _newest(rides, DAY + timedelta(minutes=minute))}
            assert rows(store) == [expected.get(key) for key in KEYS]
    feed.write(store, DAY + timedelta(days=9))
    assert feed.advance(DAY + timedelta(days=99)) == {}


def _newest(rides: ModuleType, until: datetime) -> list[tuple[str, OnlineRow]]:
    feed = BatchRowFeed(rides.USE_CASE, settings())
    return [(view, row) for view, known in feed.advance(until).items() for row in known]


def test_the_feed_gives_each_row_once_and_costs_nothing_between(rides: ModuleType, history) -> None:
    feed = BatchRowFeed(rides.USE_CASE, settings())
    instants = [DAY + timedelta(minutes=minute) for minute in range(24 * 60)]
    given = sum(len(known) for instant in instants for known in feed.advance(instant).values())
    folder = settings().folder("data") / "rides" / "views"
    assert given == sum(len(pl.read_parquet(folder / f"{view}.parquet")) for view in ("driver", "route"))
    started = time.perf_counter()
    for _ in range(100):
        for instant in instants[:100]:
            feed.advance(instant)
    assert (time.perf_counter() - started) / 10_000 < 20e-6


def test_not_a_number_is_null_online(rides: ModuleType, store: OnlineStore) -> None:
    path = settings().folder("data") / "rides" / "views" / "route.parquet"
    row = pl.read_parquet(path)[:1].with_columns(surge=pl.lit(float("nan")), zone=pl.lit("Z0"), to=pl.lit("Z1"))
    row.write_parquet(path)
    materialize(rides.USE_CASE, settings(), DAY + timedelta(days=2))
    (written,) = store.read_many([("route", "Z0|Z1")])
    assert written is not None
    assert written.values == (None,)


def test_broken_rows_are_named(rides: ModuleType, history) -> None:
    path = settings().folder("data") / "rides" / "views" / "driver.parquet"
    whole = pl.read_parquet(path)
    for broken, message in (
        (whole.drop("seats"), "no column seats"),
        (whole.with_columns(pl.lit(None, pl.Int64).alias("driver")), "'driver' is null"),
        (whole.with_columns(pl.lit(None, pl.Datetime("us", "UTC")).alias("known_at")), "known_at is null"),
    ):
        broken.write_parquet(path)
        with pytest.raises(DataError, match=message):
            materialize(rides.USE_CASE, settings(), DAY)
    path.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="can't be read"):
        materialize(rides.USE_CASE, settings(), DAY)
