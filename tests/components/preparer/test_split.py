"""Splits: every row in one part or counted, no key in two, and nothing known too late."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.preparer.split import Parts, back, split, stable_hash
from ninefold.dataset import PARTS
from ninefold.errors import ConfigurationError, DataError, UsageError
from ninefold.splits import HashSplit, TimeSplit

UNTIL = datetime(2013, 4, 1, tzinfo=UTC)
LAWS = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

ROWS = st.lists(
    st.tuples(
        st.integers(0, 30).map(lambda i: f"k{i}"),
        st.one_of(st.none(), st.integers(0, 100).map(float)),
        st.one_of(st.none(), st.sampled_from([0.0, 1.0])),
        st.one_of(st.none(), st.sampled_from([0.0, 0.5, 3.0, 40.0])),
    ),
    max_size=60,
)


def _frame(make_rows, rows) -> pl.DataFrame:
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    frame = make_rows(columns[0], days=columns[1], truth=columns[2], known_after=columns[3])
    return frame.with_columns(pl.int_range(pl.len()).alias("input.distance"))


def _kept(parts: Parts) -> dict[str, list[int]]:
    return {name: sorted(getattr(parts, name)["input.distance"].to_list()) for name in PARTS}


@LAWS
@given(rows=ROWS)
@pytest.mark.parametrize("case", ["timed", "timeless"])
def test_every_row_is_in_one_part_or_counted_and_no_key_is_in_two(make_rows, request, case, rows) -> None:
    frame = _frame(make_rows, rows)
    parts = split(frame, request.getfixturevalue(case), UNTIL)
    kept = [row for name in PARTS for row in _kept(parts)[name]]
    assert len(kept) == len(set(kept))
    assert len(kept) + sum(parts.notes["dropped"].values()) == len(frame)
    keys = [set(getattr(parts, name)["key"].to_list()) for name in PARTS]
    assert len(set.union(*keys)) == sum(map(len, keys))
    assert parts.test.columns == frame.columns


@LAWS
@given(rows=ROWS, seed=st.integers(0, 5))
@pytest.mark.parametrize("case", ["timed", "timeless"])
def test_the_order_of_the_rows_means_nothing(make_rows, request, case, rows, seed) -> None:
    frame = _frame(make_rows, rows)
    use_case = request.getfixturevalue(case)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    assert _kept(split(shuffled, use_case, UNTIL)) == _kept(split(frame, use_case, UNTIL))


@LAWS
@given(rows=ROWS)
@pytest.mark.parametrize("case", ["timed", "timeless"])
def test_dividing_what_was_divided_changes_nothing(make_rows, request, case, rows) -> None:
    use_case = request.getfixturevalue(case)
    once = split(_frame(make_rows, rows), use_case, UNTIL)
    again = split(pl.concat([once.training, once.validation, once.test]), use_case, UNTIL)
    assert _kept(again) == _kept(once)


@LAWS
@given(rows=ROWS)
def test_nothing_that_was_not_known_yet_is_in_an_earlier_part(make_rows, timed, rows) -> None:
    parts = split(_frame(make_rows, rows), timed, UNTIL)
    validation_from, test_from = datetime(2013, 2, 1, tzinfo=UTC), datetime(2013, 3, 1, tzinfo=UTC)
    for part, end in ((parts.training, validation_from), (parts.validation, test_from)):
        known = part.filter(pl.col("truth").is_not_null())["truth_known_at"]
        assert known.null_count() == 0
        assert (known < end).all()
        assert (part["decided_at"] < end).all()
    assert parts.test["decided_at"].is_between(test_from, UNTIL, closed="left").all()


def test_calendar_months_go_back_from_the_end(make_rows, timed) -> None:
    days = [0, 30.999, 31, 58.999, 59, 89.999, 90, None]
    parts = split(make_rows([f"k{i}" for i in range(8)], days=days, truth=[1.0] * 8), timed, UNTIL)
    assert parts.training["key"].to_list() == ["k0", "k1"]
    assert parts.validation["key"].to_list() == ["k2", "k3"]
    assert parts.test["key"].to_list() == ["k4", "k5"]
    assert parts.notes["dropped"] == {"decided at the end or after it": 1, "no decision moment": 1}
    assert (parts.notes["validation_from"], parts.notes["test_from"]) == (
        "2013-02-01T00:00:00Z",
        "2013-03-01T00:00:00Z",
    )
    assert parts.notes["crossing_checked"] is False


@pytest.mark.parametrize(
    ("length", "expected"),
    [("1mo", "2013-02-28"), ("3mo", "2012-12-31"), ("13mo", "2012-02-29"), ("30d", "2013-03-01")],
)
def test_lengths_are_calendar_months_or_days(length: str, expected: str) -> None:
    assert back(datetime(2013, 3, 31, tzinfo=UTC), length) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize("length", ["", "1", "0d", "-1mo", "1y", "1.5mo"])
def test_other_lengths_are_refused(length: str) -> None:
    with pytest.raises(ConfigurationError, match="no length of a split"):
        back(UNTIL, length)


@pytest.mark.parametrize("length", ["1mo", "9d"])
def test_a_time_before_the_calendar_begins_is_named(length: str) -> None:
    with pytest.raises(UsageError, match=r"no time .* before 0001-01-0.*--until"):
        back(datetime(1, 1, 9, 12, tzinfo=UTC) - timedelta(days=1), length)
    assert back(datetime(1, 2, 1, tzinfo=UTC), "1mo") == back(datetime(1, 1, 10, tzinfo=UTC), "9d")


def test_a_row_whose_truth_was_known_too_late_is_dropped_and_counted(make_rows, timed) -> None:
    frame = make_rows(
        ["in time", "just too late", "unknown when", "validation, too late", "test, after the end"],
        days=[30, 30, 30, 58, 89], truth=[1.0] * 5, known_after=[0.999, 1, None, 2, 3],
    )  # fmt: skip
    parts = split(frame, timed, UNTIL)
    assert parts.training["key"].to_list() == ["in time"]
    assert parts.validation.is_empty()
    assert parts.test["key"].to_list() == ["test, after the end"]
    assert parts.notes["dropped"] == {"truth not known in time": 3}
    assert parts.notes["crossing_checked"] is True


def test_a_key_that_is_asked_again_later_stays_in_the_later_part_only(make_rows, timed) -> None:
    parts = split(make_rows(["a", "a", "b", "a"], days=[3, 70, 3, 95], truth=[1.0] * 4), timed, UNTIL)
    assert parts.training["key"].to_list() == ["b"]
    assert parts.test["key"].to_list() == ["a"]
    assert parts.notes["dropped"] == {"decided at the end or after it": 1, "key is in a later part": 1}


def _customers(make_rows, rows: int, share: float = 0.25) -> pl.DataFrame:
    truth = (np.random.default_rng(0).random(rows) < share).astype(float)
    return make_rows([f"c{i}" for i in range(rows)], days=[None] * rows, truth=truth.tolist())


def test_a_split_by_hash_has_the_declared_shares_of_each_class(make_rows, timeless) -> None:
    frame = _customers(make_rows, 2000)
    parts = split(frame, timeless, None)
    for truth in (0.0, 1.0):
        all_of_class = (frame["truth"] == truth).sum()
        for part, share in ((parts.test, 0.3), (parts.validation, 0.2), (parts.training, 0.5)):
            assert abs((part["truth"] == truth).sum() - share * all_of_class) <= 1
    assert parts.notes["by"] == "hash"


def test_another_salt_divides_otherwise_and_the_same_one_always_alike(make_rows, timeless) -> None:
    frame = _customers(make_rows, 200)
    salted = dataclasses.replace(timeless, split=HashSplit(validation=0.2, test=0.3, salt="x"))
    assert _kept(split(frame, timeless, None)) == _kept(split(frame, timeless, None))
    assert set(split(frame, salted, None).test["key"]) != set(split(frame, timeless, None).test["key"])
    # A change of the hash would move rows between parts from one version to the next.
    assert stable_hash("salt", "c1") == 4357991926908686180


def test_a_regression_without_time_is_stratified_by_tenths_of_its_truths(make_rows, timed) -> None:
    use_case = dataclasses.replace(timed, decided_at=None, split=HashSplit(validation=0.2, test=0.2))
    truth = np.random.default_rng(0).exponential(size=1000)
    parts = split(make_rows([f"c{i}" for i in range(1000)], days=[None] * 1000, truth=truth.tolist()), use_case, None)
    assert parts.notes["strata"] == 10
    top = np.quantile(truth, 0.9)
    assert (parts.test["truth"] > top).sum() == 20


def test_what_cannot_be_divided_is_refused(make_rows, timed, timeless) -> None:
    frame = _customers(make_rows, 10)
    with pytest.raises(UsageError, match="divided by time, and no end was given"):
        split(frame, timed, None)
    with pytest.raises(DataError, match="no column truth"):
        split(frame.drop("truth"), timed, UNTIL)
    with pytest.raises(ConfigurationError, match="divide nothing"):
        split(frame, dataclasses.replace(timeless, split=HashSplit(validation=0.6, test=0.4)), None)
    with pytest.raises(ConfigurationError, match="'1w' is no length"):
        split(frame, dataclasses.replace(timed, split=TimeSplit(test="1w")), UNTIL - timedelta(days=1))
