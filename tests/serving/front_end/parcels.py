"""A small problem for the front end's tests: when is a parcel delivered?"""

from datetime import timedelta

import numpy as np

from ninefold.features import BatchView, Stream
from ninefold.fields import Field, Input, Metric
from ninefold.splits import TimeSplit
from ninefold.usecase import UseCase
from ninefold.windows.declaration import Window

ZONE = Field(name="zone", kind="category", categories=("north", "south"), example="north")
MINUTES = Field(name="minutes", kind="number", unit="min")


def derive(columns):
    return {
        "distance": columns["distance"],
        "vehicle": columns["vehicle"],
        "zone": columns["zone"],
        "shop_minutes": columns["shop__minutes"],
        "shop_kind": columns["shop__kind"],
        "zone_minutes": columns["zone_speed__mean"],
        "express": columns["express"],
    }


def baseline(inputs):
    return 10.0 + inputs["distance"] + np.where(np.isnan(inputs["shop_minutes"]), 0.0, inputs["shop_minutes"])


def decide(request, prediction):
    return {"promise": "today" if prediction < 60 else "tomorrow", "zone": request["zone"]}


USE_CASE = UseCase(
    name="parcels",
    title="When is it delivered?",
    problem="regression",
    request=(
        Field(name="parcel", kind="category", pattern="[A-Z][0-9]+", example="P1"),
        Field(name="shop", kind="category"),
        ZONE,
        Field(name="vehicle", kind="category", on_unseen="fallback"),
        Field(name="distance", kind="number", unit="km", minimum=0.0, maximum=100.0),
        Field(name="items", kind="integer", nullable=True),
        Field(name="express", kind="boolean"),
        Field(name="ordered_at", kind="time"),
        Field(name="note", kind="text", nullable=True),
    ),
    key=("parcel",),
    decided_at="ordered_at",
    target=MINUTES,
    metric=Metric(name="mae", direction="minimize", unit="min"),
    extract="parcels:nowhere",
    split=TimeSplit(),
    inputs=(
        Input(name="distance", group="way"),
        Input(name="vehicle", kind="category", group="way"),
        Input(name="zone", kind="category", group="zone"),
        Input(name="shop_minutes", group="shop"),
        Input(name="shop_kind", kind="category", group="shop"),
        Input(name="zone_minutes", group="zone"),
        Input(name="express", group="express"),
    ),
    derive=derive,
    baseline=baseline,
    decide=decide,
    block=lambda request: request["zone"],
    batch_views=(
        BatchView(
            name="shop",
            key=("shop",),
            columns=(MINUTES, Field(name="kind", kind="category")),
            time_to_live=timedelta(days=2),
            required=True,
        ),
    ),
    streams=(Stream(name="deliveries", fields=(ZONE, MINUTES)),),
    windows=(
        Window(name="zone_speed", stream="deliveries", key=("zone",), value="minutes", length=timedelta(hours=1)),
    ),
    explain={"way": "the way to go", "shop": "the shop", "zone": "the zone", "express": "express"},
    minimum_prediction=0.0,
    maximum_prediction=500.0,
)
