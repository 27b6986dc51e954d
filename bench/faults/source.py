"""Faults of a source: what an ETL easily does to flights, and the check of its frames that refuses it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from bench.faults.row import Fault
from components.collector.source import check
from ninefold.errors import DataError
from ninefold.usecase import History, UseCase
from usecases.arrivals.etl import KEY, extract, read_flights, read_weather

_REPORTED = (
    pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC") + pl.duration(hours=1)
).alias("known_at")
"""When a published report was known: with the hour that it is of."""


def faults(use_case: UseCase) -> Iterator[Fault]:
    """Each fault of the source, planted in the whole year."""
    honest = extract()
    check(use_case, honest)
    twin = f"All {honest.requests.height:,} requests and {honest.truths.height:,} truths are taken."
    planted = {
        ("arrival times by plain subtraction of clocks", "known before it was asked for"): _plain_clocks(honest),
        ("a window's events known at departure, before the flight has landed", "known before it happened"): (
            _known_at_departure(honest)
        ),
        ("weather reports by the local clock, which repeats an hour in November", "row of a view repeats"): (
            _local_reports(honest)
        ),
        ("a wind of 1048 mph", "declared range"): _windy(honest),
        ("distances in kilometres", "declared range"): _kilometres(honest),
    }
    for (name, what), history in planted.items():
        yield _refused(name, what, use_case, history, twin)
    keyed = replace(use_case, key=("date", "carrier", "flight"))
    yield _refused("the key without the origin", "key repeats", keyed, honest, twin)


def _refused(name: str, what: str, use_case: UseCase, history: History, twin: str) -> Fault:
    try:
        check(use_case, history)
    except DataError as error:
        caught, words = True, error.message
    else:
        caught, words = False, "The frames are taken as they are."
    return Fault(name=name, kind="schema", check=what, caught=caught, words=words, twin_passes=True, twin=twin)


def _plain_clocks(honest: History) -> History:
    """A flight's duration by the difference of its two local clocks, as published."""
    date = pl.date("year", "month", "day").dt.to_string("%Y-%m-%d")
    clocks = read_flights().select(
        "carrier", "flight", "origin", date=date,
        minutes=_minutes("sched_arr_time") - _minutes("sched_dep_time"), late="arr_delay",
    )  # fmt: skip
    left = honest.requests.select(*KEY, "scheduled_departure").join(clocks, on=KEY, how="inner")
    arrived = left.select(
        *KEY, known_at=pl.col("scheduled_departure") + pl.duration(minutes=pl.col("minutes") + pl.col("late"))
    )
    told = honest.truths.drop("known_at").join(arrived, on=KEY, how="inner")
    return replace(honest, truths=told)


def _minutes(clock: str) -> pl.Expr:
    return pl.col(clock) // 100 * 60 + pl.col(clock) % 100


def _known_at_departure(honest: History) -> History:
    departed = honest.requests.select("departed_at", event_id=pl.concat_str(KEY, separator="|"))
    landings = honest.streams["landings"].join(departed, on="event_id", how="left", maintain_order="left")
    return replace(honest, streams={"landings": landings.with_columns(known_at="departed_at").drop("departed_at")})


def _local_reports(honest: History) -> History:
    """Reports by the hour on the wall, as published beside the hour of UTC; November has one of them twice."""
    wall = pl.datetime("year", "month", "day", "hour", time_zone="UTC", time_unit="us") + pl.duration(hours=5 + 1)
    reports = read_weather().select("origin", _REPORTED, wall=wall)
    weather = honest.views["weather"].join(reports, on=["origin", "known_at"], how="left")
    return replace(honest, views={**honest.views, "weather": weather.drop("known_at").rename({"wall": "known_at"})})


def _windy(honest: History) -> History:
    """The winds as published, without the doubt that arrivals' own ETL has."""
    winds = read_weather().select("origin", _REPORTED, "wind_speed")
    weather = honest.views["weather"].drop("wind_speed").join(winds, on=["origin", "known_at"], how="left")
    return replace(honest, views={**honest.views, "weather": weather})


def _kilometres(honest: History) -> History:
    route = honest.views["route"].with_columns(distance=1.609344 * pl.col("distance"))
    return replace(honest, views={**honest.views, "route": route})
