"""The contract of churn: a customer's id is asked, everything else is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np

from ninefold.decisions import Offer
from ninefold.features import BatchView
from ninefold.fields import Columns, Field, Input, Kind, Metric
from ninefold.rollout.policy import RolloutPolicy
from ninefold.splits import HashSplit
from ninefold.usecase import Gates, UseCase

Array = np.ndarray[Any, Any]

OFFER = Offer(cost=60.0, value=750.0, persuaded=0.2, unit="USD")
"""A month for free; a leaver who stays pays for another year; about one in five is won back by it."""
CAPACITY = 0.2
"""Share of the customers that can be called at all."""

ATTRIBUTES: dict[str, dict[str, Kind]] = {
    "contract": {"contract": "category", "payment_method": "category", "paperless_billing": "boolean"},
    "tenure": {"tenure": "number"},
    "bills": {"monthly_charges": "number", "total_charges": "number"},
    "services": {
        "phone_service": "boolean", "multiple_lines": "category", "internet_service": "category",
        "online_security": "category", "online_backup": "category", "device_protection": "category",
        "tech_support": "category", "streaming_tv": "category", "streaming_movies": "category",
    },
    "person": {"female": "boolean", "senior_citizen": "boolean", "partner": "boolean", "dependents": "boolean"},
}  # fmt: skip
"""Group of an explanation → attribute → kind. Who is new has no total charges yet: null, not zero."""
KINDS: dict[str, Kind] = {name: kind for group in ATTRIBUTES.values() for name, kind in group.items()}
_UNITS = {"tenure": "month", "monthly_charges": "USD", "total_charges": "USD"}


def derive(columns: Columns) -> dict[str, Array]:
    """The customer's attributes, unchanged."""
    return {name: columns[f"customer__{name}"] for name in KINDS}


def baseline(inputs: Columns) -> Array:
    """A rule of thumb: who can leave from one month to the next, pays much for little reason to stay, and is new.

    Starts at one in twenty and adds for each warning sign; what is not known is no sign.
    """
    signs: tuple[tuple[float, Array], ...] = (
        (0.25, inputs["contract"] == "Month-to-month"),
        (0.20, inputs["internet_service"] == "Fiber optic"),
        (0.20, inputs["tenure"] < 12),
        (0.10, inputs["payment_method"] == "Electronic check"),
    )
    return sum((weight * sign for weight, sign in signs), start=np.full(len(inputs["tenure"]), 0.05))


def decide(request: Mapping[str, Any], prediction: float) -> dict[str, Any]:
    """Whether to call the customer with the offer, and what that is expected to gain."""
    action = "contact" if prediction >= OFFER.threshold else "leave"
    return {"action": action, "expected_gain": round(OFFER.expected(prediction), 2), "unit": OFFER.unit}


def campaign(request: Columns, truth: Array, prediction: Array) -> dict[str, float]:
    """What the offer gains, and what a campaign meets that calls the fifth with the highest predictions.

    Equal predictions at the edge share the calls that are left, so that no order of the rows matters.
    """
    calls = CAPACITY * len(truth)
    edge = np.quantile(prediction, 1.0 - CAPACITY, method="higher")
    above, at = prediction > edge, prediction == edge
    leavers = truth[above].sum() + truth[at].mean() * (calls - above.sum())
    return {
        "gain_per_1000_customers": 1000.0 * float(OFFER.gained(truth, prediction).mean()),
        "gain_if_all_were_called": 1000.0 * float(OFFER.gained(truth, np.ones(len(truth))).mean()),
        "leavers_reached": float(leavers / truth.sum()) if truth.sum() else float("nan"),
        "calls_that_meet_a_leaver": float(leavers / calls),
        "contacted": float(np.mean(prediction >= OFFER.threshold)),
    }


def reasons(inputs: Mapping[str, Any]) -> dict[str, str]:
    """What is so of a customer, by group; of what is not known, nothing."""
    said = {
        "contract": ("pays {contract} by {payment_method}", ("contract", "payment_method")),
        "tenure": ("joined {tenure:.0f} month(s) ago", ("tenure",)),
        "bills": ("pays {monthly_charges:.2f} USD a month", ("monthly_charges",)),
        "services": ("has internet: {internet_service}, tech support: {tech_support}",
                     ("internet_service", "tech_support")),
    }  # fmt: skip
    words = {n: v.replace("-", " ").lower() if isinstance(v, str) else v for n, v in inputs.items()}
    return {
        group: text.format(**words) for group, (text, names) in said.items() if all(words[n] is not None for n in names)
    }


def customer(request: Columns) -> Array:
    """The block: each customer is independent of the next."""
    return request["customer_id"]


USE_CASE = UseCase(
    name="churn",
    title="Will this customer leave?",
    problem="binary",
    request=(Field(name="customer_id", kind="integer", minimum=1, example=1, description="The customer's number."),),
    key=("customer_id",),
    target=Field(name="leaves", kind="number", minimum=0, maximum=1, example=0),
    metric=Metric(name="auc", direction="maximize"),
    extract="usecases.churn.etl:extract",
    split=HashSplit(validation=0.2, test=0.2, salt="churn"),
    inputs=tuple(
        Input(name=name, kind="category" if kind == "category" else "number", group=group)
        for group, names in ATTRIBUTES.items()
        for name, kind in names.items()
    ),
    derive=derive,
    baseline=baseline,
    decide=decide,
    block=customer,
    batch_views=(
        BatchView(
            name="customer",
            key=("customer_id",),
            columns=tuple(Field(name=name, kind=kind, unit=_UNITS.get(name)) for name, kind in KINDS.items()),
            required=True,
            description="What the company's own database holds about a customer.",
        ),
    ),
    # A block is one customer here: it takes hundreds of them to see what a few days of flights show.
    rollout=RolloutPolicy(
        loss="brier",
        minimum_effect=0.005,
        harm_blocks=200,
        minimum_blocks=500,
        tightest_at=1_500,
        maximum_blocks=5_000,
        blocks_per_step=200,
        diagnosis_blocks=200,
        closes_after=timedelta(0),
    ),
    gates=Gates(max_calibration_error=0.03),
    application_metrics=campaign,
    application_spans=dict.fromkeys(("gain_per_1000_customers", "gain_if_all_were_called"), 1000.0 * OFFER.worth),
    reasons=reasons,
    explain={
        "contract": "the contract and how it is paid",
        "tenure": "how long the customer has stayed",
        "bills": "what the customer pays",
        "services": "the services in use",
        "person": "the person",
    },
    minimum_prediction=0.0,
    maximum_prediction=1.0,
)
