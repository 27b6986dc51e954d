"""A harbour where the wait for a berth follows the wind of the last three hours, while one hour is declared."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from ninefold.features import Stream
from ninefold.fields import Columns, Field, Input, Metric
from ninefold.splits import TimeSplit
from ninefold.usecase import Gates, History, UseCase
from ninefold.windows.declaration import Window

BEGAN = datetime(2024, 3, 1, tzinfo=UTC)
DAYS = 30
QUAYS = ("north", "south")
Array = np.ndarray[Any, Any]


def extract() -> History:
    """Boats every 15 minutes, gusts about every 10 minutes at each quay."""
    rng = np.random.default_rng(5)
    minutes = DAYS * 24 * 60
    gusts = []
    for quay in QUAYS:
        at = np.cumsum(rng.integers(2, 18, minutes // 8))
        at = at[at < minutes]
        wind = rng.gamma(3, 6, len(at))
        gusts += [(quay, BEGAN + timedelta(minutes=int(m)), float(w)) for m, w in zip(at, wind, strict=True)]
    boats = []
    winds = {quay: [(at, wind) for name, at, wind in gusts if name == quay] for quay in QUAYS}
    for number in range(minutes // 15):
        at, quay = BEGAN + timedelta(minutes=15 * number), QUAYS[number % 2]
        recent = [wind for known, wind in winds[quay] if at - timedelta(hours=3) < known <= at]
        load = float(rng.integers(1, 40))
        wait = load + 3.0 * float(np.mean(np.rint(recent)) if recent else 18.0) + float(rng.normal(0, 1))
        boats.append((f"b{number}", at, quay, load, wait))
    asked = pl.DataFrame(boats, schema=["boat", "at", "quay", "load", "truth"], orient="row")
    blown = pl.DataFrame(gusts, schema=["quay", "known_at", "wind"], orient="row")
    return History(
        requests=asked.select("boat", "at", "quay", "load"),
        truths=asked.select("boat", "truth", known_at=pl.col("at") + timedelta(hours=1)),
        streams={
            "gusts": blown.with_columns(
                happened_at="known_at", event_id=pl.concat_str("quay", pl.col("known_at").cast(pl.String))
            )
        },
    )


def derive(columns: Columns) -> dict[str, Array]:
    if os.environ.get("HARBOUR_DERIVE") == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"load": columns["load"], "wind": columns["wind__mean"], "calm": columns["calm__count"]}


def baseline(inputs: Columns) -> Array:
    return inputs["load"] + 54.0


def decide(request: Mapping[str, Any], prediction: float) -> str:
    return "wait"


def day(columns: Columns) -> Array:
    return columns["at"].astype("datetime64[D]").astype(str)


QUAY = Field(name="quay", kind="category", categories=QUAYS, example="north")
WIND = Field(name="wind", kind="number", unit="knot", example=12.0)


def _window(name: str, aggregate: Any, *hours: int) -> Window:
    return Window(
        name=name, stream="gusts", key=("quay",), value="wind", aggregates=(aggregate,),
        length=timedelta(hours=hours[0]), lengths=tuple(timedelta(hours=hour) for hour in hours),
    )  # fmt: skip


USE_CASE = UseCase(
    name="harbour",
    title="How long does a boat wait?",
    problem="regression",
    request=(
        Field(name="boat", kind="category", example="b1"),
        Field(name="at", kind="time", example="2024-03-01T00:00:00Z"),
        QUAY,
        Field(name="load", kind="number", example=20.0),
    ),
    key=("boat",),
    decided_at="at",
    truth_delay=timedelta(days=1),
    target=Field(name="wait", kind="number", unit="min"),
    metric=Metric(name="mae", direction="minimize", unit="min"),
    extract="harbour:extract",
    split=TimeSplit(validation="5d", test="6d"),
    inputs=(Input(name="load"), Input(name="wind"), Input(name="calm")),
    derive=derive,
    baseline=baseline,
    decide=decide,
    block=day,
    streams=(Stream(name="gusts", fields=(QUAY, WIND)),),
    windows=(_window("wind", "mean", 1, 3, 12), _window("calm", "count", 2, 6)),
    gates=Gates(minimum_blocks=5, max_latency_ms=1000.0),
)
