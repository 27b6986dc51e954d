"""Rows that were picked with unequal chances: what weighting by the inverse chance makes of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evaluator.blocks import effective_blocks, number_blocks, without_each_block
from components.evaluator.comparison import compare
from ninefold.errors import DataError
from ninefold.fields import Metric
from ninefold.metrics import compute, effective_rows

MAE = Metric(name="mae", direction="minimize", unit="min")

WEIGHTED_ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.integers(0, 4), st.integers(1, 3)),
    min_size=6,
    max_size=30,
)


@settings(max_examples=50)
@given(WEIGHTED_ROWS)
def test_a_weight_of_two_is_the_row_twice(rows: list[tuple[float, float, int, int]]) -> None:
    truth, prediction, labels, weight = (np.array(column) for column in zip(*rows, strict=True))
    _, places = number_blocks(labels)
    again = np.repeat(np.arange(len(truth)), weight)
    for name in ("auc", "log_loss", "recall", "rmse", "mae"):
        value, without = without_each_block(name, truth, prediction, places, weight)
        twice, without_twice = without_each_block(name, truth[again], prediction[again], places[again])
        assert value == pytest.approx(twice, nan_ok=True)
        assert without == pytest.approx(without_twice, nan_ok=True)
        assert value == pytest.approx(compute(name, truth, prediction, weight), nan_ok=True)


def test_equal_weights_change_nothing_to_the_last_digit() -> None:
    random = np.random.default_rng(0)
    truth, a, b = random.normal(size=(3, 90))
    blocks = np.repeat(np.arange(15), 6)
    plain = compare(MAE, truth, a, b, blocks)
    assert compare(MAE, truth, a, b, blocks, weight=np.ones(90)) == plain
    assert effective_rows(np.full(90, 7.0)) == pytest.approx(90)


def test_one_heavy_row_tells_hardly_more_than_one_row() -> None:
    weight = np.r_[1000.0, np.ones(50)]
    assert 1 < effective_rows(weight) < 1.2
    assert effective_blocks(np.arange(51), weight) == effective_rows(weight)
    known = compare(MAE, np.zeros(51), np.ones(51), np.linspace(0, 1, 51), np.arange(51), weight=weight)
    assert (known.rows, known.blocks) == (51, 1)
    assert math.isnan(known.improvement.low)


@pytest.mark.parametrize("wrong", [[1.0, -1.0, 1.0], [1.0, math.nan, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0]])
def test_what_is_no_weight_is_refused(wrong: list[float]) -> None:
    with pytest.raises(DataError, match="weights do not fit"):
        without_each_block("mae", np.zeros(3), np.zeros(3), np.arange(3), np.array(wrong))
    with pytest.raises(DataError, match="weights do not fit"):
        compare(MAE, np.zeros(3), np.zeros(3), np.zeros(3), np.arange(3), weight=np.array(wrong))


def test_the_weighted_interval_covers_what_it_claims_where_rows_were_picked_by_size() -> None:
    """Hard rows are picked far oftener; the plain mean is far off, the weighted one is covered as claimed."""
    random = np.random.default_rng(5)
    hardness = random.gamma(0.7, 1.0, 4_000)
    gain = 0.2 * hardness + random.normal(0, 0.2, 4_000)
    chance = np.minimum(1.0, 80 * (0.2 + hardness) / (0.2 + hardness).sum())
    covered = plain = 0
    for _ in range(400):
        rows = np.flatnonzero(random.random(4_000) < chance)
        worse = 9 + gain[rows]
        args = (MAE, np.zeros(len(rows)), worse, np.full(len(rows), 9.0), rows)
        weighted = compare(*args, weight=1 / chance[rows]).improvement
        covered += weighted.low <= gain.mean() <= weighted.high
        unweighted = compare(*args).improvement
        plain += unweighted.low <= gain.mean() <= unweighted.high
    assert covered / 400 >= 0.92
    assert plain / 400 < 0.3
