"""Small use cases to prepare data for, and frames of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from ninefold.fields import Field, Input, Metric
from ninefold.splits import HashSplit, TimeSplit
from ninefold.usecase import UseCase

START = datetime(2013, 1, 1, tzinfo=UTC)

TIMED = UseCase(
    name="rides",
    title="How long a ride takes",
    problem="regression",
    request=(
        Field(name="ride", kind="category"),
        Field(name="asked_at", kind="time"),
        Field(name="zone", kind="category", categories=("north", "south")),
        Field(name="distance", kind="number", minimum=0.0, maximum=100.0, nullable=True),
    ),
    key=("ride",),
    decided_at="asked_at",
    target=Field(name="minutes", kind="number", unit="min", minimum=0.0, maximum=600.0),
    metric=Metric(name="mae", direction="minimize", unit="min"),
    extract="nowhere:extract",
    split=TimeSplit(validation="1mo", test="1mo"),
    inputs=(Input(name="distance"),),
    derive=lambda columns: {"distance": columns["distance"]},
    baseline=lambda columns: columns["distance"],
    decide=lambda request, prediction: None,
    block=lambda columns: columns["ride"],
)

TIMELESS = dataclasses.replace(
    TIMED, name="churners", problem="binary", decided_at=None, split=HashSplit(validation=0.2, test=0.3),
    target=Field(name="left", kind="integer"), metric=Metric(name="auc", direction="maximize"),
)  # fmt: skip


def rows_of(
    keys: Sequence[str],
    *,
    days: Sequence[float | None],
    truth: Sequence[float | None],
    known_after: Sequence[float | None] | None = None,
) -> pl.DataFrame:
    """A data set: decided so many days after the start, the truth known so many days after that."""
    decided = [None if day is None else START + timedelta(days=day) for day in days]
    rows = len(keys)
    time = pl.Datetime("us", "UTC")
    frame = pl.DataFrame(
        {
            "key": pl.Series(keys, dtype=pl.String),
            "decided_at": pl.Series(decided, dtype=time),
            "block": pl.Series(keys, dtype=pl.String),
            "truth": pl.Series(truth, dtype=pl.Float64),
            "baseline": np.zeros(rows),
            "weight": np.ones(rows),
            "request.ride": pl.Series(keys, dtype=pl.String),
            "request.asked_at": pl.Series(decided, dtype=time).fill_null(START),
            "request.zone": pl.Series(["north"] * rows, dtype=pl.String),
            "request.distance": np.arange(rows, dtype=float) % 50,
            "input.distance": np.arange(rows, dtype=float) % 50,
        }
    )
    if known_after is None:
        return frame
    known = [
        None if at is None or after is None else at + timedelta(days=after)
        for at, after in zip(decided, known_after, strict=True)
    ]
    return frame.with_columns(truth_known_at=pl.Series(known, dtype=time))


@pytest.fixture
def make_rows():
    return rows_of


@pytest.fixture
def timed() -> UseCase:
    return TIMED


@pytest.fixture
def timeless() -> UseCase:
    return TIMELESS
