"""Sanitising: what can't be learned from goes, counted by reason; what stays is the same in any order."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.preparer.sanitise import REPEATED, sanitise
from ninefold.errors import DataError

LAWS = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

ROWS = st.lists(
    st.tuples(
        st.integers(0, 12).map(lambda i: f"k{i}"),
        st.one_of(st.none(), st.integers(0, 3).map(float)),
        st.one_of(st.none(), st.sampled_from([0.0, 1.0, -5.0, 700.0, math.nan, math.inf])),
        st.one_of(st.none(), st.sampled_from([1.0, 101.0, math.nan, -math.inf])),
        st.sampled_from(["north", "west", None]),
    ),
    max_size=40,
)


def _frame(make_rows, rows) -> pl.DataFrame:
    columns = list(zip(*rows, strict=True)) if rows else [()] * 5
    return make_rows(columns[0], days=columns[1], truth=columns[2]).with_columns(
        pl.Series("request.distance", columns[3], dtype=pl.Float64),
        pl.Series("request.zone", columns[4], dtype=pl.String),
        pl.int_range(pl.len()).cast(pl.Float64).alias("input.distance"),
    )


@LAWS
@given(rows=ROWS)
@pytest.mark.parametrize("case", ["timed", "timeless"])
def test_every_row_stays_or_is_counted_once_and_twice_is_as_good_as_once(make_rows, request, case, rows) -> None:
    frame, use_case = _frame(make_rows, rows), request.getfixturevalue(case)
    once = sanitise(frame, use_case)
    assert len(once.frame) + sum(once.dropped.values()) == len(frame)
    assert once.frame["key"].is_unique().all()
    again = sanitise(once.frame, use_case)
    assert again.frame.equals(once.frame)
    assert not again.dropped
    assert not again.nulled


@LAWS
@given(rows=ROWS, seed=st.integers(0, 5))
def test_the_order_of_the_rows_means_nothing(make_rows, timed, rows, seed) -> None:
    frame = _frame(make_rows, rows)
    a, b = sanitise(frame, timed), sanitise(frame.sample(fraction=1.0, shuffle=True, seed=seed), timed)
    assert a.dropped == b.dropped
    assert a.nulled == b.nulled
    assert a.frame.sort("input.distance").equals(b.frame.sort("input.distance"))


def test_each_reason_is_counted(make_rows, timed) -> None:
    rows = 9
    frame = make_rows([f"k{i}" for i in range(rows)], days=[1.0] * rows, truth=[5.0] * rows).with_columns(
        truth=pl.Series([5.0, None, math.nan, -1.0, 601.0, 5.0, 5.0, 5.0, 5.0]),
    )
    frame = frame.with_columns(
        pl.Series("request.distance", [1.0, 1, 1, 1, 1, 101, -1, None, 1]),
        pl.Series("request.zone", ["north"] * 8 + ["west"]),
    )
    found = sanitise(frame, timed)
    assert found.frame["key"].to_list() == ["k0", "k7"]
    assert found.dropped == {
        "truth is unknown": 2,
        "truth is below 0": 1,
        "truth is above 600": 1,
        "distance is above 100": 1,
        "distance is below 0": 1,
        "zone is none of its values": 1,
    }


def test_a_required_field_that_is_null_drops_the_row(make_rows, timed) -> None:
    frame = make_rows(["a", "b"], days=[1.0, 1.0], truth=[1.0, 1.0]).with_columns(
        pl.Series("request.zone", ["north", None])
    )
    assert sanitise(frame, timed).dropped == {"zone is null": 1}


def test_a_class_is_0_or_1(make_rows, timeless) -> None:
    frame = make_rows(["a", "b", "c"], days=[None] * 3, truth=[1.0, 2.0, 0.0])
    assert sanitise(frame, timeless).dropped == {"truth is neither 0 nor 1": 1}


def test_values_that_are_no_numbers_become_null_and_are_counted(make_rows, timed) -> None:
    frame = make_rows(["a", "b", "c"], days=[1.0] * 3, truth=[1.0] * 3).with_columns(
        pl.Series("input.distance", [math.inf, math.nan, 3.0]),
        pl.Series("feature.recent__mean", [math.nan, 1.0, None]),
    )
    found = sanitise(frame, timed)
    assert found.nulled == {"input.distance": 2, "feature.recent__mean": 1}
    assert found.frame["input.distance"].to_list() == [None, None, 3.0]
    assert not found.dropped


def test_of_a_repeated_key_the_newest_good_request_stays(make_rows, timed) -> None:
    frame = make_rows(["a", "a", "a", "b"], days=[1.0, 3.0, 5.0, 1.0], truth=[1.0, 2.0, None, 4.0])
    found = sanitise(frame, timed)
    assert found.frame["truth"].to_list() == [2.0, 4.0]
    assert found.dropped == {REPEATED: 1, "truth is unknown": 1}
    assert len(sanitise(frame, timed, keys_may_repeat=True).frame) == 3


def test_a_data_set_without_its_columns_is_refused(make_rows, timed) -> None:
    frame = make_rows(["a"], days=[1.0], truth=[1.0])
    with pytest.raises(DataError, match=r"no column request\.zone"):
        sanitise(frame.drop("request.zone"), timed)
    with pytest.raises(DataError, match="no column truth"):
        sanitise(frame.drop("truth"), timed)
