"""Metrics: their values, their laws, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ninefold.errors import ConfigurationError, DataError
from ninefold.metrics import DEFINITIONS, LEAST_PROBABILITY, OfMeans, compute, losses, suite

NUMBERS = st.floats(-1000, 1000, allow_subnormal=False)
PROBABILITIES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])


@st.composite
def binary_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    rows = draw(st.integers(2, 30))
    truth = draw(arrays.arrays(float, rows, elements=st.sampled_from([0.0, 1.0])))
    truth[0], truth[1] = 0.0, 1.0
    return truth, draw(arrays.arrays(float, rows, elements=PROBABILITIES))


@st.composite
def regression_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    rows = draw(st.integers(1, 30))
    return draw(arrays.arrays(float, rows, elements=NUMBERS)), draw(arrays.arrays(float, rows, elements=NUMBERS))


@settings(max_examples=40)
@given(regression_rows())
def test_regression_metrics_agree_with_scikit_learn(rows: tuple[np.ndarray, np.ndarray]) -> None:
    truth, prediction = rows
    assert compute("mae", truth, prediction) == pytest.approx(sklearn.metrics.mean_absolute_error(truth, prediction))
    assert compute("rmse", truth, prediction) == pytest.approx(
        sklearn.metrics.root_mean_squared_error(truth, prediction)
    )
    assert compute("median_ae", truth, prediction) == pytest.approx(
        sklearn.metrics.median_absolute_error(truth, prediction)
    )
    assert compute("bias", truth, prediction) == pytest.approx((prediction - truth).mean(), abs=1e-9)


def test_r2_agrees_with_scikit_learn_far_from_zero() -> None:
    generator = np.random.default_rng(1)
    truth = 1e6 + generator.normal(size=500)
    prediction = truth + 0.5 * generator.normal(size=500)
    assert compute("r2", truth, prediction) == pytest.approx(sklearn.metrics.r2_score(truth, prediction), abs=1e-9)


@settings(max_examples=40)
@given(binary_rows())
def test_binary_metrics_agree_with_scikit_learn(rows: tuple[np.ndarray, np.ndarray]) -> None:
    truth, prediction = rows
    assert compute("auc", truth, prediction) == pytest.approx(sklearn.metrics.roc_auc_score(truth, prediction))
    assert compute("brier", truth, prediction) == pytest.approx(sklearn.metrics.brier_score_loss(truth, prediction))
    clipped = np.clip(prediction, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    assert compute("log_loss", truth, prediction) == pytest.approx(sklearn.metrics.log_loss(truth, clipped))
    assert compute("accuracy", truth, prediction) == pytest.approx(
        sklearn.metrics.accuracy_score(truth, prediction >= 0.5)
    )
    assert compute("recall", truth, prediction) == pytest.approx(sklearn.metrics.recall_score(truth, prediction >= 0.5))
    if (prediction >= 0.5).any():
        assert compute("precision", truth, prediction) == pytest.approx(
            sklearn.metrics.precision_score(truth, prediction >= 0.5)
        )


@settings(max_examples=40)
@given(binary_rows())
def test_auc_counts_a_tie_as_half_a_win(rows: tuple[np.ndarray, np.ndarray]) -> None:
    truth, prediction = rows
    above = prediction[truth == 1][:, None] - prediction[truth == 0][None, :]
    assert compute("auc", truth, prediction) == pytest.approx(((above > 0) + 0.5 * (above == 0)).mean())


@pytest.mark.parametrize("name", [name for name, d in DEFINITIONS.items() if d.problem == "binary"])
@settings(max_examples=40)
@given(rows=binary_rows(), copies=st.lists(st.integers(1, 4), min_size=30, max_size=30))
def test_a_weight_is_as_many_rows(name: str, rows: tuple[np.ndarray, np.ndarray], copies: list[int]) -> None:
    truth, prediction = rows
    times = np.array(copies[: len(truth)])
    repeated = compute(name, np.repeat(truth, times), np.repeat(prediction, times))
    assert compute(name, truth, prediction, times.astype(float)) == pytest.approx(repeated, nan_ok=True)


@pytest.mark.parametrize("name", suite("regression"))
@settings(max_examples=40)
@given(rows=regression_rows(), copies=st.lists(st.integers(1, 4), min_size=30, max_size=30))
def test_a_weight_is_as_many_rows_of_a_regression(
    name: str, rows: tuple[np.ndarray, np.ndarray], copies: list[int]
) -> None:
    truth, prediction = (np.round(values) for values in rows)
    times = np.array(copies[: len(truth)])
    if name == "r2" and len(np.unique(truth)) < 2:
        return
    repeated = compute(name, np.repeat(truth, times), np.repeat(prediction, times))
    assert compute(name, truth, prediction, times.astype(float)) == pytest.approx(repeated, rel=1e-6, abs=1e-6)


def test_losses_average_to_the_metric() -> None:
    truth, prediction = np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.2, 0.9, 0.4, 0.0])
    for name in ("mae", "mse", "log_loss", "brier"):
        assert losses(name, truth, prediction).mean() == pytest.approx(compute(name, truth, prediction))
    assert np.sqrt(losses("rmse", truth, prediction).mean()) == pytest.approx(compute("rmse", truth, prediction))
    for name in ("auc", "accuracy", "median_ae", "r2"):
        with pytest.raises(ConfigurationError, match="not a mean of losses"):
            losses(name, truth, prediction)


def test_calibration_error_is_the_mean_gap_between_said_and_true() -> None:
    truth = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    prediction = np.array([0.25, 0.25, 0.25, 0.25, 1.0, 1.0, 1.0, 1.0])
    assert compute("calibration_error", truth, prediction) == pytest.approx((4 * 0.0 + 4 * 0.25) / 8)


def test_what_is_undefined_is_nan_and_never_a_number() -> None:
    ones, zeros = np.ones(3), np.zeros(3)
    assert math.isnan(compute("auc", ones, np.array([0.1, 0.5, 0.9])))
    assert math.isnan(compute("precision", ones, zeros))
    assert math.isnan(compute("recall", zeros, ones))
    assert math.isnan(compute("r2", ones, zeros))


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([], [], "no rows"),
        ([1.0], [1.0, 2.0], "do not fit"),
        ([1.0, 2.0, 3.0], [1.0, np.nan, np.inf], "2 of 3 predictions"),
        ([1.0, np.nan], [1.0, 1.0], "1 of 2 truths"),
    ],
)
def test_rows_that_cannot_be_scored_are_counted_and_refused(
    truth: list[float], prediction: list[float], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        compute("mae", np.array(truth), np.array(prediction))


def test_a_binary_problem_has_truths_0_and_1_and_probabilities() -> None:
    with pytest.raises(DataError, match="1 of 2 truths are neither 0 nor 1"):
        compute("auc", np.array([0.0, 2.0]), np.array([0.5, 0.5]))
    with pytest.raises(DataError, match="1 of 2 predictions are no probabilities"):
        compute("brier", np.array([0.0, 1.0]), np.array([0.5, 1.5]))


def test_weights_that_do_not_fit_are_refused() -> None:
    for weight in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, np.nan]):
        with pytest.raises(DataError, match="weights do not fit"):
            compute("mae", np.zeros(2), np.zeros(2), np.array(weight))


def test_an_unknown_metric_names_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no metric 'mape'.*mae"):
        compute("mape", np.zeros(1), np.zeros(1))


def test_every_suite_is_defined_for_its_problem() -> None:
    for problem in ("regression", "binary"):
        assert all(DEFINITIONS[name].problem == problem for name in suite(problem))
    assert all(d.direction == "minimize" for d in DEFINITIONS.values() if isinstance(d, OfMeans) and d.row_loss)
