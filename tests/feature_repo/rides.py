"""A small use case: how long will a ride take? Batch views with one and two key columns, nulls, a window."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from ninefold.features import BatchView, Stream
from ninefold.fields import Field, Input, Metric
from ninefold.splits import HashSplit, TimeSplit
from ninefold.usecase import UseCase
from ninefold.windows.declaration import Window


def derive(columns):
    return {
        "distance": columns["distance"],
        "mean": columns["recent__mean"],
        "seats": columns["driver__seats"],
        "surge": columns["route__surge"],
        "grade": columns["driver__grade"],
    }


def baseline(columns):
    return np.where(np.isnan(columns["mean"]), 10.0, columns["mean"])


def block(columns):
    return columns["asked_at"].astype("datetime64[D]").astype(str).astype(object)


def decide(request, prediction):
    return None


DRIVER = Field(name="driver", kind="integer", description="The driver.")
ZONE = Field(name="zone", kind="category", description="Where the ride begins.")
TO = Field(name="to", kind="category", nullable=True, description="Where it ends.")

USE_CASE = UseCase(
    name="rides",
    title="How long a ride takes",
    problem="regression",
    request=(
        Field(name="ride", kind="category"),
        Field(name="asked_at", kind="time"),
        DRIVER,
        ZONE,
        TO,
        Field(name="distance", kind="number", nullable=True),
    ),
    key=("ride",),
    decided_at="asked_at",
    target=Field(name="minutes", kind="number", unit="min"),
    metric=Metric(name="mae", direction="minimize", unit="min"),
    extract="rides:extract",
    split=TimeSplit(validation="1d", test="1d"),
    inputs=(
        Input(name="distance"),
        Input(name="mean"),
        Input(name="seats"),
        Input(name="surge"),
        Input(name="grade", kind="category"),
    ),
    derive=derive,
    baseline=baseline,
    decide=decide,
    block=block,
    batch_views=(
        BatchView(
            name="driver",
            key=("driver",),
            columns=(
                Field(name="seats", kind="integer", nullable=True),
                Field(name="grade", kind="category", nullable=True),
                Field(name="electric", kind="boolean", nullable=True),
            ),
            description="What is known of a driver.",
        ),
        BatchView(
            name="route",
            key=("zone", "to"),
            columns=(Field(name="surge", kind="number", nullable=True),),
            time_to_live=timedelta(hours=6),
        ),
    ),
    streams=(Stream(name="ended", fields=(ZONE, Field(name="minutes", kind="number", nullable=True))),),
    windows=(
        Window(
            name="recent",
            stream="ended",
            key=("zone",),
            value="minutes",
            length=timedelta(hours=1),
            lengths=(timedelta(hours=1), timedelta(hours=3)),
        ),
    ),
)

TIMELESS = UseCase(
    name="timeless",
    title="No time at all",
    problem="regression",
    request=(DRIVER,),
    key=("driver",),
    target=Field(name="minutes", kind="number", unit="min"),
    metric=Metric(name="mae", direction="minimize", unit="min"),
    extract="rides:extract",
    split=HashSplit(),
    inputs=(Input(name="seats"),),
    derive=lambda columns: {"seats": columns["person__seats"]},
    baseline=lambda columns: np.zeros(len(columns["seats"])),
    decide=decide,
    block=lambda columns: columns["driver"].astype(str).astype(object),
    batch_views=(
        BatchView(name="person", key=("driver",), columns=(Field(name="seats", kind="number", nullable=True),)),
    ),
)


def write_history(folder, *, seed: int = 0, rides: int = 400, events: int = 300):
    """Random history on disk as the extract step leaves it; returns requests and truths."""
    import polars as pl

    random = np.random.default_rng(seed)
    day = np.datetime64("2013-07-01T00:00:00", "us")

    def instants(count):
        # Whole minutes, so that ties with requests and with each other are common.
        at = day + (random.integers(0, 24 * 60, count) * 60_000_000).astype("timedelta64[us]")
        return pl.Series(at).dt.replace_time_zone("UTC")

    def zones(count):
        return [f"Z{i}" for i in random.integers(0, 3, count)]

    def with_nulls(values, share=0.2):
        return [None if gone else value for value, gone in zip(values, random.random(len(values)) < share, strict=True)]

    requests = pl.DataFrame(
        {
            "ride": [f"r{i}" for i in range(rides)],
            "asked_at": instants(rides),
            "driver": random.integers(0, 6, rides),
            "zone": zones(rides),
            "to": with_nulls(zones(rides)),
            "distance": with_nulls(random.normal(5, 2, rides).tolist()),
        }
    )
    drivers = 30
    driver = pl.DataFrame(
        {
            "driver": random.integers(0, 5, drivers),
            "known_at": instants(drivers),
            "seats": with_nulls(random.integers(2, 8, drivers).tolist()),
            "grade": with_nulls([f"g{i}" for i in random.integers(0, 3, drivers)]),
            "electric": with_nulls((random.random(drivers) < 0.5).tolist()),
        }
    ).unique(["driver", "known_at"], keep="last", maintain_order=True)
    route = pl.DataFrame(
        {
            "zone": zones(40),
            "to": zones(40),
            "known_at": instants(40),
            "surge": with_nulls(random.normal(1, 0.1, 40).tolist()),
        }
    ).unique(["zone", "to", "known_at"], keep="last", maintain_order=True)
    ended = pl.DataFrame(
        {
            "event_id": [f"e{i}" for i in range(events)],
            "known_at": instants(events),
            "happened_at": instants(events),
            "zone": zones(events),
            "minutes": with_nulls(random.integers(3, 60, events).astype(float).tolist(), 0.05),
        }
    )
    truths = requests.select(
        "ride",
        pl.Series("truth", random.normal(20, 5, rides)),
        (requests["asked_at"].dt.offset_by("30m")).alias("known_at"),
    )[: rides // 2]
    for name, frame in {
        "requests": requests, "truths": truths, "views/driver": driver, "views/route": route, "streams/ended": ended,
    }.items():  # fmt: skip
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path)
    return requests, truths
