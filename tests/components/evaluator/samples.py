"""Two small use cases to judge: rides (a number, by day) and churn (a class), and data sets of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from ninefold.dataset import DatasetCard
from ninefold.fields import Field, Input, Metric
from ninefold.signature import Signature
from ninefold.splits import HashSplit, TimeSplit
from ninefold.usecase import Gates, UseCase

if TYPE_CHECKING:
    import polars as pl


def derive(columns):
    return {"distance": columns["distance"], "zone": columns["zone"]}


def baseline(columns):
    return np.nan_to_num(columns["distance"] * 3.0, nan=15.0)


def on_time(request, truth, prediction):
    return {"promises_kept": float(np.mean(truth <= prediction + 5.0))}


RIDES = UseCase(
    name="rides",
    title="How long a ride takes",
    problem="regression",
    request=(
        Field(name="ride", kind="category"),
        Field(name="asked_at", kind="time"),
        Field(name="zone", kind="category", categories=("north", "south", "tiny")),
        Field(name="distance", kind="number", minimum=0.0, maximum=100.0, nullable=True),
    ),
    key=("ride",),
    decided_at="asked_at",
    target=Field(name="minutes", kind="number", unit="min", minimum=0.0, maximum=600.0),
    metric=Metric(name="mae", direction="minimize", unit="min"),
    extract="samples:extract",
    split=TimeSplit(validation="10d", test="20d"),
    inputs=(Input(name="distance"), Input(name="zone", kind="category")),
    derive=derive,
    baseline=baseline,
    decide=lambda request, prediction: None,
    block=lambda columns: columns["asked_at"].astype("datetime64[D]").astype(str).astype(object),
    slices=("zone", "distance"),
    gates=Gates(minimum_blocks=10),
    application_metrics=on_time,
)

CHURN = UseCase(
    name="churners",
    title="Will this customer leave?",
    problem="binary",
    request=(Field(name="customer", kind="category"), Field(name="senior", kind="boolean")),
    key=("customer",),
    target=Field(name="left", kind="integer"),
    metric=Metric(name="auc", direction="maximize"),
    extract="samples:extract",
    split=HashSplit(),
    inputs=(Input(name="tenure"),),
    derive=lambda columns: {"tenure": columns["tenure"]},
    baseline=lambda columns: np.full(len(columns["tenure"]), 0.3),
    decide=lambda request, prediction: None,
    block=lambda columns: columns["customer"],
    slices=("senior",),
)


def card(use_case: UseCase, path: str) -> DatasetCard:
    return DatasetCard(
        signature=Signature(
            use_case=path,
            problem=use_case.problem,
            inputs=use_case.inputs,
            views=(),
            derive_digest="0" * 64,
            target=use_case.target.name,
            unit=use_case.target.unit,
        ),
        metric=use_case.metric,
        offset=None,
        part="test",
    )


def rides(*, days: int = 20, rows_a_day: int = 50, seed: int = 0) -> pl.DataFrame:
    """Rides whose length hangs on distance and on a storm that moves a whole day; the baseline knows the distance."""
    import polars as pl

    random = np.random.default_rng(seed)
    rows = days * rows_a_day
    start = datetime(2013, 7, 1, tzinfo=UTC)
    asked = [start + timedelta(days=i // rows_a_day, minutes=i % rows_a_day) for i in range(rows)]
    distance = random.uniform(1, 20, rows)
    storm = np.repeat(random.exponential(4, days), rows_a_day)
    truth = np.clip(3 * distance + storm + random.normal(0, 3, rows), 0, 600)
    zone = np.where(np.arange(rows) % 100 == 7, "tiny", np.where(random.random(rows) < 0.5, "north", "south"))
    return pl.DataFrame(
        {
            "key": [f"r{i}" for i in range(rows)],
            "decided_at": pl.Series(asked, dtype=pl.Datetime("us", "UTC")),
            "block": [f"{at:%Y-%m-%d}" for at in asked],
            "truth": truth,
            "baseline": 3 * distance,
            "weight": np.ones(rows),
            "request.ride": [f"r{i}" for i in range(rows)],
            "request.asked_at": pl.Series(asked, dtype=pl.Datetime("us", "UTC")),
            "request.zone": zone.tolist(),
            "request.distance": distance,
            "input.distance": distance,
            "input.zone": zone.tolist(),
        }
    )
