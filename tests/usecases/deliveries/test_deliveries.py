"""Deliveries: 10,012 orders, what is told on the telephone, and promises that are kept."""

from collections.abc import Callable

import numpy as np
import pytest

from ninefold.dataset import to_numpy
from ninefold.metrics import compute
from ninefold.usecase import History
from usecases.deliveries.contract import DISHES, USE_CASE, baseline, decide, promises


@pytest.fixture(scope="module")
def past(history: Callable[[str], History]) -> History:
    return history("deliveries")


def test_all_orders_are_there_with_what_they_took(past: History) -> None:
    assert past.requests.height == past.truths.height == 10_012
    assert past.requests.null_count().sum_horizontal()[0] == 0
    assert past.truths["truth"].min() == pytest.approx(12.31, abs=0.01)
    assert past.truths["truth"].max() == pytest.approx(60.54, abs=0.01)


def test_the_rule_halves_the_error_of_the_mean_and_no_more(past: History) -> None:
    truth = past.truths["truth"].to_numpy()
    columns = {name: to_numpy(past.requests[name]) for name in past.requests.columns}
    assert compute("mae", truth, np.full(len(truth), truth.mean())) == pytest.approx(5.425, abs=0.001)
    assert compute("mae", truth, baseline(USE_CASE.inputs_of(columns))) == pytest.approx(2.162, abs=0.001)


def test_the_rule_answers_for_an_order_that_does_not_say() -> None:
    nothing = {name: np.array([np.nan]) for name in ("hour", "distance", "dishes", *DISHES)}
    told = baseline({**nothing, "day": np.array([None], dtype=object)})
    assert told[0] == pytest.approx(26.4, abs=0.1)


def test_a_promise_is_the_upper_bound_and_a_margin_where_there_is_none() -> None:
    assert decide({}, 20.2, (18.1, 23.4)) == {"from": 18, "promise": 24}
    assert decide({}, 20.2, None) == {"from": 17, "promise": 24}
    assert decide({}, 1.0, None)["from"] == 0


def test_promises_are_counted_as_they_are_given() -> None:
    truth, prediction = np.array([24.0, 24.5, 20.0]), np.array([20.2, 20.2, 20.2])
    interval = np.array([[18.1, 23.4], [18.1, 23.4], [np.nan, np.nan]])
    gains = promises({}, truth, prediction, interval)
    assert gains["promises_kept"] == pytest.approx(2 / 3)
    assert gains["promised_slack_min"] == pytest.approx((0.0 - 0.5 + 4.0) / 3)
    assert gains["late_by_min"] == pytest.approx(0.5)
