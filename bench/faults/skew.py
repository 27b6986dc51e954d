"""Faults between what was learned from and what is asked: the parity of logged features with offline ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.faults.flights import Flights, mae
from bench.faults.live import asked_live
from bench.faults.production import FAULTY_FROM, WATCHED_UNTIL
from bench.faults.row import Fault
from components.featurizer.parity import Parity, feature_parity, offline_features
from ninefold.clock import format_instant, parse_instant
from ninefold.dataset import FEATURE, REQUEST, columns_of
from ninefold.records import Prediction

NEW_YORK = timedelta(hours=4)
"""What New York's clocks are behind UTC in July."""
TIMES = ("scheduled_departure", "scheduled_arrival", "departed_at")


def faults(flights: Flights, folder: Path, asked: Sequence[Prediction]) -> Iterator[Fault]:
    """Each of them.

    Args:
        flights: The flights.
        folder: Where other histories may lie.
        asked: Three days' flights as they were asked live, without a fault.
    """
    honest = feature_parity(asked, offline_features(flights.use_case, asked, None, flights.settings))
    numbered = flights.requests.with_columns(pl.col("flight").cast(pl.Int64))
    departed = numbered.select("departed_at", event_id=pl.concat_str(flights.use_case.key, separator="|"))
    landings = pl.read_parquet(flights.data / "streams" / "landings.parquet")
    early = landings.join(departed, on="event_id", how="inner").with_columns(
        # A minute later, or a flight would count itself.
        known_at=pl.col("departed_at") + pl.duration(minutes=1)
    )
    stream = {"streams/landings": early.drop("departed_at").sort("known_at")}
    yield _early(
        "a window counts flights that have departed and not yet landed", "landings",
        Flights(folder / "early", like=flights, instead=stream), flights, asked, honest,
    )  # fmt: skip
    weather = pl.read_parquet(flights.data / "views" / "weather.parquet")
    ahead = weather.with_columns(known_at=pl.col("known_at") - pl.duration(hours=1))
    yield _early(
        "weather of the hour, known an hour later, used at once", "weather",
        Flights(folder / "ahead", like=flights, instead={"views/weather": ahead}), flights, asked, honest,
    )  # fmt: skip
    yield _celsius(flights, asked, honest)
    yield _wall_clock(flights, asked, honest)


def _early(
    name: str, what: str, wrong: Flights, flights: Flights, asked: Sequence[Prediction], honest: Parity
) -> Fault:
    """A history whose rows are known too early; production can't know them before they are."""
    model = wrong.learn(what, wrong.parts, wrong.card)
    found = feature_parity(asked, offline_features(wrong.use_case, asked, None, wrong.settings))
    return Fault(
        name=name, kind="parity", check="logged features against offline ones",
        caught=not found.equal and bool(found.different), words=told(found), twin_passes=honest.equal,
        twin=told(honest), offline=mae(wrong.july["truth"], model.predict(wrong.july)),
        online=mae(flights.july["truth"], model.predict(flights.july)),
    )  # fmt: skip


def _celsius(flights: Flights, asked: Sequence[Prediction], honest: Parity) -> Fault:
    """Online rows in another unit than history's."""

    def cold(one: Prediction) -> Prediction:
        fahrenheit = one.features["weather__temperature"]
        known = None if fahrenheit is None else (fahrenheit - 32.0) / 1.8
        return replace(one, features={**one.features, "weather__temperature": known})

    logged = [cold(one) for one in asked]
    found = feature_parity(logged, offline_features(flights.use_case, logged, None, flights.settings))
    degrees = (flights.july["input.temperature"].to_numpy() - 32.0) / 1.8
    july, model = flights.july, flights.honest
    return Fault(
        name="temperatures in °C online, in °F in history", kind="parity", check="logged features against offline ones",
        caught=bool(found.different), words=told(found), twin_passes=honest.equal, twin=told(honest),
        offline=mae(july["truth"], model.predict(july)),
        online=mae(july["truth"], model.predict(july, temperature=degrees)),
    )  # fmt: skip


def _wall_clock(flights: Flights, asked: Sequence[Prediction], honest: Parity) -> Fault:
    """A client sends New York's clock for UTC: the differences between its times are right, and none of the times."""

    def shifted(request: dict[str, Any]) -> dict[str, Any]:
        return {**request, **{name: format_instant(parse_instant(request[name]) - NEW_YORK) for name in TIMES}}

    # The machinery's own time is right: it reads what is known now.
    logged = asked_live(flights, FAULTY_FROM, WATCHED_UNTIL, name="wall_clock", sent=shifted)
    found = feature_parity(logged, offline_features(flights.use_case, logged, None, flights.settings))
    july, model = flights.july, flights.honest
    request = columns_of(july, REQUEST)
    sent = {name: request[name] - np.timedelta64(NEW_YORK) for name in TIMES}
    inputs: dict[str, Any] = flights.use_case.inputs_of({**request, **sent, **columns_of(july, FEATURE)})
    return Fault(
        name="a client sends New York's clock for UTC", kind="parity", check="logged features against offline ones",
        caught=bool(found.different), words=told(found), twin_passes=honest.equal, twin=told(honest),
        offline=mae(july["truth"], model.predict(july)), online=mae(july["truth"], model.predict(july, **inputs)),
    )  # fmt: skip


def told(found: Parity) -> str:
    """What a comparison of features found, in words."""
    if found.equal:
        return f"None of {found.values:,} values differs."
    most = sorted(found.different.items(), key=lambda item: -item[1])
    named = ", ".join(f"{name} ({count:,})" for name, count in most[:3])
    more = f" and {len(most) - 3} more" if len(most) > 3 else ""
    example = next(e for e in found.examples)
    return (
        f"Of {found.values:,} values {sum(found.different.values()):,} differ: {named}{more}; {example.feature} was "
        f"{_short(example.online)} when asked and is {_short(example.offline)} offline."
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) and np.isfinite(value) else "null"
