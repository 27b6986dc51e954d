"""The contract of arrivals: what is asked, what is known, what counts, and what follows from an answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

import numpy as np

from ninefold.features import BatchView, Stream
from ninefold.fields import Columns, Field, Metric
from ninefold.rollout.policy import Guardrails, RolloutPolicy
from ninefold.splits import TimeSplit
from ninefold.usecase import Gates, UseCase
from ninefold.windows.declaration import Window
from usecases.arrivals.inputs import INPUTS, baseline, derive

Array = np.ndarray[Any, Any]

LATEST = 30.0
"""Minutes late at which a connection of 45 minutes is just reached: from gate to gate a passenger needs 15."""

_CARRIER = Field(name="carrier", kind="category", pattern="[A-Z0-9]{2}", example="UA", description="IATA code.")
_ORIGIN = Field(name="origin", kind="category", categories=("EWR", "JFK", "LGA"), example="EWR")
_DESTINATION = Field(name="destination", kind="category", pattern="[A-Z]{3}", example="IAH", description="IATA code.")
_DATE = Field(
    name="date", kind="category", pattern=r"\d{4}-\d{2}-\d{2}", example="2013-07-01",
    description="Day of service: of the scheduled departure, in New York.",
)  # fmt: skip
_TAIL_NUMBER = Field(name="tail_number", kind="category", nullable=True, example="N14228", description="The plane's.")
_GAIN = Field(name="gain", kind="integer", unit="min", example=-9, description="Arrival delay less departure delay.")


def _time(name: str, example: str, description: str) -> Field:
    return Field(name=name, kind="time", example=example, description=description)


def _number(name: str, unit: str, minimum: float, maximum: float) -> Field:
    return Field(name=name, kind="number", unit=unit, minimum=minimum, maximum=maximum)


def _numbers(**units: str | None) -> tuple[Field, ...]:
    return tuple(Field(name=name, kind="number", unit=unit) for name, unit in units.items())


_WEATHER = (
    _number("temperature", "°F", -60, 130),
    _number("humidity", "%", 0, 100),
    _number("wind_direction", "degree", 0, 360),
    _number("wind_speed", "mph", 0, 200),
    _number("precipitation", "inch", 0, 15),
    _number("pressure", "mbar", 870, 1090),
    _number("visibility", "mile", 0, 100),
)


def _window(name: str, key: str, hours: int, choices: tuple[int, ...], *more: Literal["count"]) -> Window:
    return Window(
        name=name, stream="landings", key=(key,), value="gain", aggregates=("mean", *more),
        length=timedelta(hours=hours), lengths=tuple(timedelta(hours=choice) for choice in choices),
    )  # fmt: skip


def decide(request: Mapping[str, Any], prediction: float) -> dict[str, str]:
    """What to do for passengers who have 45 minutes to connect: keep the connection, or rebook before they land."""
    return {"connection_45min": "rebook" if prediction > LATEST else "keep"}


def connections(request: Columns, truth: Array, prediction: Array) -> dict[str, float]:
    """What became of connections of 45 minutes, as shares that add up to 1, had every flight carried one.

    Kept: left alone and reached. Missed: left alone, not reached. Falsely warned: rebooked, though it would have been
    reached. Rebooked in time: rebooked, rightly.
    """
    late, warned = truth > LATEST, prediction > LATEST
    return {
        "connections_kept": float(np.mean(~late & ~warned)),
        "connections_missed": float(np.mean(late & ~warned)),
        "connections_falsely_warned": float(np.mean(~late & warned)),
        "connections_rebooked_in_time": float(np.mean(late & warned)),
    }


def day_of_service(request: Columns) -> Array:
    """The block: one storm delays the flights of a whole day, so days are what is independent."""
    return request["date"]


USE_CASE = UseCase(
    name="arrivals",
    title="At departure, how late will this flight arrive?",
    problem="regression",
    request=(
        _DATE,
        _CARRIER,
        Field(name="flight", kind="integer", minimum=1, maximum=9999, example=1545, description="Flight number."),
        _ORIGIN,
        _DESTINATION,
        _TAIL_NUMBER,
        _time("scheduled_departure", "2013-07-01T09:15:00Z", "When it was to leave its gate."),
        _time("scheduled_arrival", "2013-07-01T12:19:00Z", "When it is to arrive at its gate."),
        _time("departed_at", "2013-07-01T09:17:00Z", "When it left its gate: the decision moment."),
    ),
    key=("date", "carrier", "flight", "origin"),
    decided_at="departed_at",
    target=Field(name="arrival_delay", kind="number", unit="min", minimum=-180, maximum=2880, example=11),
    metric=Metric(name="mae", direction="minimize", unit="min"),
    extract="usecases.arrivals.etl:extract",
    split=TimeSplit(),
    inputs=INPUTS,
    derive=derive,
    offset="departure_delay",
    baseline=baseline,
    decide=decide,
    block=day_of_service,
    batch_views=(
        BatchView(
            name="route_gain",
            key=("carrier", "origin", "destination"),
            columns=_numbers(mean_28d="min", count_28d=None, mean_7d="min"),
            time_to_live=timedelta(days=2),
            description="Mean minutes that a carrier lost on its way on a route, over 28 and 7 days; once a day.",
        ),
        BatchView(
            name="weather",
            key=("origin",),
            columns=_WEATHER,
            time_to_live=timedelta(hours=3),
            description="The origin's hourly weather report.",
        ),
        BatchView(
            name="plane",
            key=("tail_number",),
            columns=_numbers(seats=None, built="year"),
            description="The plane, as the register has it.",
        ),
        BatchView(
            name="route",
            key=("origin", "destination"),
            columns=(
                # From New York nobody flies farther than to Hawaii.
                _number("distance", "mile", 10, 5500),
                _number("latitude", "degree", -90, 90),
                _number("longitude", "degree", -180, 180),
            ),
            description="The route's length, and where it leads.",
        ),
    ),
    streams=(
        # Departures are no stream on purpose: at its decision moment a flight would count itself.
        Stream(
            name="landings",
            fields=(_CARRIER, _ORIGIN, _DESTINATION, _GAIN),
            description="A flight from New York has landed.",
        ),
    ),
    windows=(
        # Two lengths a key: the difference says whether it gets better or worse.
        _window("destination_gain", "destination", 6, (3, 6, 9), "count"),
        _window("destination_day", "destination", 24, (12, 24, 48)),
        _window("origin_gain", "origin", 3, (2, 3, 5), "count"),
        _window("origin_now", "origin", 1, (1,)),
    ),
    slices=("origin", "carrier"),
    # The barometers are silent in a tenth of all hours; the month's share wanders by 9 points.
    gates=Gates(max_null_share=0.1),
    # 3 seconds of 11 minutes: less is not worth a new model. Planes in the air land within a day. Passengers rebook by
    # what is answered, so also the first model has to be better than the baseline on live flights, not only offline.
    rollout=RolloutPolicy(
        first_release="rollout",
        minimum_effect=0.005,
        deadline=timedelta(days=1),
        # In some fortnights the barometers are silent in a quarter of the hours. Nobody misses a tenth of a second in
        # an answer about a flight, and no candidate goes for being asked on a busy machine.
        guardrails=Guardrails(max_null_increase=0.2, latency_floor_ms=100.0),
    ),
    application_metrics=connections,
    explain={
        "departure": "the delay at departure",
        "route": "the route, its carrier and its schedule",
        "history": "what the carrier lost on this route in the last weeks",
        "hot": "how flights fared that landed in the last hours",
        "weather": "the weather at the origin",
        "plane": "the plane",
        "calendar": "the day and the hour",
    },
    minimum_prediction=-180.0,
    maximum_prediction=2880.0,
)
