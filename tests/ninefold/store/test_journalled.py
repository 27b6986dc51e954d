"""A record of the journal is the prediction that it is of, however it was written."""

from datetime import UTC

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.records import Prediction
from ninefold.store.journalled import journalled, row_of
from ninefold.store.rows import PREDICTIONS

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_VALUE = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT
_FINITE = st.floats(allow_nan=False, allow_infinity=False)
_INSTANT = st.datetimes(timezones=st.just(UTC))
_PREDICTION = st.builds(
    Prediction,
    prediction_id=_TEXT, use_case=_TEXT, request_id=st.none() | _TEXT, key=_TEXT, decided_at=_INSTANT,
    received_at=_INSTANT, version=st.integers(0, 99), cohort=_TEXT, request=st.dictionaries(_TEXT, _VALUE, max_size=4),
    features=st.dictionaries(_TEXT, _VALUE, max_size=4), value=st.floats(allow_nan=False, allow_infinity=False),
    fallback=st.none() | st.just("no_model"), flags=st.lists(_TEXT, max_size=2).map(tuple),
    latency_ms=st.floats(0, 1e6), interval=st.none() | st.tuples(_FINITE, _FINITE),
)  # fmt: skip


@given(_PREDICTION)
def test_a_record_is_the_row_of_its_prediction(prediction):
    expected = PREDICTIONS.encode(prediction)
    document = prediction.to_json()
    row = row_of(orjson.dumps(document))
    assert row | {"flags": tuple(orjson.loads(row["flags"]))} == expected
    fields = {name: value for name, value in document.items() if name not in ("request", "features")}
    fields |= {"decided_at": prediction.decided_at, "received_at": prediction.received_at}
    row = row_of(journalled(fields, prediction.request, prediction.features))
    texts = {name: orjson.loads(row[name]) for name in ("request", "features", "flags")}
    assert row | texts == expected | {"flags": list(prediction.flags)}


@pytest.mark.parametrize("lines", [b"\n[]\n{}", b"\n{}\n3", b"\n{}\n", b"\n{}", b"\n{}\n{}\n{}"])
def test_other_lines_are_no_prediction(lines):
    fields = {
        "prediction_id": "p", "use_case": "u", "request_id": None, "key": "k", "decided_at": "2013-07-01T00:00:00Z",
        "received_at": "2013-07-01T00:00:00Z", "version": 1, "cohort": "live", "value": 1.0, "fallback": None,
        "flags": [], "latency_ms": 1.0,
    }  # fmt: skip
    kept = row_of(orjson.dumps(fields) + b"\n{}\n{}")
    # What was written before there were intervals has none, and neither rollout.
    assert (kept["request"], kept["lower"], kept["upper"], kept["rollout_id"]) == ("{}", None, None, None)
    with pytest.raises((KeyError, TypeError, ValueError)):
        row_of(orjson.dumps(fields) + lines)
