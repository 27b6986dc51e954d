"""The contract of deliveries: an order is asked, and the customer is promised a time that will most likely be kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np

from ninefold.fields import Columns, Field, Input, Metric
from ninefold.interval import Bounds
from ninefold.rollout.policy import RolloutPolicy
from ninefold.splits import HashSplit
from ninefold.usecase import UseCase

Array = np.ndarray[Any, Any]

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DISHES = tuple(f"item_{number:02}" for number in range(1, 28))
"""How many of each of the 27 dishes on the card were ordered."""

OPENS, PEAK = 11.0, 17.5
"""Hours of the day: until the second one the kitchen falls behind, after it it catches up."""
TYPICAL = {"hour": 16.3, "distance": 3.0, "dishes": 3.5}
"""What an order is taken for that does not say."""
MARGIN = 3.0
"""Minutes that are added to a promise that nobody knows the interval of: nine in ten of the rule's are kept with it."""


def derive(columns: Columns) -> dict[str, Array]:
    """The order as it stands, and how many dishes it has."""
    made = {name: columns[name] for name in ("hour", "day", "distance", *DISHES)}
    made["dishes"] = np.sum([columns[dish] for dish in DISHES], axis=0)
    return made


def baseline(inputs: Columns) -> Array:
    """What the restaurant tells on the telephone.

    Three minutes, nearly three more for each unit of the way, and half a one for each dish. From eleven on the kitchen
    falls two and a half minutes behind in an hour, three and a half on Friday and Saturday; from half past five on it
    makes good one and a half. An unknown number is that of a typical order.
    """
    known = {
        name: np.where(np.isnan(inputs[name]), typical, inputs[name]).astype(np.float64)
        for name, typical in TYPICAL.items()
    }
    busy = (inputs["day"] == "Fri") | (inputs["day"] == "Sat")
    behind = np.clip(known["hour"] - OPENS, 0.0, PEAK - OPENS) * np.where(busy, 3.5, 2.5)
    caught_up = np.maximum(known["hour"] - PEAK, 0.0) * 1.5
    minutes: Array = np.clip(3.0 + 2.8 * known["distance"] + 0.5 * known["dishes"] + behind - caught_up, 5.0, 120.0)
    return minutes


def promised(prediction: Array, interval: Array) -> Array:
    """The minutes that customers are promised: the upper bound in whole minutes, or the prediction with a margin.

    Args:
        prediction: [rows].
        interval: [rows, 2], NaN where there is none.
    """
    minutes: Array = np.ceil(np.where(np.isnan(interval[:, 1]), prediction + MARGIN, interval[:, 1]))
    return minutes


def decide(request: Mapping[str, Any], prediction: float, interval: Bounds | None) -> dict[str, int]:
    """What the customer is told: there in ``from`` to ``promise`` minutes."""
    lower, upper = interval if interval is not None else (prediction - MARGIN, prediction + MARGIN)
    return {"from": max(0, math.floor(lower)), "promise": math.ceil(upper)}


def promises(request: Columns, truth: Array, prediction: Array, interval: Array) -> dict[str, float]:
    """How many promises were kept, and what that cost in time that nobody needed."""
    promise = promised(prediction, interval)
    late = np.maximum(truth - promise, 0.0)
    return {
        "promises_kept": float(np.mean(truth <= promise)),
        "promised_slack_min": float(np.mean(promise - truth)),
        "late_by_min": float(late.sum() / np.count_nonzero(late)) if late.any() else 0.0,
    }


def order(request: Columns) -> Array:
    """The block: without a date, an order is all there is."""
    return request["order"]


USE_CASE = UseCase(
    name="deliveries",
    title="In how many minutes will this meal be there?",
    problem="regression",
    request=(
        Field(name="order", kind="integer", minimum=1, example=1, description="The order's number."),
        Field(
            name="hour", kind="number", unit="h", minimum=0, maximum=24, example=18.5,
            description="Time of the day at which it was ordered, in decimal hours of the restaurant's clock.",
        ),
        Field(name="day", kind="category", categories=DAYS, example="Fri", description="Day of the week."),
        Field(
            name="distance", kind="number", minimum=0, maximum=30, example=3.2,
            description="Approximate way from the restaurant, in the unit of the source, which does not name it.",
        ),
        *(
            Field(name=dish, kind="integer", minimum=0, maximum=50, example=int(dish == "item_04"))
            for dish in DISHES
        ),
    ),
    key=("order",),
    target=Field(name="minutes", kind="number", unit="min", minimum=0, maximum=240, example=26.1),
    truth_delay=timedelta(hours=3),
    metric=Metric(name="mae", direction="minimize", unit="min"),
    extract="usecases.deliveries.etl:extract",
    split=HashSplit(validation=0.2, test=0.2, salt="deliveries"),
    inputs=(
        Input(name="hour", group="time"),
        Input(name="day", kind="category", group="time"),
        Input(name="distance", group="way"),
        *(Input(name=dish, group="meal") for dish in DISHES),
        Input(name="dishes", group="meal"),
    ),
    derive=derive,
    baseline=baseline,
    decide=decide,
    block=order,
    slices=("day", "hour"),
    # A block is one order here: it takes hundreds of them to see what a few days of flights show.
    rollout=RolloutPolicy(
        minimum_effect=0.01,
        harm_blocks=200,
        minimum_blocks=500,
        tightest_at=1_500,
        maximum_blocks=5_000,
        blocks_per_step=200,
        diagnosis_blocks=200,
        closes_after=timedelta(0),
    ),
    application_metrics=promises,
    explain={"time": "the day and the hour", "way": "the way", "meal": "what was ordered"},
    minimum_prediction=0.0,
    maximum_prediction=240.0,
    interval=0.8,
)  # fmt: skip
