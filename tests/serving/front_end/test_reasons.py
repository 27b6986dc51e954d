"""Reasons: what is so of a row, and what that does to its prediction."""

from serving.front_end.reasons import reasons
from usecases.churn.contract import reasons as of_churn

CUSTOMER = {
    "contract": "Month-to-month", "payment_method": "Electronic check", "tenure": 1.0, "monthly_charges": None,
    "internet_service": "No", "tech_support": "No",
}  # fmt: skip


def test_a_reason_says_what_is_so_and_what_it_adds() -> None:
    amounts = {"contract": 0.12, "tenure": -0.011, "bills": 0.3, "services": 0.001, "person": 0.1}
    assert reasons(of_churn, CUSTOMER, amounts, "probability") == {
        "contract": "pays month to month by electronic check, which adds 12 points",
        "tenure": "joined 1 month(s) ago, which takes away 1 point",
        "services": "has internet: no, tech support: no, which changes little",
    }
    assert reasons(lambda row: {"plane": "is old"}, {}, {"plane": 4.25}, "min") == {
        "plane": "is old, which adds 4.25 min"
    }
    assert reasons(None, CUSTOMER, amounts, "probability") == {}
