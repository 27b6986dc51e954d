"""The contract of reviews: a text is asked, and nothing is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np

from ninefold.fields import Columns, Field, Input, Metric
from ninefold.labels import LabellingInterface
from ninefold.rollout.policy import RolloutPolicy
from ninefold.splits import HashSplit
from ninefold.usecase import UseCase
from ninefold.words import words_of

Array = np.ndarray[Any, Any]

GREAT_FROM = 0.5
"""Probability from which a review is called great."""
PRAISE = frozenset({"best", "delicious", "great", "love", "perfect"})
BLAME = frozenset({"bad", "but", "disappointed", "not"})


def derive(columns: Columns) -> dict[str, Array]:
    """The text without the line breaks of the page that it was written on."""
    texts = [text.replace("<br />", " ") if text is not None else None for text in columns["input"]]
    return {"input": np.array(texts, dtype=object)}


def baseline(inputs: Columns) -> Array:
    """A lexicon: two of three reviews are great, more where words of praise outnumber those of blame, else fewer."""
    return 1.0 / (1.0 + np.exp(-0.6 - 0.7 * np.array([_opinion(text) for text in inputs["input"]], dtype=np.float64)))


def _opinion(text: str | None) -> int:
    words = set(words_of(text or ""))
    return len(words & PRAISE) - len(words & BLAME)


def decide(request: Mapping[str, Any], prediction: float) -> dict[str, str]:
    """The class."""
    return {"class": "great" if prediction >= GREAT_FROM else "other"}


def classes(request: Columns, truth: Array, prediction: Array) -> dict[str, float]:
    """How often the class is right, and what a page shows that takes the reviews called great."""
    called = prediction >= GREAT_FROM
    return {
        "class_right": float(np.mean(called == (truth == 1.0))),
        "great_of_those_called_great": float(truth[called].mean()) if called.any() else float("nan"),
        "great_that_are_found": float(called[truth == 1.0].mean()) if (truth == 1.0).any() else float("nan"),
    }


def review(request: Columns) -> Array:
    """The block: each review is independent of the next."""
    return request["review_id"]


USE_CASE = UseCase(
    name="reviews",
    title="Does the author of this review find the product great?",
    problem="binary",
    request=(
        Field(
            name="input",
            kind="text",
            on_unseen="fallback",
            example="I love this series of teas, they are the best I have found.",
            description="The review.",
        ),
        Field(
            name="review_id",
            kind="category",
            digest_of="input",
            example="B005GXFP60-1",
            description="What joins an answer to its truth; made from the text where it is left out.",
        ),
    ),
    key=("review_id",),
    target=Field(name="great", kind="number", minimum=0, maximum=1, example=1),
    metric=Metric(name="auc", direction="maximize"),
    extract="usecases.reviews.etl:extract",
    split=HashSplit(validation=0.2, test=0.2, salt="reviews"),
    inputs=(Input(name="input", kind="text", group="words"),),
    derive=derive,
    baseline=baseline,
    decide=decide,
    block=review,
    # A block is one review here, as one customer is in churn.
    rollout=RolloutPolicy(
        loss="brier",
        minimum_effect=0.005,
        harm_blocks=200,
        minimum_blocks=500,
        tightest_at=1_500,
        maximum_blocks=5_000,
        blocks_per_step=200,
        diagnosis_blocks=200,
        closes_after=timedelta(0),
    ),
    application_metrics=classes,
    explain={"words": "the words of the review"},
    labelling=LabellingInterface(
        title="A review",
        question="Does its author find the product great?",
        show=("input",),
        choices={"great": 1.0, "other": 0.0},
        instructions="Great is what gets the best mark, five stars of five. Praise with a but is other.",
    ),
    minimum_prediction=0.0,
    maximum_prediction=1.0,
)
