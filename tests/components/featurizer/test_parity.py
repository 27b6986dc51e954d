"""Parity is exact: any value that differs, is missing or is of another kind is counted and named."""

from datetime import UTC, datetime

import polars as pl
import pytest

from components.featurizer.parity import feature_parity
from ninefold.records import Prediction

AT = datetime(2024, 1, 1, tzinfo=UTC)


def _predictions(*features: dict[str, object]) -> list[Prediction]:
    return [
        Prediction(
            prediction_id=f"p{place}", use_case="u", request_id=None, key=str(place), decided_at=AT, received_at=AT,
            version=1, cohort="live", request={}, features=logged, value=0.0,
        )
        for place, logged in enumerate(features)
    ]  # fmt: skip


OFFLINE = pl.DataFrame({"feature.a": [1.5, None, 2.0], "feature.b": ["x", "y", None]})
EQUAL: list[dict[str, object]] = [{"a": 1.5, "b": "x"}, {"a": None, "b": "y"}, {"a": 2, "b": None}]


def test_equal_values_are_equal_nulls_and_whole_numbers_included() -> None:
    parity = feature_parity(_predictions(*EQUAL), OFFLINE)
    assert parity.equal
    assert (parity.rows, parity.values, parity.nulls) == (3, 6, 2)


@pytest.mark.parametrize(
    ("place", "change", "feature"),
    [
        (0, {"a": 1.5000000000000002}, "a"),
        (0, {"a": None}, "a"),
        (1, {"a": 0.0}, "a"),
        (2, {"b": ""}, "b"),
        (0, {"b": "y"}, "b"),
        (2, {"a": True}, "a"),
    ],
)
def test_a_value_that_differs_is_counted_and_shown(place: int, change: dict[str, object], feature: str) -> None:
    logged = [dict(row) for row in EQUAL]
    logged[place] |= change
    parity = feature_parity(_predictions(*logged), OFFLINE)
    assert not parity.equal
    assert parity.different == {feature: 1}
    assert (parity.examples[0].prediction_id, parity.examples[0].online) == (f"p{place}", change[feature])


def test_a_feature_that_was_not_logged_differs_even_from_null() -> None:
    logged = [dict(row) for row in EQUAL]
    del logged[1]["a"]
    assert feature_parity(_predictions(*logged), OFFLINE).different == {"a": 1}


def test_nothing_compared_is_not_equal() -> None:
    assert not feature_parity([], OFFLINE.clear()).equal
