"""Identities: two different keys never share a text, and a record survives its JSON."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ninefold.records import Prediction, derived_id, entity_key

VALUES = st.lists(st.text(alphabet="ab|\\", max_size=4), min_size=1, max_size=4)


@given(VALUES, VALUES)
def test_different_keys_have_different_texts(a: list[str], b: list[str]) -> None:
    assert (entity_key(a) == entity_key(b)) == (a == b)


@given(VALUES, VALUES)
def test_different_parts_have_different_ids(a: list[str], b: list[str]) -> None:
    assert (derived_id(*a) == derived_id(*b)) == (a == b)


def test_a_key_is_readable() -> None:
    assert entity_key(["2013-07-01", "UA", 1545.0, "EWR"]) == "2013-07-01|UA|1545|EWR"
    assert entity_key([datetime(2013, 7, 1, tzinfo=UTC)]) == "2013-07-01T00:00:00Z"


def test_a_prediction_survives_its_json() -> None:
    prediction = Prediction(
        prediction_id="p",
        use_case="arrivals",
        request_id=None,
        key="k",
        decided_at=datetime(2013, 7, 1, 12, 0, 0, 5, tzinfo=UTC),
        received_at=datetime(2013, 7, 1, 12, tzinfo=UTC),
        version=3,
        cohort="live",
        request={"carrier": "UA"},
        features={"weather__wind": None},
        value=12.5,
        fallback="model_slow",
        flags=("missing:weather",),
        latency_ms=0.4,
    )
    assert Prediction.from_json(prediction.to_json()) == prediction
