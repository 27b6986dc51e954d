"""Parcels: a small use case with a stream, a window and a batch view, for tests of what moves data."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from ninefold.features import BatchView, Stream
from ninefold.fields import Columns, Field, Input, Metric
from ninefold.splits import TimeSplit
from ninefold.usecase import History, UseCase
from ninefold.windows import Window

START = datetime(2024, 1, 1, tzinfo=UTC)
HISTORY: dict[str, History] = {}


def extract() -> History:
    """What a test put there."""
    return HISTORY["history"]


def derive(columns: Columns) -> dict[str, np.ndarray[Any, Any]]:
    return {"weight": columns["weight"]}


def baseline(inputs: Columns) -> np.ndarray[Any, Any]:
    return inputs["weight"] * 2


def decide(request: Mapping[str, Any], prediction: float) -> str:
    return "late" if prediction > 10 else "early"


def history(count: int = 6) -> History:
    sent = [START + timedelta(hours=i) for i in range(count)]
    return History(
        requests=pl.DataFrame(
            {
                "parcel": [f"p{i}" for i in range(count)],
                "depot": ["north" if i % 2 else "south" for i in range(count)],
                "weight": [float(i) for i in range(count)],
                "sent_at": sent,
            },
            schema_overrides={"sent_at": pl.Datetime("us", "UTC")},
        ),
        truths=pl.DataFrame(
            {
                "parcel": [f"p{i}" for i in range(count)],
                "truth": [float(2 * i) for i in range(count)],
                "known_at": [s + timedelta(days=1) for s in sent],
            },
            schema_overrides={"known_at": pl.Datetime("us", "UTC")},
        ),
        streams={
            "deliveries": pl.DataFrame(
                {
                    "depot": ["north", "south"],
                    "hours": [3.0, 4.0],
                    "event_id": ["e1", "e2"],
                    "happened_at": sent[:2],
                    "known_at": sent[:2],
                },
                schema_overrides={k: pl.Datetime("us", "UTC") for k in ("happened_at", "known_at")},
            )
        },
        views={
            "depots": pl.DataFrame(
                {"depot": ["north", "south"], "size": [10.0, 20.0], "known_at": [START, START]},
                schema_overrides={"known_at": pl.Datetime("us", "UTC")},
            )
        },
        dropped={"returned": 2},
    )


USE_CASE = UseCase(
    name="parcels",
    title="How long a parcel takes",
    problem="regression",
    request=(
        Field(name="parcel", kind="category", example="p1"),
        Field(name="depot", kind="category", example="north"),
        Field(name="weight", kind="number", minimum=0, maximum=100, example=1.5),
        Field(name="sent_at", kind="time", example="2024-01-01T00:00:00Z"),
    ),
    key=("parcel",),
    decided_at="sent_at",
    target=Field(name="hours", kind="number", minimum=0),
    metric=Metric(name="mae", direction="minimize", unit="h"),
    extract="tiny_use_case:extract",
    split=TimeSplit(validation="1d", test="1d"),
    inputs=(Input(name="weight", group="parcel"),),
    derive=derive,
    baseline=baseline,
    decide=decide,
    block=lambda columns: columns["sent_at"].astype("datetime64[D]").astype(str),
    batch_views=(BatchView(name="depots", key=("depot",), columns=(Field(name="size", kind="number"),)),),
    streams=(
        Stream(name="deliveries", fields=(Field(name="depot", kind="category"), Field(name="hours", kind="number"))),
    ),
    windows=(
        Window(name="depot_hours", stream="deliveries", key=("depot",), value="hours", length=timedelta(hours=6)),
    ),
)
