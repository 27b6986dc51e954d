"""What a conformal correction promises holds, whatever made the quantiles."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.model_builder.conformal import around, correction, scores, sorted_bounds
from ninefold.errors import DataError

finite = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.lists(finite, min_size=20, max_size=80), st.sampled_from([0.5, 0.7, 0.8, 0.9]))
def test_the_correction_is_the_least_score_that_enough_rows_do_not_exceed(values: list[float], nominal: float) -> None:
    found = correction(np.array(values), np.ones(len(values)), nominal)
    needed = math.ceil(round(nominal * (len(values) + 1), 9))
    assert found == sorted(values)[needed - 1]


@given(st.lists(st.tuples(finite, st.integers(1, 3)), min_size=20, max_size=40))
def test_a_row_of_weight_two_counts_as_two_rows(rows: list[tuple[float, int]]) -> None:
    values, counts = np.array([v for v, _ in rows]), np.array([c for _, c in rows])
    spread = np.repeat(values, counts)
    # The new row is as heavy as the heaviest; among rows of one each it is one.
    needed = math.ceil(round(0.8 * (len(spread) + counts.max()), 9))
    assert correction(values, counts.astype(float), 0.8) == np.sort(spread)[needed - 1]


def test_too_few_rows_promise_nothing() -> None:
    assert correction(np.arange(4.0), np.ones(4), 0.8) == 3.0
    with pytest.raises(DataError, match=r"3 validation rows are too few .* 80\.0% .* It takes 4 at least"):
        correction(np.arange(3.0), np.ones(3), 0.8)
    with pytest.raises(DataError, match="0 validation rows"):
        correction(np.empty(0), np.empty(0), 0.8)


@given(
    st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=30),
    st.floats(-1e5, 1e5, allow_subnormal=False),
)
def test_an_interval_holds_its_prediction_and_all_that_the_moved_bounds_hold(
    rows: list[tuple[float, float, float]], moved: float
) -> None:
    """Also where quantiles crossed, and where so much is taken from both that nothing is left between them."""
    table = np.array(rows)
    bounds, prediction = sorted_bounds(table[:, :2]), table[:, 2]
    interval = around(bounds, moved, prediction)
    assert (interval[:, 0] <= prediction).all()
    assert (prediction <= interval[:, 1]).all()
    assert (interval[:, 0] <= bounds[:, 0] - moved).all()
    assert (interval[:, 1] >= bounds[:, 1] + moved).all()


def test_quantiles_that_cross_change_places_and_others_stay() -> None:
    assert sorted_bounds(np.array([[2.0, 1.0], [1.0, 2.0], [3.0, 3.0]])).tolist() == [
        [1.0, 2.0],
        [1.0, 2.0],
        [3.0, 3.0],
    ]


@pytest.mark.parametrize("nominal", [0.8, 0.95])
@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (-9.0, 9.0), (3.0, -2.0)])
def test_new_rows_lie_inside_as_often_as_promised_however_bad_the_quantiles(
    nominal: float, low: float, high: float
) -> None:
    """Draws of 99 rows to calibrate on and a new one: by the theorem nominal to nominal + 1 / 100 of them hold."""
    random = np.random.default_rng(11)
    draws, rows = 1_500, 99
    held = 0
    for _ in range(draws):
        spread = random.gamma(2.0, size=rows + 1)
        truth = random.standard_t(3, size=rows + 1) * spread
        # Quantiles that see something, are biased, useless, far too wide, or the wrong way round.
        bounds = sorted_bounds(np.stack([low - spread, high + 0.2 * spread], axis=1))
        moved = correction(scores(bounds[:rows], truth[:rows]), np.ones(rows), nominal)
        lower, upper = around(bounds[rows:], moved, bounds[rows:].mean(axis=1))[0]
        held += lower <= truth[rows] <= upper
    deviation = math.sqrt(nominal * (1 - nominal) / draws)
    assert held / draws >= nominal - 4 * deviation
    if low == high == 0.0:
        # The prediction lies inside of nearly all of these, so nothing is widened.
        assert held / draws <= nominal + 1 / (rows + 1) + 4 * deviation
