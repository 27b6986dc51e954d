"""What an answer keeps to whatever a model said: the bounds of its use case, for the value and the interval."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcels import USE_CASE

from serving.front_end.recording import Recorder

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)


def recorder(least: float | None, greatest: float | None) -> Recorder:
    return Recorder(dataclasses.replace(USE_CASE, minimum_prediction=least, maximum_prediction=greatest))


@given(st.tuples(numbers, numbers, numbers).map(sorted), st.tuples(numbers, numbers).map(sorted))
def test_an_interval_that_is_clipped_lies_within_the_bounds_and_holds_the_value_that_is(
    answered: list[float], bounds: list[float]
) -> None:
    least, greatest = bounds
    clipping = recorder(least, greatest)
    lower, value, upper = answered
    clipped = clipping.clip(value, [])
    interval = clipping.clip_interval((lower, upper))
    assert interval is not None
    assert least <= interval[0] <= clipped <= interval[1] <= greatest
    if least <= lower and upper <= greatest:
        assert interval == (lower, upper)


@pytest.mark.parametrize(
    ("least", "greatest", "expected"), [(None, None, (-5.0, 5.0)), (0.0, None, (0.0, 5.0)), (None, 2.0, (-5.0, 2.0))]
)
def test_a_side_without_a_bound_is_left_as_it_is(
    least: float | None, greatest: float | None, expected: tuple[float, float]
) -> None:
    assert recorder(least, greatest).clip_interval((-5.0, 5.0)) == expected
    assert recorder(least, greatest).clip_interval(None) is None
