"""What the model sees: request and features become input columns, the same way for 300,000 rows and for one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ninefold.fields import Columns, Input
from ninefold.local_clock import USClock

Array = np.ndarray[Any, Any]

_CATEGORIES = ("carrier", "origin", "destination")
_NUMBERS = {
    "route": {"latitude": "route__latitude", "longitude": "route__longitude", "distance": "route__distance"},
    "history": {"route_gain": "route_gain__mean_28d", "route_flights": "route_gain__count_28d",
                "route_gain_week": "route_gain__mean_7d"},
    "hot": {"destination_gain": "destination_gain__mean", "destination_landings": "destination_gain__count",
            "destination_gain_day": "destination_day__mean", "origin_gain": "origin_gain__mean",
            "origin_landings": "origin_gain__count", "origin_gain_now": "origin_now__mean"},
    "weather": {"temperature": "weather__temperature", "humidity": "weather__humidity",
                "wind_speed": "weather__wind_speed", "precipitation": "weather__precipitation",
                "pressure": "weather__pressure", "visibility": "weather__visibility"},
    "plane": {"seats": "plane__seats"},
}  # fmt: skip
"""Group → input → the feature that it is without a change."""
_UNCHANGED = tuple(pair for names in _NUMBERS.values() for pair in names.items()) + tuple((c, c) for c in _CATEGORIES)

_CALENDAR = ("weekday", "departure_clock", "actual_departure_clock", "arrival_clock_utc")
INPUTS = (
    Input(name="departure_delay", group="departure"),
    *(Input(name=name, kind="category", group="route") for name in _CATEGORIES),
    Input(name="scheduled_duration", group="route"),
    *(Input(name=name, group=group) for group, names in _NUMBERS.items() for name in names),
    Input(name="wind_north", group="weather"),
    Input(name="wind_east", group="weather"),
    Input(name="plane_age", group="plane"),
    *(Input(name=name, group="calendar") for name in _CALENDAR),
)

_MINUTE = 60_000_000.0
_DAY_MINUTES = 1440.0
_NEW_YORK = USClock(standard_hours=-5)


def derive(columns: Columns) -> dict[str, Array]:
    """Input columns of request and feature columns; a missing feature stays NaN.

    Times of the day are in minutes: of the origin's local clock for departures, of UTC for the arrival, whose zone is
    no feature. Wind is split into its components, since 359° and 1° are neighbours.
    """
    scheduled = columns["scheduled_departure"].view(np.int64)
    departed = columns["departed_at"].view(np.int64)
    arrival = columns["scheduled_arrival"].view(np.int64)
    delay = (departed - scheduled) / _MINUTE
    local = _NEW_YORK.minutes(scheduled)
    days = np.floor(local / _DAY_MINUTES)
    clock = local - days * _DAY_MINUTES
    year = columns["departed_at"].astype("datetime64[Y]").view(np.int64) + 1970.0
    speed = columns["weather__wind_speed"]
    direction = columns["weather__wind_direction"] * (np.pi / 180.0)
    inputs: dict[str, Array] = {name: columns[feature] for name, feature in _UNCHANGED}
    inputs["departure_delay"] = delay
    inputs["scheduled_duration"] = (arrival - scheduled) / _MINUTE
    inputs["wind_north"] = speed * np.cos(direction)
    inputs["wind_east"] = speed * np.sin(direction)
    inputs["plane_age"] = year - columns["plane__built"]
    # Day 0, 1970-01-01, was a Thursday; Monday is 0.
    inputs["weekday"] = (days + 3.0) % 7.0
    inputs["departure_clock"] = clock
    inputs["actual_departure_clock"] = (clock + delay) % _DAY_MINUTES
    inputs["arrival_clock_utc"] = arrival / _MINUTE % _DAY_MINUTES
    return inputs


def baseline(inputs: Columns) -> Array:
    """The departure delay and what the carrier gained on this route over 28 days; without that, nothing gained."""
    gain = inputs["route_gain"]
    predictions: Array = inputs["departure_delay"] + np.where(np.isnan(gain), 0.0, gain)
    return predictions
