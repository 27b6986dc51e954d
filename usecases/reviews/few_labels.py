"""Reviews when hardly any are labelled: 500 truths to begin with, and all others are asked in production.

For `make demo USE_CASE=reviews`. The 1,000 reviews of the package's other half are nowhere in it: what is learned here
can be judged on them. A hundred test labels can't tell a model from the lexicon, so a first one may serve before it
is shown to be better; what it is worth the demo measures on the thousand.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from ninefold.usecase import Gates, History
from usecases.reviews import etl
from usecases.reviews.contract import USE_CASE as REVIEWS

LABELLED = 500
LEARNED_FROM, HELD_BACK = "training_data", "testing_data"


def extract() -> History:
    """500 reviews, with their truths."""
    kept = asked().head(LABELLED)
    known_at = pl.lit(etl.KNOWN_AT, dtype=pl.Datetime("us", "UTC"))
    return History(
        requests=kept.select("input", "review_id"), truths=kept.select("review_id", "truth", known_at=known_at)
    )


def asked() -> pl.DataFrame:
    """The reviews that may be learned from, each once, in an order that has nothing to do with what they say."""
    return _half(LEARNED_FROM).join(held_back(), on="review_id", how="anti").sort("review_id")


def held_back() -> pl.DataFrame:
    """The reviews that nobody learns from, each once."""
    return _half(HELD_BACK)


def _half(source: str) -> pl.DataFrame:
    return etl.reviews().filter(pl.col("source") == source).unique("review_id", keep="first", maintain_order=True)


USE_CASE = replace(
    REVIEWS,
    extract="usecases.reviews.few_labels:extract",
    # A fifth of few labels, of which some stand for many reviews, shows next to nothing: so this asks for nothing.
    # What a model is worth is said by the reviews that are held back.
    gates=Gates(beat_baseline_by=-5.0, incumbent_margin=5.0, minimum_blocks=3),
)
