"""What the evaluator tells of a test set whose truths must stay unknown, and what it asks before it tells anything.

Whoever may ask often and exactly can work the truths out: change one prediction, and see by how much the error changes.
So four rules hold for everyone who sends predictions:

1. At least 100 predictions, covering at least 90 % of the test set.
2. Only what all rows make together is told: no error of a row, no quantile or median, no histogram, nothing by block. A
   slice of fewer than 100 rows is named and not told.
3. A number is rounded to a step that no single truth can move it by, whatever the predictions are; for classes, where
   a truth is a single bit, that no ten can. The step follows from the predictions and the range of all truths, not
   from the row, so it tells nothing either. Whether it is rounded up or down is drawn, in proportion, from a secret and
   the predictions: nobody can place a number on the edge between two steps, and asking again draws nothing new.
4. At most 50 evaluations for a caller on a test set. The same predictions again are the same evaluation.

The rules bound what can be learned; they do not make it nothing. With 50 rounded answers a patient caller learns about
as many bits of each number: a few truths out of thousands. Register a new test set for every training run.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluator.evaluation import Evaluation
from components.evaluator.slices import SMALL_SLICE_ROWS, slice_rows
from ninefold.errors import InvalidInput
from ninefold.fields import Columns
from ninefold.metrics import LEAST_PROBABILITY, THRESHOLD, compute, definition, suite

if TYPE_CHECKING:
    from ninefold.usecase import UseCase

Array = np.ndarray[Any, Any]
Coin = Callable[[str], float]
"""A number's name → 0 to 1."""

MINIMUM_ROWS = 100
MINIMUM_COVERAGE = 0.9
MOST_EVALUATIONS = 50
HIDDEN_CLASSES = 10
"""Truths of a classification that a step hides together."""
_NEVER_TOLD = frozenset({"median_ae", "calibration_error"})
"""Metrics that a single row can decide: the median's own, or the only one in its bin."""


def require_enough(predictions: int, test_rows: int) -> None:
    """Refuses predictions that cover too little of a test set.

    Raises:
        InvalidInput: There are fewer than 100, or fewer than 90 % of the test set.
    """
    needed = max(MINIMUM_ROWS, math.ceil(MINIMUM_COVERAGE * test_rows))
    if predictions < needed:
        raise InvalidInput(
            "predictions",
            f"{predictions:,} are too few for this test set.",
            remedy=f"Send at least {needed:,}: truths could be worked out from fewer.",
        )


def disclosed(
    use_case: UseCase,
    evaluation: Evaluation,
    request: Columns,
    truth: Array,
    prediction: Array,
    *,
    span: tuple[float, float],
    coin: Coin,
) -> dict[str, Any]:
    """What may be told of an evaluation, as JSON.

    Args:
        use_case: What was evaluated.
        evaluation: The evaluation.
        request: Request columns of the evaluated rows.
        truth: [rows], their truths.
        prediction: [rows], their predictions.
        span: Least and greatest truth of the whole test set.
        coin: Decides what is rounded up.
    """
    metric, rows = evaluation.metric, evaluation.rows
    step = step_of(metric.name, truth, prediction, span)
    return {
        "use_case": evaluation.use_case,
        "version": evaluation.version,
        "metric": metric.name,
        "direction": metric.direction,
        "unit": metric.unit,
        "value": to_step(evaluation.value.value, step, coin(metric.name)),
        "interval": [
            to_step(evaluation.value.low, step, coin("low")),
            to_step(evaluation.value.high, step, coin("high")),
        ],
        "rows": rows,
        "coverage": round(evaluation.coverage, 3),
        "blocks": evaluation.blocks,
        "metrics": {
            name: to_step(evaluation.metrics[name], step_of(name, truth, prediction, span), coin(name))
            for name in suite(evaluation.problem)
            if name not in _NEVER_TOLD
        },
        # What an application metric is made of is not known; it is taken for a share of the rows, or a mean over them
        # of what the use case says a truth can move.
        "application": {
            name: to_step(
                value, step_above(max(abs(value), use_case.application_spans.get(name, 1.0)) / rows), coin(name)
            )
            for name, value in evaluation.application.items()
        },
        "slices": [
            _slice(metric.name, field, value, truth[mask], prediction[mask], span, coin)
            for field, value, mask in slice_rows(use_case, request)
        ],
    }


def _slice(
    name: str, field: str, value: str, truth: Array, prediction: Array, span: tuple[float, float], coin: Coin
) -> dict[str, Any]:
    if len(truth) < SMALL_SLICE_ROWS:
        return {"field": field, "value": value, "rows": None, "metric": None}
    step = step_of(name, truth, prediction, span)
    told = to_step(compute(name, truth, prediction), step, coin(f"{field}={value}"))
    return {"field": field, "value": value, "rows": len(truth), "metric": told}


def step_of(name: str, truth: Array, prediction: Array, span: tuple[float, float]) -> float:
    """The step that a metric is rounded to; NaN where it is not told.

    Args:
        name: The metric.
        truth: [rows]; only what all of them make together is used.
        prediction: [rows].
        span: Least and greatest truth that there can be.
    """
    together = HIDDEN_CLASSES if definition(name).problem == "binary" else 1
    return step_above(together * most_moved(name, truth, prediction, span))


def most_moved(name: str, truth: Array, prediction: Array, span: tuple[float, float]) -> float:
    """The most that a metric can change when one truth is replaced by another within the span; NaN where unknown."""
    rows, ones = len(truth), float(truth.sum())
    # The largest error that any row could have.
    reach = max(float(prediction.max()) - span[0], span[1] - float(prediction.min()), 0.0)
    match name:
        case "mae":
            return reach / rows
        case "bias":
            return (span[1] - span[0]) / rows
        case "mse":
            return reach**2 / rows
        case "rmse":
            root = compute("rmse", truth, prediction)
            return min(reach**2 / (rows * root), reach / math.sqrt(rows)) if root else math.nan
        case "r2":
            total = float(((truth - truth.mean()) ** 2).sum())
            # The truth moves the error above the line, and the variance, by up to four times the reach, below it.
            return reach**2 * (1 + 4 * (1 - compute("r2", truth, prediction))) / total if total else math.nan
        case "auc":
            return 1 / ones + 1 / (rows - ones) if 0 < ones < rows else math.nan
        case "log_loss":
            nearest = max(float(np.minimum(prediction, 1 - prediction).min()), LEAST_PROBABILITY)
            return -math.log(nearest) / rows
        case "brier" | "accuracy":
            return 1 / rows
        case "precision":
            positive = int(np.count_nonzero(prediction >= THRESHOLD))
            return 1 / positive if positive else math.nan
        case "recall":
            return 1 / (ones - 1) if ones > 1 else math.nan
    return math.nan


def step_above(least: float) -> float:
    """The smallest of …, 0.1, 0.2, 0.5, 1, 2, 5, 10, … that is not below ``least``; NaN for NaN, 0 for 0."""
    if not math.isfinite(least) or least == 0:
        return least
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= least * (1 - 1e-9))


def to_step(value: float, step: float, up: float) -> float | None:
    """A number rounded to a step next to it; None where either is unknown.

    Args:
        value: The number.
        step: The step.
        up: 0 to 1: it is rounded up where it lies less than this share of a step below the next one.
    """
    if not math.isfinite(value) or not math.isfinite(step):
        return None
    if step == 0:
        return value
    digits = max(0, -math.floor(math.log10(step)))
    return round(math.floor(value / step + up) * step, digits)


def secret_coin(secret: bytes, content: str) -> Coin:
    """A coin that falls alike for the same predictions and the same number, and that only the secret foretells."""

    def toss(name: str) -> float:
        digest = hmac.digest(secret, f"{len(name)}|{name}{content}".encode(), "sha256")
        return int.from_bytes(digest[:8], "big") / 2.0**64

    return toss
