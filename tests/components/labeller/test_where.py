"""Picking by an expression: what it means, and that nothing in it is run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.labeller.where import where
from ninefold.errors import InvalidInput
from ninefold.loading import load_use_case
from ninefold.records import Prediction

CHURN = load_use_case("churn")
REVIEWS = load_use_case("reviews")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def review(text: str | None = "I like Tea", value: float = 0.5, **more: Any) -> Prediction:
    return Prediction(
        prediction_id="p", use_case="reviews", request_id=None, key="r1", decided_at=NOW, received_at=NOW, version=3,
        cohort="live", request={"input": text, "review_id": "r1"}, features={}, value=value, **more,
    )  # fmt: skip


def customer(**features: Any) -> Prediction:
    return Prediction(
        prediction_id="p", use_case="churn", request_id=None, key="1", decided_at=NOW, received_at=NOW, version=0,
        cohort="live", request={"customer_id": 1.0}, features={f"customer__{n}": v for n, v in features.items()},
        value=0.5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("prediction between 0.4 and 0.6", True),
        ("prediction between .5 and 5e-1 AND version = 3", True),
        ("input contains 'TEA'", True),
        ('input contains "it""s"', False),
        ("input not contains 'tea'", False),
        ("version in (1, 3)", True),
        ("version not in (1, 3)", False),
        ("prediction < 0.5 or prediction >= 0.5", True),
        ("prediction <> 0.5 or version != 3", False),
        ("not (version = 3 and cohort = 'live')", False),
        ("fallback is null and input is not null", True),
        ("decided_at >= '2026-01-01' and decided_at < '2026-01-01T00:00:01Z'", True),
        ("key = 'r1'", True),
        # Neither true nor false of what is not known.
        ("fallback = 'model_slow'", False),
        ("not fallback = 'model_slow'", False),
        ("fallback = 'model_slow' or version = 3", True),
        ("not (fallback = 'model_slow' and version = 2)", True),
    ],
)
def test_what_an_expression_means(text: str, meant: bool) -> None:
    assert where(text, REVIEWS)(review()) is meant


def test_features_and_their_kinds() -> None:
    one = customer(tenure=3.0, paperless_billing=1.0, contract="Month-to-month", total_charges=None)
    for text, meant in (
        ("customer__tenure < 12 and customer__contract in ('Month-to-month', 'Two year')", True),
        ("customer__paperless_billing = true", True),
        ("customer__total_charges > 0 or customer__total_charges <= 0", False),
        ("customer_id = 1", True),
    ):
        assert where(text, CHURN)(one) is meant


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the expression ends"),
        ("prediction", "the expression ends"),
        ("price = 1", "there is no 'price'. There are cohort"),
        ("prediction = 'a'", "prediction is a number"),
        ("(prediction = 1", r"Expected: \)"),
        ("prediction = 1 prediction = 1", "at character 16 there is 'prediction'"),
        ("prediction = 1 or", "the expression ends"),
        ("input contains 3", "which is no text|is a text"),
        ("prediction contains 'a'", "contains nothing"),
        ("input = 'a", "can't be read"),
        ("prediction ~ 3", "can't be read"),
        ("prediction = __import__('os')", "Expected: a value"),
        ("decided_at > 'soon'", "is not a time"),
        ("(" * 60 + "version = 1" + ")" * 60, "deeper than 50"),
        ("not " * 60 + "version = 1", "deeper than 50"),
        ("version = 1 or " * 200 + "version = 1", "Write at most 2,000"),
    ],
)
def test_what_can_t_be_read_is_refused_and_says_where(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        where(text, REVIEWS)
    assert refused.value.field.startswith("where")


words = st.sampled_from(
    ["prediction", "version", "input", "and", "or", "not", "(", ")", "=", "<", "in", "between", "contains", "is",
     "'a'", ",", "true", "null", "1", "$", "\0", "."]
)  # fmt: skip


@given(st.lists(words, max_size=12).map(" ".join) | st.text(max_size=30))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        condition = where(text, REVIEWS)
    except InvalidInput:
        return
    assert condition(review()) in (True, False)
    assert condition(review(None)) in (True, False)
