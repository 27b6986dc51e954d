"""Feast's own calls over our two stores."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import polars as pl
import pytest

import feature_repo
from components.featurizer.historical import write_changelogs
from feature_repo.definitions import apply, feature_store, views_on_disk
from feature_repo.files import source_path
from ninefold.errors import ConfigurationError, DataError, UsageError
from ninefold.online import OnlineRow, open_online_store
from ninefold.settings import settings

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own, of its dependencies.

START, NOON = datetime(2013, 6, 1, tzinfo=UTC), datetime(2013, 7, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True, params=["embedded", pytest.param("cluster", marks=pytest.mark.postgres)])
def _where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file and SQLite; then a registry in PostgreSQL and rows in Redis."""
    if request.param == "cluster":
        monkeypatch.setenv("NINEFOLD_STORE_URL", request.getfixturevalue("new_postgresql_url"))
        monkeypatch.setenv("NINEFOLD_ONLINE_URL", request.getfixturevalue("redis_url"))
        settings.cache_clear()


@pytest.fixture
def history(rides: ModuleType) -> pl.DataFrame:
    requests, _ = rides.write_history(settings().folder("data") / "rides")
    write_changelogs(rides.USE_CASE, None, settings())
    return requests


@pytest.fixture
def store(rides: ModuleType, history: pl.DataFrame) -> Any:
    return apply(rides.USE_CASE, settings())


def references(rides: ModuleType) -> list[str]:
    return [f"{view.view}:{column}" for view in rides.USE_CASE.feature_views() for column in view.columns]


def entities(requests: pl.DataFrame) -> pl.DataFrame:
    return requests.select("driver", "zone", "to", event_timestamp="asked_at")


def online(store: Any, rides: ModuleType, *rows: dict[str, Any]) -> dict[str, list[Any]]:
    return store.get_online_features(
        features=references(rides), entity_rows=list(rows), full_feature_names=True
    ).to_dict()


def test_polars_and_pandas_frames_give_the_same_history(store: Any, rides: ModuleType, history: pl.DataFrame) -> None:
    asked = entities(history)
    jobs = [
        store.get_historical_features(entity_df=frame, features=references(rides), full_feature_names=True)
        for frame in (asked, asked.to_pandas())
    ]
    first, second = (pl.DataFrame(pl.from_arrow(job.to_arrow())) for job in jobs)
    assert first.select(second.columns).equals(second.with_columns(pl.col("driver").cast(first.schema["driver"])))
    assert first.select(asked.columns).equals(asked)
    assert first["driver__seats"].null_count() not in (0, len(first))
    metadata = jobs[0].metadata
    assert metadata.min_event_timestamp == asked["event_timestamp"].min()
    assert set(metadata.keys) == {"driver", "zone", "to"}


def test_materialized_rows_are_what_history_knew_at_that_instant(
    store: Any, rides: ModuleType, history: pl.DataFrame
) -> None:
    store.materialize(START, NOON)
    asked = entities(history).drop_nulls("to").unique(["driver", "zone", "to"]).with_columns(event_timestamp=NOON)
    job = store.get_historical_features(entity_df=asked, features=references(rides), full_feature_names=True)
    expected = pl.DataFrame(pl.from_arrow(job.to_arrow()))
    read = pl.DataFrame(online(store, rides, *asked.drop("event_timestamp").to_dicts()))
    # Feast enforces no time to live online; that is the reader's part.
    names = [name for name in expected.columns if "__" in name and not name.startswith("route")]
    assert read.select(names).equals(expected.select(pl.col(names)), null_equal=True)
    assert read["recent_1h__mean"].null_count() < len(read)


def test_the_front_end_finds_rows_that_feast_wrote_and_feast_those_of_the_stream(store: Any, rides: ModuleType) -> None:
    store.materialize(START, NOON)
    rows = open_online_store(settings().online_url)
    route = pl.read_parquet(source_path(rides.USE_CASE, settings(), rides.USE_CASE.feature_views()[1]))
    newest = route.filter(pl.col("known_at") <= NOON).sort("known_at").row(-1, named=True)
    (row,) = rows.read_many([("route", f"{newest['zone']}|{newest['to']}")])
    assert row == OnlineRow(f"{newest['zone']}|{newest['to']}", newest["known_at"], (newest["surge"],))
    rows.write("recent_1h", [OnlineRow("Z9", NOON, (0.1 + 0.2, 3))])
    rows.write("driver", [OnlineRow("77", NOON, (None, "g|\\é", 1.0))])
    answer = online(store, rides, {"driver": 77, "zone": "Z9", "to": "nowhere"})
    assert answer["recent_1h__mean"] == [0.1 + 0.2]
    assert answer["recent_1h__count"] == [3.0]
    assert (answer["driver__seats"], answer["driver__grade"], answer["driver__electric"]) == ([None], ["g|\\é"], [1.0])
    assert answer["route__surge"] == [None]
    rows.close()


def pushed(known_at: datetime, seats: float | None) -> pd.DataFrame:
    return pd.DataFrame(
        {"driver": [5], "known_at": [pd.Timestamp(known_at)], "seats": [seats], "grade": ["new"], "electric": [None]}
    )


def test_a_push_is_read_at_once_and_an_older_one_changes_nothing(store: Any, rides: ModuleType) -> None:
    store.push("driver_push", pushed(NOON, 4.0))
    store.push("driver_push", pushed(NOON - timedelta(hours=1), 9.0))
    asked = {"driver": 5, "zone": "Z0", "to": "Z1"}
    assert online(store, rides, asked)["driver__seats"] == [4.0]
    store.push("driver_push", pushed(NOON + timedelta(hours=1), None))
    assert online(store, rides, asked)["driver__seats"] == [None]


def test_rows_written_to_the_offline_store_are_history(store: Any, rides: ModuleType) -> None:
    path = source_path(rides.USE_CASE, settings(), rides.USE_CASE.feature_views()[0])
    before = pl.read_parquet(path)
    store.write_to_offline_store("driver", pushed(NOON, 4.0))
    after = pl.read_parquet(path)
    assert after.schema == before.schema
    assert after.tail(1).rows() == [(5, NOON, 4, "new", None)]
    with pytest.raises(DataError, match="don't fit its file"):
        store.write_to_offline_store("driver", pushed(NOON, 4.0).assign(seats="four"))
    assert pl.read_parquet(path).equals(after)


def test_applying_again_or_at_another_length_keeps_what_is_there(rides: ModuleType, store: Any) -> None:
    write_changelogs(rides.USE_CASE, {"recent": "3h"}, settings())
    again = apply(rides.USE_CASE, settings(), {"recent": "3h"})
    names = {view.name for view in again.list_feature_views()}
    assert names == {"driver", "route", "recent_1h", "recent_3h"}
    assert {view.view for view in views_on_disk(rides.USE_CASE, settings())} == names
    by_name = {view.name: view for view in again.list_feature_views()}
    assert by_name["route"].join_keys == ["zone", "to"]
    assert by_name["route"].ttl == timedelta(hours=6)
    assert by_name["recent_3h"].ttl == timedelta(0)
    assert [feature.name for feature in by_name["driver"].features] == ["seats", "grade", "electric"]


def test_two_use_cases_cannot_share_a_views_name(rides: ModuleType, store: Any) -> None:
    from dataclasses import replace

    other = replace(rides.USE_CASE, name="others")
    rides.write_history(settings().folder("data") / "others")
    write_changelogs(other, None, settings())
    with pytest.raises(ConfigurationError, match=r"the use case rides has views called driver, recent_1h, route too"):
        apply(other, settings())


def test_bad_input_is_named(rides: ModuleType, store: Any, history: pl.DataFrame) -> None:
    def ask(frame: Any) -> None:
        store.get_historical_features(entity_df=frame, features=references(rides), full_feature_names=True).to_df()

    with pytest.raises(UsageError, match="not a query"):
        ask("SELECT 1")
    with pytest.raises(DataError, match="no column to"):
        ask(entities(history).drop("to"))
    with pytest.raises(DataError, match="no column event_timestamp, and 0 columns of times"):
        ask(entities(history).drop("event_timestamp"))
    source_path(rides.USE_CASE, settings(), rides.USE_CASE.feature_views()[0]).unlink()
    with pytest.raises(DataError, match=r"driver\.parquet are not there"):
        ask(entities(history))
    with pytest.raises(DataError, match="rows of driver are missing"):
        apply(rides.USE_CASE, settings())


def test_a_key_of_a_number_is_refused(rides: ModuleType) -> None:
    from dataclasses import replace

    from feature_repo.definitions import objects

    view = replace(rides.USE_CASE.batch_views[0], key=("distance",))
    other = replace(rides.USE_CASE, batch_views=(view,), windows=(), derive=rides.derive)
    with pytest.raises(ConfigurationError, match="the key of driver holds 'distance', a number"):
        objects(other, settings(), other.feature_views())


def test_teardown_forgets_the_rows(store: Any, rides: ModuleType) -> None:
    store.materialize(START, NOON)
    store.teardown()
    rows = open_online_store(settings().online_url)
    assert rows.read_many([("driver", "1"), ("recent_1h", "Z0")]) == [None, None]
    rows.close()


def test_the_feast_command_applies_and_materializes(rides: ModuleType, history: pl.DataFrame) -> None:
    folder = Path(feature_repo.__file__).parent
    environment = {
        **os.environ,
        "NINEFOLD_HOME": str(settings().home),
        "NINEFOLD_USE_CASE": "rides",
        "NINEFOLD_USE_CASE_PATH": "rides:USE_CASE",
    }
    options: list[str] = []
    if settings().store_url.startswith("postgresql"):
        feature_store(rides.USE_CASE, settings())
        base = settings().store_url.replace("postgresql://", "postgresql+psycopg://")
        joint = "&" if "?" in base else "?"
        environment["NINEFOLD_FEAST_REGISTRY_URL"] = f"{base}{joint}options=-csearch_path%3Dfeast"
        options = ["-f", "feature_store.cluster.yaml"]
    code = """
import sys
from feast.cli.cli import cli
for arguments in (["apply"], ["feature-views", "list"], ["materialize", "2013-06-01T00:00:00", "2013-07-01T12:00:00"]):
    cli([*sys.argv[1:], *arguments], standalone_mode=False)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *options], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("driver", "route", "recent_1h"))
    assert {view.name for view in feature_store(rides.USE_CASE, settings()).list_feature_views()} == {
        "driver", "route", "recent_1h",
    }  # fmt: skip
    rows = open_online_store(settings().online_url)
    assert all(rows.read_many([("driver", "1"), ("recent_1h", "Z0")]))
    rows.close()
