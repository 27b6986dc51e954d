"""A small use case whose request is a text: it fits the contract without anything made for texts.

Import path: ``text_use_case:USE_CASE``, with this folder on ``sys.path`` (a child process: on ``PYTHONPATH``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ninefold.fields import Columns, Field, Input, Metric
from ninefold.splits import HashSplit
from ninefold.usecase import Gates, History, UseCase

Array = np.ndarray[Any, Any]

GOOD, BAD = ("great", "love", "best", "delicious"), ("awful", "stale", "worst", "refund")
OTHER = ("the", "tea", "coffee", "box", "arrived", "taste", "of", "my", "dog", "it", "again", "würzig")
ROWS = 600


def extract() -> History:
    """Reviews drawn with a fixed seed: mostly neutral words, some that tell, and one opinion in ten at random."""
    import polars as pl

    random = np.random.default_rng(9)
    rows = []
    for number in range(ROWS):
        likes = random.random() < 0.65
        telling = GOOD if likes != (random.random() < 0.1) else BAD
        words = [*random.choice(OTHER, 8), *random.choice(telling, random.integers(0, 3))]
        rows.append((f"r{number:04}", " ".join(random.permutation(words)), float(likes)))
    frame = pl.DataFrame(rows, schema=["review_id", "text", "truth"], orient="row")
    known_at = pl.lit(datetime(1970, 1, 1, tzinfo=UTC), dtype=pl.Datetime("us", "UTC"))
    return History(
        requests=frame.select("review_id", "text"),
        truths=frame.select("review_id", "truth", known_at=known_at),
    )


def derive(columns: Columns) -> dict[str, Array]:
    """The text, and how long it is."""
    lengths = np.array([np.nan if text is None else len(text) for text in columns["text"]], dtype=np.float64)
    return {"text": columns["text"], "length": lengths}


def baseline(inputs: Columns) -> Array:
    """A lexicon: a half, and more for every good word than bad ones."""

    def score(text: str | None) -> float:
        words = (text or "").split()
        return sum(word in GOOD for word in words) - sum(word in BAD for word in words)

    return 1.0 / (1.0 + np.exp(-np.array([score(text) for text in inputs["text"]], dtype=np.float64)))


def decide(request: Mapping[str, Any], prediction: float) -> dict[str, bool]:
    """Whether the review is shown on the product's page."""
    return {"show": prediction >= 0.5}


def review(request: Columns) -> Array:
    """Each review is independent of the next."""
    return request["review_id"]


USE_CASE = UseCase(
    name="opinions",
    title="Is this a favourable review?",
    problem="binary",
    request=(
        Field(name="review_id", kind="category", example="r0001"),
        Field(name="text", kind="text", example="the best tea"),
    ),
    key=("review_id",),
    target=Field(name="favourable", kind="number", minimum=0, maximum=1),
    metric=Metric(name="auc", direction="maximize"),
    extract="text_use_case:extract",
    split=HashSplit(),
    inputs=(Input(name="text", kind="text", group="words"), Input(name="length", group="length")),
    derive=derive,
    baseline=baseline,
    decide=decide,
    block=review,
    gates=Gates(),
    explain={"words": "the words", "length": "how long it is"},
    minimum_prediction=0.0,
    maximum_prediction=1.0,
)
