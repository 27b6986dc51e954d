"""What the model of arrivals sees, its baseline on July, and what follows from an answer."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.dataset import to_numpy
from ninefold.usecase import History
from ninefold.windows.batch import changelog, values_at
from usecases.arrivals import USE_CASE
from usecases.arrivals.contract import connections, decide
from usecases.arrivals.inputs import baseline, derive

NUMBERS = [f for view in USE_CASE.feature_views() for f in view.features]


def columns(scheduled: datetime, *, delay: float = 0.0, minutes: float = 120.0, **features: float) -> dict[str, Any]:
    """One request and its features, all others missing."""

    def instant(when: datetime) -> Any:
        return np.array([when.astimezone(UTC).replace(tzinfo=None)], dtype="datetime64[us]")

    request = {
        "scheduled_departure": instant(scheduled),
        "departed_at": instant(scheduled + timedelta(minutes=delay)),
        "scheduled_arrival": instant(scheduled + timedelta(minutes=minutes)),
        **{name: np.array(["UA"], dtype=object) for name in ("carrier", "origin", "destination")},
    }
    return request | {name: np.array([features.get(name, np.nan)]) for name in NUMBERS}


@given(
    when=st.datetimes(datetime(2008, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC)),
    delay=st.integers(-60, 1500),
)
def test_departure_clocks_and_weekday_are_new_york_s(when: datetime, delay: int) -> None:
    inputs = derive(columns(when, delay=delay))
    local = when.astimezone(ZoneInfo("America/New_York"))
    clock = local.hour * 60 + local.minute + local.second / 60 + local.microsecond / 6e7
    assert inputs["weekday"][0] == local.weekday()
    assert inputs["departure_clock"][0] == pytest.approx(clock, abs=1e-5)
    assert inputs["departure_delay"][0] == delay
    between = abs(inputs["actual_departure_clock"][0] - (clock + delay) % 1440)
    assert min(between, 1440 - between) < 1e-5


def test_wind_from_either_side_of_north_is_nearly_the_same_wind() -> None:
    east, west = (
        derive(columns(datetime(2013, 7, 1, 9, tzinfo=UTC), weather__wind_speed=20, weather__wind_direction=degrees))
        for degrees in (1, 359)
    )
    assert east["wind_north"] == pytest.approx(west["wind_north"])
    assert east["wind_east"] == pytest.approx(-west["wind_east"])
    assert abs(east["wind_east"][0]) < 0.5


def test_a_plane_is_as_old_as_the_year_of_its_departure_says() -> None:
    assert derive(columns(datetime(2013, 7, 1, tzinfo=UTC), plane__built=2004))["plane_age"][0] == 9


def test_the_baseline_carries_the_delay_over_and_adds_what_the_route_loses() -> None:
    when = datetime(2013, 7, 1, 9, tzinfo=UTC)
    assert baseline(derive(columns(when, delay=12, route_gain__mean_28d=-7.5)))[0] == 4.5
    assert baseline(derive(columns(when, delay=12)))[0] == 12


def test_the_baseline_reaches_its_published_error_in_july(july: dict[str, Any]) -> None:
    predictions = baseline(derive(july["columns"]))
    assert np.abs(predictions - july["truth"]).mean() == pytest.approx(15.25, abs=0.05)
    assert len(predictions) == 28_353


def test_the_hot_features_of_a_flight_hold_only_flights_that_had_landed(
    july: dict[str, Any], history: Callable[[str], History]
) -> None:
    landings = history("arrivals").streams["landings"]
    requests = july["requests"]
    for place in range(0, requests.height, 1500):
        row = requests.row(place, named=True)
        landed = landings.filter(pl.col("destination") == row["destination"], pl.col("known_at") <= row["departed_at"])
        recent = landed.filter(pl.col("known_at") > row["departed_at"] - timedelta(hours=6))
        found = july["columns"]["destination_gain__mean"][place]
        assert (np.isnan(found) and recent.is_empty()) or found == recent["gain"].sum() / recent.height


def test_inputs_of_july_are_missing_no_more_often_than_is_explained(july: dict[str, Any]) -> None:
    inputs = derive(july["columns"])
    shares = {i.name: np.isnan(inputs[i.name]).mean() for i in USE_CASE.inputs if i.kind == "number"}
    assert {name for name, share in shares.items() if share > 0.06} == {
        "destination_gain", "plane_age", "pressure", "seats",
    }  # fmt: skip
    assert shares["destination_gain"] < 0.2


@pytest.mark.parametrize(("prediction", "decision"), [(30.0, "keep"), (30.1, "rebook"), (-12.0, "keep")])
def test_a_connection_of_45_minutes_is_rebooked_when_15_do_not_remain(prediction: float, decision: str) -> None:
    assert decide({}, prediction) == {"connection_45min": decision}


def test_what_becomes_of_connections_adds_up() -> None:
    truth = np.array([0.0, 10.0, 31.0, 90.0, -5.0])
    prediction = np.array([5.0, 40.0, 20.0, 60.0, 0.0])
    assert connections({}, truth, prediction) == {
        "connections_kept": 0.4,
        "connections_missed": 0.2,
        "connections_falsely_warned": 0.2,
        "connections_rebooked_in_time": 0.2,
    }


@pytest.fixture(scope="module")
def july(history: Callable[[str], History]) -> dict[str, Any]:
    """July's requests with a truth, all their features as of their departure, and the truths."""
    past = history("arrivals")
    known = past.requests.filter(pl.col("departed_at").is_between(*_month(7), closed="left")).join(
        past.truths.select(*USE_CASE.key, "truth"), on=USE_CASE.key
    )
    requests = known.sort("departed_at")
    found = {f.name: to_numpy(requests[f.name]) for f in USE_CASE.request}
    for view in USE_CASE.batch_views:
        rows = past.views[view.name].sort("known_at")
        joined = requests.join_asof(
            rows, left_on="departed_at", right_on="known_at", by=list(view.key), tolerance=view.time_to_live,
            check_sortedness=False,
        )  # fmt: skip
        found |= {f: to_numpy(joined[c.name]) for f, c in zip(view.features, view.columns, strict=True)}
    for window in USE_CASE.windows:
        values = values_at(changelog(past.streams[window.stream], window), requests, window, at="departed_at")
        found |= {feature: to_numpy(values[feature]) for feature in window.features}
    return {"requests": requests, "columns": found, "truth": requests["truth"].to_numpy()}


def _month(number: int) -> tuple[datetime, datetime]:
    return datetime(2013, number, 1, tzinfo=UTC), datetime(2013, number + 1, 1, tzinfo=UTC)
