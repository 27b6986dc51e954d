"""A market whose prices change with the season: a small use case without features, whose model can become worse."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from ninefold.fields import Columns, Field, Input, Metric
from ninefold.monitoring import MonitorPolicy
from ninefold.splits import TimeSplit
from ninefold.usecase import Gates, History, UseCase

BEGAN = datetime(2024, 3, 1, tzinfo=UTC)
"""Production begins; what the source holds ends."""
HISTORY_DAYS = 40
PER_DAY = 48
Array = np.ndarray[Any, Any]


def rows(first: datetime, days: int, *, summer_from: int | None = None, seed: int) -> list[dict[str, Any]]:
    """Requests and truths of some days; from a day on it is summer, and a visit is worth more."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(days * PER_DAY):
        at = first + number * timedelta(days=1) / PER_DAY
        summer = summer_from is not None and (at - first).days >= summer_from
        visits = float(rng.gamma(4.0, 5.0))
        found.append(
            {
                "stall": f"s{number % 7}",
                "season": "summer" if summer else "winter",
                "visits": visits,
                "at": at,
                "truth": (5.0 if summer else 3.0) * visits + float(rng.normal(0.0, 2.0)),
            }
        )
    return found


def extract() -> History:
    """What the source knows: everything before production began."""
    past = rows(BEGAN - timedelta(days=HISTORY_DAYS), HISTORY_DAYS, seed=1)
    frame = pl.DataFrame(past).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))
    known = pl.col("at").dt.offset_by("3h").cast(pl.Datetime("us", "UTC"))
    return History(
        requests=frame.select("stall", "season", "visits", "at"),
        truths=frame.select("stall", "at", "truth", known_at=known),
    )


def derive(columns: Columns) -> dict[str, Array]:
    return {"visits": columns["visits"], "season": columns["season"]}


def baseline(inputs: Columns) -> Array:
    return inputs["visits"] * 2.0


def decide(request: Mapping[str, Any], prediction: float) -> str:
    return "open"


def day(columns: Columns) -> Array:
    return columns["at"].astype("datetime64[D]").astype(str)


USE_CASE = UseCase(
    name="market",
    title="How much will this stall sell?",
    problem="regression",
    request=(
        Field(name="stall", kind="category", example="s1"),
        Field(name="season", kind="category", example="winter"),
        Field(name="visits", kind="number", example=20.0),
        Field(name="at", kind="time", example="2024-03-01T00:00:00Z"),
    ),
    key=("stall", "at"),
    decided_at="at",
    truth_delay=timedelta(days=1),
    target=Field(name="sold", kind="number", unit="kg"),
    metric=Metric(name="mae", direction="minimize", unit="kg"),
    extract="market:extract",
    split=TimeSplit(validation="3d", test="6d"),
    inputs=(Input(name="visits"), Input(name="season", kind="category")),
    may_tell_alone=("visits",),
    derive=derive,
    baseline=baseline,
    decide=decide,
    block=day,
    gates=Gates(minimum_blocks=5, max_latency_ms=1000.0),
    monitor=MonitorPolicy(reference_windows=7, minimum_windows=8, minimum_rows=20),
)
