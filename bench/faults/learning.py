"""Faults of what is learned from: two that are seen before a release, and the leak that only a rollout sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import polars as pl

from bench.faults.flights import TEST_FROM, Flights, Model, mae
from bench.faults.production import Shadow, rolled_out, stood, told_of
from bench.faults.row import Fault
from components.evaluator.gate import Check, GateDecision
from components.preparer.split import split
from ninefold.dataset import FEATURE
from ninefold.errors import ConfigurationError
from ninefold.features import BatchView
from ninefold.fields import Field, Input
from ninefold.splits import HashSplit
from ninefold.usecase import UseCase
from usecases.arrivals.etl import KEY, read_flights

SHADOWED_DAYS = 10


def last_week(flights: Flights) -> Fault:
    """A model of the last seven days alone, and chosen on them."""
    test = flights.test_set("honest", flights.july, flights.card)
    week = flights.parts.validation.filter(pl.col("decided_at") >= TEST_FROM - timedelta(days=7))
    model = flights.learn("week", dataclasses.replace(flights.parts, training=week, validation=week), flights.card)
    found = flights.gate(flights.use_case, model, test)
    honest = flights.gate(flights.use_case, flights.honest, test)
    check, twin = (_check(decision, "beats_baseline") for decision in (found, honest))
    return Fault(
        name="trained on the last 7 days only", kind="gate", check="beats_baseline",
        caught=found.action == "reject" and check.outcome == "failed", words=check.words,
        twin_passes=honest.action == "release", twin=twin.words, offline=mae(test.truth, model.predict(flights.july)),
    )  # fmt: skip


def _check(decision: GateDecision, name: str) -> Check:
    return next(check for check in decision.reasons if check.name == name)


def random_split(flights: Flights) -> Fault:
    """A test set drawn at random from the days that the model learns from."""
    known = flights.frame.filter(pl.col("decided_at") < TEST_FROM)
    # What the contract refuses has to be asked of the splitter behind its back.
    timeless = dataclasses.replace(flights.use_case, decided_at=None, split=HashSplit(salt="bench"))
    parts = flights.divided(known, timeless)
    model = flights.learn("random", parts, flights.card)
    try:
        dataclasses.replace(flights.use_case, split=HashSplit(salt="bench"))
    except ConfigurationError as error:
        caught, words = True, error.message
    else:
        caught, words = False, "The declaration is taken as it is."
    # Months differ in how hard they are, so the two errors alone do not say what the split is worth.
    drawn, july = (
        (mae(part["truth"], model.predict(part)), mae(part["truth"], part["baseline"].to_numpy()))
        for part in (parts.test, flights.july)
    )
    notes = split(flights.frame.head(1000), flights.use_case, TEST_FROM).notes
    return Fault(
        name="a random split instead of one by time", kind="schema", check="the use case's declaration",
        caught=caught, words=words, twin_passes=notes["by"] == "time",
        twin=f"Split by time: tested on what was decided from {flights.parts.notes['split']['test_from'][:10]} on. Of "
        f"the baseline's error the model takes {_taken(drawn):.1%} on the random part, and {_taken(july):.1%} in July.",
        offline=drawn[0], online=july[0],
    )  # fmt: skip


def _taken(errors: tuple[float, float]) -> float:
    """What a model's error is less than the baseline's, as a share of it."""
    of_model, of_baseline = errors
    return 1.0 - of_model / of_baseline


def with_air_time(use_case: UseCase) -> UseCase:
    """Arrivals with an input that is known once a flight has landed, declared as one that is known when it departs."""
    flown = BatchView(name="flown", key=KEY, columns=(Field(name="air_time", kind="number", unit="min"),))
    air_time = Input(name="air_time", group="departure", column="flown__air_time")
    return dataclasses.replace(
        use_case, inputs=(*use_case.inputs, air_time), batch_views=(*use_case.batch_views, flown)
    )


def write_air_times(flights: Flights, *, honest: bool) -> None:
    """The rows of ``flown``: known at departure, or, told honestly, at landing."""
    date = pl.date("year", "month", "day").dt.to_string("%Y-%m-%d")
    flown = read_flights().select(
        "carrier", "flight", "origin", date=date, air_time=pl.col("air_time").cast(pl.Float64)
    )
    known = flights.truths if honest else flights.requests.rename({"departed_at": "known_at"})
    rows = known.select(*KEY, "known_at").cast({"flight": pl.Int64}).join(flown, on=KEY).drop_nulls("air_time")
    rows.sort("known_at").write_parquet(flights.data / "views" / "flown.parquet")


def leaking_air_time(flights: Flights, twin: Model) -> Fault:
    """A model that learned from what is known only later; the real controller shadows it."""
    use_case = with_air_time(flights.use_case)
    write_air_times(flights, honest=True)
    honest, _ = flights.featurized(use_case)
    told = 1.0 - honest[FEATURE + "flown__air_time"].null_count() / len(honest)
    write_air_times(flights, honest=False)
    frame, card = flights.featurized(use_case)
    parts = flights.divided(frame, use_case)
    model = flights.learn("air_time", parts, card, rounds=150)
    gate = flights.gate(use_case, model, flights.test_set("air_time", parts.test, card))
    july, nothing = parts.test, np.full(len(parts.test), np.nan)
    online = model.predict(july, air_time=nothing)
    shadow = Shadow(value=online, features={"flown__air_time": [None] * len(july)})
    looks, took = rolled_out(
        flights, use_case, flights.honest, model, shadow, name="air_time", most_days=SHADOWED_DAYS
    )  # fmt: skip
    others, _ = rolled_out(
        flights, flights.use_case, flights.honest, twin, Shadow(value=twin.predict(flights.july)), name="other_seed",
        most_days=SHADOWED_DAYS,
    )  # fmt: skip
    last = looks[-1]
    reasons = {reason.name for reason in last.reasons if reason.finding == "failed"}
    of_others = f"Of another seed, after {SHADOWED_DAYS} days: {told_of(others[-1], 'harm', 'null_share')}"
    return Fault(
        name="trained with `air_time`, which is not known at departure", kind="rollout", check="harm and null_share",
        caught=gate.action == "release" and last.action == "rollback" and {"harm", "null_share"} <= reasons,
        words=f"The gate said: {gate.summary} After {took} days in shadow: {last.words}",
        twin_passes=stood(others),
        twin=f"{of_others} And told with the instant of landing, air_time is there for {told:.0%} of the requests.",
        offline=mae(parts.test["truth"], model.predict(parts.test)), online=mae(july["truth"], online),
    )  # fmt: skip


def faults(flights: Flights, twin: Model) -> Iterator[Fault]:
    """Each of them."""
    yield last_week(flights)
    yield random_split(flights)
    yield leaking_air_time(flights, twin)
