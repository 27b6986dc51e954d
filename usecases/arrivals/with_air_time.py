"""Arrivals with one input more: the time in the air, declared as if it were known at departure.

A trap that real teams fall into, kept as an example. The files of past flights hold ``air_time`` in every row, filled
in after landing, so training and every offline test believe it. No request can hold it: at departure nobody knows it.
The demo gives this variant to the gate, which can't see that, and to a rollout, which can.
"""

from dataclasses import replace

from ninefold.fields import Field, Input
from usecases.arrivals.contract import USE_CASE as ARRIVALS

AIR_TIME = Field(name="air_time", kind="number", unit="min", nullable=True, example=227, description="In the air.")

USE_CASE = replace(
    ARRIVALS,
    request=(*ARRIVALS.request, AIR_TIME),
    inputs=(*ARRIVALS.inputs, Input(name=AIR_TIME.name, column=AIR_TIME.name, group="route")),
    extract="usecases.arrivals.etl:extract_with_air_time",
)
"""The same use case in all else: the same name, ``derive`` and features, so one front end serves versions of both."""
