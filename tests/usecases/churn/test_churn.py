"""Churn: 7,043 customers, a rule of thumb, and what a campaign gains."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from ninefold.dataset import to_numpy
from ninefold.metrics import compute
from ninefold.usecase import History
from usecases.churn.contract import KINDS, OFFER, baseline, campaign, decide, derive, reasons


@pytest.fixture(scope="module")
def past(history: Callable[[str], History]) -> History:
    return history("churn")


def test_all_customers_are_there_and_leavers_are_ones(past: History) -> None:
    assert past.requests.height == past.views["customer"].height == 7_043
    assert past.truths["truth"].sum() == 1_869
    assert set(past.truths["truth"]) == {0.0, 1.0}


def test_total_charges_are_unknown_exactly_for_customers_of_tenure_zero(past: History) -> None:
    new = past.views["customer"].filter(pl.col("total_charges").is_null())
    assert new.height == 11
    assert new["tenure"].to_list() == [0.0] * 11
    assert past.views["customer"].filter(pl.col("tenure") == 0).height == 11
    assert sum(past.views["customer"].null_count().row(0)) == 11


def test_the_rule_of_thumb_ranks_well_and_no_better_than_a_rule_can(past: History) -> None:
    view = past.views["customer"]
    predictions = baseline(derive({f"customer__{name}": to_numpy(view[name]) for name in KINDS}))
    assert predictions.min() >= 0.0
    assert predictions.max() <= 1.0
    assert compute("auc", past.truths["truth"].to_numpy(), predictions) == pytest.approx(0.823, abs=0.001)


def test_of_an_unknown_customer_the_rule_knows_no_sign() -> None:
    nothing: dict[str, Any] = {
        f"customer__{name}": np.array([None], dtype=object) if kind == "category" else np.array([np.nan])
        for name, kind in KINDS.items()
    }
    assert baseline(derive(nothing)).tolist() == [0.05]


def test_a_customer_is_called_from_the_probability_at_which_a_call_pays() -> None:
    assert OFFER.threshold == pytest.approx(0.4)
    assert decide({}, 0.5) == {"action": "contact", "expected_gain": 15.0, "unit": "USD"}
    assert decide({}, 0.39) == {"action": "leave", "expected_gain": -1.5, "unit": "USD"}


def test_no_other_threshold_gains_more_where_probabilities_are_true() -> None:
    rng = np.random.default_rng(0)
    chance = rng.uniform(size=400_000)
    truth = (rng.uniform(size=len(chance)) < chance).astype(float)
    gain = truth * OFFER.persuaded * OFFER.value - OFFER.cost
    best = OFFER.gained(truth, chance).mean()
    assert all(np.where(chance >= t, gain, 0.0).mean() < best for t in (0.2, 0.3, 0.5, 0.6))


def test_reasons_name_the_customer_s_own_values_and_say_nothing_of_what_is_unknown() -> None:
    known = {"contract": "Month-to-month", "payment_method": "Electronic check", "tenure": 3.0, "monthly_charges": 70.5}
    assert reasons({**dict.fromkeys(KINDS), **known}) == {
        "contract": "pays month to month by electronic check",
        "tenure": "joined 3 month(s) ago",
        "bills": "pays 70.50 USD a month",
    }
    assert reasons(dict.fromkeys(KINDS)) == {}


def test_a_perfect_campaign_reaches_whom_it_can() -> None:
    truth = np.array([1.0] * 20 + [0.0] * 80)
    gains = campaign({}, truth, truth)
    assert (gains["leavers_reached"], gains["calls_that_meet_a_leaver"], gains["contacted"]) == (1.0, 1.0, 0.2)
    # A leaver is worth 150 USD of chance, and costs 60; to call everybody costs more than it keeps.
    assert gains["gain_per_1000_customers"] == pytest.approx(1000 * 0.2 * 90)
    assert gains["gain_if_all_were_called"] == pytest.approx(1000 * (0.2 * 150 - 60))


def test_a_campaign_that_knows_nothing_meets_leavers_as_often_as_they_are_in_any_order() -> None:
    truth = np.array([1.0] * 30 + [0.0] * 70)
    for order in (truth, truth[::-1]):
        gains = campaign({}, order, np.full(100, 0.1))
        assert gains["leavers_reached"] == pytest.approx(0.2)
        assert gains["calls_that_meet_a_leaver"] == pytest.approx(0.3)
