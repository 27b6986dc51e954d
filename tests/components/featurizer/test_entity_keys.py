from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.featurizer.entity_keys import entity_keys
from ninefold.errors import DataError
from ninefold.records import entity_key

COLUMNS = {
    "text": (st.text(alphabet="ab|\\é", max_size=6), pl.String),
    "whole": (st.integers(-(2**63), 2**63 - 1), pl.Int64),
    "number": (st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9).map(float), pl.Float64),
    "time": (
        st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)).map(lambda naive: naive.replace(tzinfo=UTC)),
        pl.Datetime("us", "UTC"),
    ),
}


@given(st.lists(st.tuples(*(values for values, _ in COLUMNS.values())), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_frames_keys_are_those_of_its_rows(rows) -> None:
    frame = pl.DataFrame(rows, schema={name: dtype for name, (_, dtype) in COLUMNS.items()}, orient="row")
    assert entity_keys(frame, list(COLUMNS)).to_list() == [entity_key(row) for row in rows]
    assert entity_keys(frame, ["time", "text"]).to_list() == [entity_key((row[3], row[0])) for row in rows]


def test_a_boolean_counts_as_the_number_that_its_field_keeps() -> None:
    assert entity_keys(pl.DataFrame({"b": [True, False]}), ["b"]).to_list() == [entity_key([1.0]), entity_key([0.0])]


def test_what_is_no_key_is_named() -> None:
    with pytest.raises(DataError, match="'a' is null in 1 rows"):
        entity_keys(pl.DataFrame({"a": ["x", None]}), ["a"])
    with pytest.raises(DataError, match="columns b are missing"):
        entity_keys(pl.DataFrame({"a": ["x"]}), ["a", "b"])
    with pytest.raises(DataError, match="List"):
        entity_keys(pl.DataFrame({"a": [["x"]]}), ["a"])
