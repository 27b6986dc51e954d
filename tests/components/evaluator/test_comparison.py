"""Comparisons: their numbers, and that their intervals hold where rows are not independent."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evaluator.blocks import number_blocks, t_quantile, without_each_block
from components.evaluator.comparison import Comparison, compare
from ninefold.errors import ConfigurationError, DataError
from ninefold.fields import Metric
from ninefold.metrics import compute

MAE = Metric(name="mae", direction="minimize", unit="min")
AUC = Metric(name="auc", direction="maximize")


def test_a_lower_error_and_a_higher_auc_are_both_improvements() -> None:
    truth, blocks = np.array([0.0, 1.0, 0.0, 1.0] * 5), np.repeat(np.arange(5), 4)
    worse, better = np.array([0.6, 0.4, 0.2, 0.5] * 5), np.array([0.1, 0.8, 0.2, 0.5] * 5)
    for metric in (AUC, Metric(name="brier", direction="minimize")):
        comparison = compare(metric, truth, worse, better, blocks)
        assert comparison.improvement.value > 0
        assert comparison.relative.value == pytest.approx(comparison.improvement.value / comparison.reference)
        assert compare(metric, truth, better, worse, blocks).improvement.value == -comparison.improvement.value


def test_equal_models_differ_by_nothing() -> None:
    truth, blocks = np.arange(20.0), np.repeat(np.arange(5), 4)
    comparison = compare(MAE, truth, truth + 1, truth - 1, blocks)
    assert (comparison.improvement.low, comparison.improvement.value, comparison.improvement.high) == (0, 0, 0)
    assert (comparison.rows, comparison.blocks) == (20, 5)


def test_the_interval_of_a_mean_over_equal_blocks_is_students_t_over_block_means() -> None:
    random = np.random.default_rng(0)
    truth, blocks = np.zeros(60), np.repeat(np.arange(12), 5)
    a, b = np.abs(random.normal(size=60)) + 3, np.abs(random.normal(size=60)) + 2
    means = (a - b).reshape(12, 5).mean(axis=1)
    reach = t_quantile(0.975, 11) * means.std(ddof=1) / math.sqrt(12)
    found = compare(MAE, truth, a, b, blocks).improvement
    assert (found.low, found.high) == pytest.approx((means.mean() - reach, means.mean() + reach))


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.70620), (2, 4.30265), (13, 2.16037), (30, 2.04227)])
def test_quantiles_of_students_t_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(quantile, abs=1e-5)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.integers(0, 4)),
        min_size=6, max_size=40,
    )
)  # fmt: skip
def test_leaving_a_block_out_is_computing_the_metric_without_its_rows(rows: list[tuple[float, float, int]]) -> None:
    truth, prediction, labels = (np.array(column) for column in zip(*rows, strict=True))
    distinct, places = number_blocks(labels)
    for name in ("auc", "log_loss", "recall", "rmse", "r2"):
        value, without = without_each_block(name, truth, prediction, places)
        assert value == pytest.approx(compute(name, truth, prediction), nan_ok=True)
        for place in range(len(distinct)):
            rest = places != place
            expected = compute(name, truth[rest], prediction[rest]) if rest.any() else math.nan
            if name == "r2" and len(np.unique(truth[rest])) < 2:
                continue
            assert without[place] == pytest.approx(expected, nan_ok=True)


def _covered(metric: Metric, simulate, truth_value: float, runs: int) -> tuple[float, float]:
    """How often the interval over blocks, and the one over rows, hold the true improvement."""
    over_blocks = over_rows = 0
    for _ in range(runs):
        truth, a, b, blocks = simulate()
        for interval, counts in (
            (compare(metric, truth, a, b, blocks).improvement, "blocks"),
            (compare(metric, truth, a, b, np.arange(len(truth))).improvement, "rows"),
        ):
            holds = interval.low <= truth_value <= interval.high
            over_blocks += holds and counts == "blocks"
            over_rows += holds and counts == "rows"
    return over_blocks / runs, over_rows / runs


def test_the_interval_over_blocks_covers_what_it_claims_where_rows_move_together() -> None:
    """Storms move whole days: 95 % over days is 95 %, while over rows it is far less."""
    random = np.random.default_rng(3)

    def simulate():
        sizes = random.integers(5, 40, 25)
        blocks = np.repeat(np.arange(25), sizes)
        storm = random.normal(0, 0.8, 25)[blocks]
        a = 20 + np.abs(random.normal(size=len(blocks)))
        return np.zeros(len(blocks)), a, a - (1 + storm + random.normal(0, 0.5, len(blocks))), blocks

    over_blocks, over_rows = _covered(MAE, simulate, 1.0, 600)
    assert 0.925 <= over_blocks <= 0.975
    assert over_rows < 0.6


def test_the_interval_of_an_auc_covers_what_it_claims() -> None:
    """Customers recur: each block holds several rows of one customer, with one truth and nearly one score."""
    random = np.random.default_rng(4)

    def simulate():
        truth = np.repeat((random.random(60) < 0.4).astype(float), 6)
        blocks = np.repeat(np.arange(60), 6)
        of_customer = np.repeat(random.normal(size=(60, 2)), 6, axis=0)
        noise = 0.1 * random.normal(size=(360, 2))
        scores = 1 / (1 + np.exp(-(of_customer + noise + truth[:, None])))
        return truth, scores[:, 0], scores[:, 1], blocks

    over_blocks, over_rows = _covered(AUC, simulate, 0.0, 300)
    assert 0.91 <= over_blocks <= 0.985
    assert over_rows < 0.8


def test_one_block_leaves_the_difference_unknown() -> None:
    comparison = compare(MAE, np.zeros(5), np.ones(5), np.zeros(5), np.zeros(5))
    assert comparison.improvement.value == 1
    assert math.isnan(comparison.improvement.low)
    assert math.isnan(comparison.relative.high)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'median_ae' has no interval"):
        compare(Metric(name="median_ae", direction="minimize"), np.zeros(4), np.ones(4), np.ones(4), np.arange(4))
    with pytest.raises(DataError, match="1 of 4 predictions"):
        compare(MAE, np.zeros(4), np.array([0, 0, np.nan, 0]), np.zeros(4), np.arange(4))
    with pytest.raises(DataError, match="3 blocks do not fit 4 rows"):
        compare(MAE, np.zeros(4), np.zeros(4), np.zeros(4), np.arange(3))
    with pytest.raises(DataError, match="1 of 2 rows have no block"):
        compare(MAE, np.zeros(2), np.zeros(2), np.zeros(2), np.array(["a", None], dtype=object))


def test_a_comparison_survives_json() -> None:
    one_block = compare(MAE, np.zeros(5), np.ones(5), np.zeros(5), np.zeros(5))
    many = compare(MAE, np.arange(20.0), np.ones(20), np.zeros(20), np.repeat(np.arange(5), 4))
    assert Comparison.from_json(json.loads(json.dumps(many.to_json()))) == many
    again = Comparison.from_json(json.loads(json.dumps(one_block.to_json(), allow_nan=False)))
    assert again.to_json() == one_block.to_json()
