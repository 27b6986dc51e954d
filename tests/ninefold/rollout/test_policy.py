"""What a policy refuses, and what it derives."""

import dataclasses
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ninefold.cohorts import Audience
from ninefold.errors import ConfigurationError
from ninefold.fields import Metric
from ninefold.rollout.policy import Guardrails, RolloutPolicy

REFUSED: dict[str, dict[str, Any]] = {
    "do not grow": {"steps": (0.2, 0.2)},
    "between 0 and 1": {"steps": (0.5, 1.0)},
    "mode": {"mode": "rainbow"},
    "outcome": {"outcome_at_maximum": "wait"},
    "one cohort": {"ab_share": 1.0},
    "margin": {"margin": -0.1},
    "minimum_effect": {"minimum_effect": float("nan")},
    "alpha": {"alpha": 0.5},
    "above coverage": {"coverage": 0.5, "least_coverage": 0.6},
    "At least 5": {"harm_blocks": 4},
    "harm from 20 blocks": {"harm_blocks": 20},
    "from 30 to 20, 2 a step": {"minimum_blocks": 30, "maximum_blocks": 20},
    "negative": {"deadline": timedelta(days=-1)},
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_policy_that_contradicts_itself_is_refused(message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RolloutPolicy(**REFUSED[message])


@pytest.mark.parametrize("wrong", [{"max_error_share": 2.0}, {"max_latency_ratio": 0.5}, {"minimum_errors": 0}])
def test_guardrails_that_guard_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="Rollout"):
        Guardrails(**wrong)


@pytest.mark.parametrize(
    ("metric", "problem", "loss"),
    [("mae", "regression", "mae"), ("rmse", "regression", "mse"), ("r2", "regression", "mae"),
     ("auc", "binary", "log_loss"), ("brier", "binary", "brier")],
)  # fmt: skip
def test_the_loss_is_the_metric_s_where_that_is_a_mean_of_losses(metric: str, problem: Any, loss: str) -> None:
    assert RolloutPolicy().loss_of(Metric(name=metric, direction="minimize"), problem) == loss


def test_a_declared_loss_has_to_be_one_of_the_problem() -> None:
    metric = Metric(name="auc", direction="maximize")
    assert RolloutPolicy(loss="brier").loss_of(metric, "binary") == "brier"
    for wrong in ("auc", "mae", "nonsense"):
        with pytest.raises(ConfigurationError, match=wrong):
            RolloutPolicy(loss=wrong).loss_of(metric, "binary")


def test_the_share_follows_the_stage() -> None:
    policy = RolloutPolicy(steps=(0.1, 0.4), ab_share=0.3)
    stages = [policy.share(stage, 1) for stage in ("pending", "shadow", "canary", "ab", "promoted", "rolled_back")]
    assert stages == [0.0, 0.0, 0.4, 0.3, 1.0, 0.0]


def test_it_is_read_back_as_it_was_written_and_an_older_one_gets_defaults() -> None:
    policy = RolloutPolicy(
        steps=(0.1,), deadline=timedelta(hours=7), audience=Audience(listed=frozenset({"x"})),
        guardrails=Guardrails(minimum_errors=9), outcome_at_maximum="promote",
    )  # fmt: skip
    document = json.loads(json.dumps(policy.to_json()))
    assert RolloutPolicy.from_json(document) == policy
    assert RolloutPolicy.from_json({"margin": 0.05}) == RolloutPolicy(margin=0.05)


def test_every_term_of_a_policy_is_explained() -> None:
    text = (Path(__file__).parents[3] / "docs" / "rollouts.md").read_text()
    terms = {f.name for cls in (RolloutPolicy, Guardrails, Audience) for f in dataclasses.fields(cls)}
    assert {term for term in terms if not re.search(rf"`{term}[`=]", text)} == set()
