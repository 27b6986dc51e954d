"""Stalls: a small use case with a feature, whose history and production are made, quiet or with faults in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ninefold.features import BatchView
from ninefold.fields import Columns, Field, Input, Metric
from ninefold.monitoring import MonitorPolicy
from ninefold.records import Prediction, Truth
from ninefold.splits import TimeSplit
from ninefold.store import Store
from ninefold.usecase import History, UseCase

BEGAN = datetime(2024, 3, 1, tzinfo=UTC)
PER_HOUR = 12
Array = np.ndarray[Any, Any]


def extract() -> History:
    raise NotImplementedError


def derive(columns: Columns) -> dict[str, Array]:
    return {"visits": columns["visits"], "kind": columns["kind"], "size": columns["stall__size"]}


def baseline(inputs: Columns) -> Array:
    return inputs["visits"] * 2.0


USE_CASE = UseCase(
    name="stalls",
    title="How much will this stall sell?",
    problem="regression",
    request=(
        Field(name="stall", kind="category"),
        Field(name="kind", kind="category"),
        Field(name="visits", kind="number"),
        Field(name="at", kind="time"),
    ),
    key=("stall", "at"),
    decided_at="at",
    truth_delay=timedelta(days=1),
    target=Field(name="sold", kind="number", unit="kg"),
    metric=Metric(name="mae", direction="minimize", unit="kg"),
    extract="stalls:extract",
    split=TimeSplit(),
    inputs=(Input(name="visits"), Input(name="kind", kind="category"), Input(name="size")),
    derive=derive,
    baseline=baseline,
    decide=lambda request, prediction: "open",
    block=lambda columns: columns["at"].astype("datetime64[D]").astype(str),
    batch_views=(BatchView(name="stall", key=("stall",), columns=(Field(name="size", kind="number"),)),),
    slices=("kind",),
    monitor=MonitorPolicy(reference_windows=7, minimum_windows=10, robust_z=6.0),
)


BOUNDED = replace(
    USE_CASE,
    interval=0.8,
    decide=lambda request, prediction, interval: "open",
    block=lambda columns: columns["stall"] + columns["at"].astype("datetime64[h]").astype(str).astype(object),
)
"""The same with intervals, and with blocks of which a day has many."""


def days(first: datetime, count: int, seed: int) -> list[dict[str, Any]]:
    """Rows of some days: request, feature, truth; every day alike but for chance."""
    rng = np.random.default_rng(seed)
    rows = []
    for hour in range(24 * count):
        for place in range(PER_HOUR):
            visits = float(rng.gamma(4.0, 5.0))
            rows.append(
                {
                    "stall": f"s{rng.integers(50)}",
                    "kind": str(rng.choice(["fish", "fruit", "bread"], p=[0.5, 0.3, 0.2])),
                    "visits": visits,
                    "at": first + timedelta(hours=hour, minutes=60 * place / PER_HOUR),
                    "size": float(rng.normal(10.0, 2.0)),
                    "truth": 2.0 * visits + float(rng.normal(0.0, 3.0)),
                    "latency_ms": float(np.exp(rng.normal(1.0, 0.2))),
                }
            )
    return rows


def write_history(home: Path, count: int = 40) -> None:
    """What the featurizer finds: requests, truths and the batch view before production began."""
    data = home / "data" / "stalls"
    (data / "views").mkdir(parents=True)
    rows = days(BEGAN - timedelta(days=count), count, seed=1)
    frame = pl.DataFrame(rows).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))
    frame.select("stall", "kind", "visits", "at").write_parquet(data / "requests.parquet")
    known = frame.select("stall", "at", "truth", known_at=pl.col("at") + timedelta(hours=3))
    known.write_parquet(data / "truths.parquet")
    frame.select("stall", "size", known_at="at").write_parquet(data / "views" / "stall.parquet")


Fault = Callable[[dict[str, Any], np.random.Generator], "dict[str, Any] | None"]


def produce(store: Store, count: int, faults: Mapping[int, Fault] | None = None, *, version: int = 0) -> None:
    """Writes days of production, with a fault in some of them.

    Args:
        store: Where to.
        count: Days from ``BEGAN`` on.
        faults: Day → what is done to each row; None leaves the row out. A row may hold ``value`` and ``fallback`` then,
            and ``unknown`` for a truth that never comes.
        version: Which version answers.
    """
    rng = np.random.default_rng(2)
    predictions, truths = [], []
    for number, row in enumerate(days(BEGAN, count, seed=3)):
        fault = (faults or {}).get((row["at"] - BEGAN).days)
        made = fault(dict(row), rng) if fault else row
        if made is None:
            continue
        predictions.append(prediction(number, made, version=version))
        if not made.get("unknown"):
            truths.append(truth(predictions[-1], made["truth"], 3))
    store.write_predictions(predictions)
    store.write_truths(truths)


def prediction(number: int, row: Mapping[str, Any], *, version: int = 0, cohort: str = "live") -> Prediction:
    at = row["at"]
    return Prediction(
        prediction_id=f"p{number:06d}", use_case="stalls", request_id=None, key=f"{row['stall']}|{at.isoformat()}",
        decided_at=at, received_at=at, version=version, cohort=cohort,
        request={"stall": row["stall"], "kind": row["kind"], "visits": row["visits"], "at": at.isoformat()},
        features={"stall__size": row["size"]}, value=row.get("value", 2.0 * row["visits"]),
        fallback=row.get("fallback"), latency_ms=row["latency_ms"], interval=row.get("interval"),
    )  # fmt: skip


def truth(of: Prediction, value: float, hours: float, number: int = 0) -> Truth:
    known = of.decided_at + timedelta(hours=hours)
    return Truth(
        truth_id=f"{of.key}-{number}", use_case="stalls", key=of.key, value=value, known_at=known, received_at=known
    )


def again(one: Prediction, name: str, **changes: Any) -> Prediction:
    return replace(one, prediction_id=name, **changes)


def keys(found: Iterable[Any]) -> set[tuple[str, str]]:
    """Check and subject of alerts or findings."""
    return {(one.check, one.subject) for one in found}
