"""Metrics of predictions, in numpy alone: the same number in search, gate, monitor and rollout.

Most metrics are a function of means of per-row terms: the mean absolute error is one mean, r² is made of three. That
one form gives the value, its weighted value, and the value without a block of rows (``components.evaluator.blocks``),
with no second implementation. Those that are no such function (``auc``, ``median_ae``, ``calibration_error``) say so.

A metric that is undefined on the given rows (``auc`` of a single class, ``precision`` where nothing was predicted) is
NaN: an unknown, never a zero. Rows that can't be scored are an error that counts them, never left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ninefold.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from ninefold.usecase import Problem

Array = np.ndarray[Any, Any]
Direction = Literal["minimize", "maximize"]

LEAST_PROBABILITY = 1e-7
"""Probabilities are clipped to this distance from 0 and 1 in ``log_loss``: what float32, the type of a model's answer,
can still tell from 1."""
CALIBRATION_BINS = 10
THRESHOLD = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What every metric declares.

    Args:
        label: Its name for people.
        problem: The kind of problem it judges.
        direction: Which way is better; None where neither is (``bias`` should be near zero).
        in_unit: Whether it has the target's unit.
    """

    label: str
    problem: Problem
    direction: Direction | None
    in_unit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OfMeans(Definition):
    """A metric that is a function of means of per-row terms.

    Args:
        terms: (truth, prediction) → per-row terms [terms, rows].
        value: Means of the terms [terms, …] → the metric […].
        row_loss: Whether its single term is a loss, whose mean is the metric.
    """

    terms: Callable[[Array, Array], Array]
    value: Callable[[Array], Array] = lambda means: means[0]
    row_loss: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(Definition):
    """A metric that needs all rows at once.

    Args:
        function: (truth, prediction, weight) → the metric.
    """

    function: Callable[[Array, Array, Array], float]


def auc(truth: Array, prediction: Array, weight: Array) -> float:
    """Area under the ROC curve: the chance that a positive row scores above a negative one, a tie counting half.

    Source: Hanley and McNeil (1982), The meaning and use of the area under a ROC curve; the weighted Mann–Whitney form.
    """
    _, place = np.unique(prediction, return_inverse=True)
    positive = np.bincount(place, weights=weight * truth)
    negative = np.bincount(place, weights=weight * (1.0 - truth))
    pairs = positive.sum() * negative.sum()
    if pairs == 0:
        return float("nan")
    below = np.cumsum(negative) - negative
    return float((positive * (below + 0.5 * negative)).sum() / pairs)


def calibration_table(truth: Array, prediction: Array, weight: Array | None = None) -> list[tuple[float, float, float]]:
    """What was predicted and what came true, in ten bins of equal width.

    Returns:
        (weight of the bin's rows, mean prediction, share of ones) for each bin; the latter two are NaN in an empty one.
    """
    weights = np.ones(len(truth)) if weight is None else weight
    bins = np.minimum((prediction * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    rows = np.bincount(bins, weights=weights, minlength=CALIBRATION_BINS)
    predicted = np.bincount(bins, weights=weights * prediction, minlength=CALIBRATION_BINS)
    ones = np.bincount(bins, weights=weights * truth, minlength=CALIBRATION_BINS)
    share = np.divide(1.0, rows, out=np.full(CALIBRATION_BINS, np.nan), where=rows > 0)
    return [(float(r), float(p), float(o)) for r, p, o in zip(rows, predicted * share, ones * share, strict=True)]


def _calibration_error(truth: Array, prediction: Array, weight: Array) -> float:
    """Expected calibration error: Naeini, Cooper and Hauskrecht (2015)."""
    table = np.array(calibration_table(truth, prediction, weight))
    rows, gap = table[:, 0], np.abs(table[:, 1] - table[:, 2])
    return float((rows * np.where(rows > 0, gap, 0.0)).sum() / rows.sum())


def _median_ae(truth: Array, prediction: Array, weight: Array) -> float:
    """Weighted median: half of the weight has an error at most this; the middle of the two where it falls between."""
    error = np.abs(prediction - truth)
    order = np.argsort(error, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    # Weights of 1 have to give the plain median, whose half is reached exactly or not at all.
    lower = int(np.searchsorted(share, 0.5 - 1e-12))
    upper = int(np.searchsorted(share, 0.5 + 1e-12))
    return float((error[order[lower]] + error[order[min(upper, len(order) - 1)]]) / 2)


def _log_losses(truth: Array, prediction: Array) -> Array:
    chance = np.clip(prediction, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
    return -np.where(truth == 1.0, np.log(chance), np.log1p(-chance))[None]


def _r2_terms(truth: Array, prediction: Array) -> Array:
    # Centred first, or the difference of two large means would lose the small one's digits.
    centred = truth - truth.mean()
    return np.stack([(prediction - truth) ** 2, centred, centred**2])


def _r2(means: Array) -> Array:
    return 1.0 - _ratio(means[0], means[2] - means[1] ** 2)


def _ratio(part: Array, of: Array) -> Array:
    of = np.asarray(of)
    result: Array = np.divide(part, of, out=np.full(of.shape, np.nan), where=of > 0)
    return result


def _hits(truth: Array, prediction: Array, of: Array) -> Array:
    return np.stack([truth * (prediction >= THRESHOLD), of])


DEFINITIONS: dict[str, OfMeans | Whole] = {
    "mae": OfMeans(
        label="Mean absolute error", problem="regression", direction="minimize", in_unit=True, row_loss=True,
        terms=lambda truth, prediction: np.abs(prediction - truth)[None],
    ),
    "rmse": OfMeans(
        label="Root mean squared error", problem="regression", direction="minimize", in_unit=True,
        terms=lambda truth, prediction: ((prediction - truth) ** 2)[None],
        value=lambda means: np.sqrt(means[0]),
    ),
    "mse": OfMeans(
        label="Mean squared error", problem="regression", direction="minimize", row_loss=True,
        terms=lambda truth, prediction: ((prediction - truth) ** 2)[None],
    ),
    "median_ae": Whole(
        label="Median absolute error", problem="regression", direction="minimize", in_unit=True, function=_median_ae,
    ),
    "bias": OfMeans(
        label="Mean error (predicted − true)", problem="regression", direction=None, in_unit=True,
        terms=lambda truth, prediction: (prediction - truth)[None],
    ),
    "r2": OfMeans(
        label="Share of variance explained (r²)", problem="regression", direction="maximize",
        terms=_r2_terms, value=_r2,
    ),
    "auc": Whole(label="Area under the ROC curve", problem="binary", direction="maximize", function=auc),
    "log_loss": OfMeans(
        label="Log loss", problem="binary", direction="minimize", row_loss=True, terms=_log_losses,
    ),
    "brier": OfMeans(
        label="Brier score", problem="binary", direction="minimize", row_loss=True,
        terms=lambda truth, prediction: ((prediction - truth) ** 2)[None],
    ),
    "accuracy": OfMeans(
        label="Accuracy at 0.5", problem="binary", direction="maximize",
        terms=lambda truth, prediction: ((prediction >= THRESHOLD) == (truth == 1.0)).astype(float)[None],
    ),
    "precision": OfMeans(
        label="Precision at 0.5", problem="binary", direction="maximize",
        terms=lambda truth, prediction: _hits(truth, prediction, (prediction >= THRESHOLD).astype(float)),
        value=lambda means: _ratio(means[0], means[1]),
    ),
    "recall": OfMeans(
        label="Recall at 0.5", problem="binary", direction="maximize",
        terms=lambda truth, prediction: _hits(truth, prediction, truth),
        value=lambda means: _ratio(means[0], means[1]),
    ),
    "calibration_error": Whole(
        label="Calibration error", problem="binary", direction="minimize", function=_calibration_error,
    ),
}  # fmt: skip
"""Every metric by its name."""

_SUITES: dict[str, tuple[str, ...]] = {
    "regression": ("mae", "rmse", "median_ae", "bias", "r2"),
    "binary": ("auc", "log_loss", "brier", "accuracy", "precision", "recall", "calibration_error"),
}


def suite(problem: Problem) -> tuple[str, ...]:
    """Names of the metrics that an evaluation of this kind of problem reports."""
    return _SUITES[problem]


def definition(name: str) -> OfMeans | Whole:
    """What the metric of that name is.

    Raises:
        ConfigurationError: There is none.
    """
    if name not in DEFINITIONS:
        raise ConfigurationError(f"There is no metric {name!r}.", remedy=f"There are {', '.join(DEFINITIONS)}.")
    return DEFINITIONS[name]


def compute(name: str, truth: Array, prediction: Array, weight: Array | None = None) -> float:
    """The metric over all rows.

    Args:
        name: A name in ``DEFINITIONS``.
        truth: [rows], finite; 0 or 1 for a binary problem.
        prediction: [rows], in the target's unit; the probability of 1 for a binary problem.
        weight: [rows], not negative; None counts every row once.

    Returns:
        The value; NaN where it is undefined on these rows.

    Raises:
        ConfigurationError: No metric of that name.
        DataError: No rows, lengths that differ, or values that can't be scored: the message counts them.
    """
    metric = definition(name)
    truths, predictions = checked(truth, prediction, metric.problem)
    weights = checked_weight(weight, len(truths))
    if isinstance(metric, Whole):
        return metric.function(truths, predictions, weights)
    return float(metric.value(metric.terms(truths, predictions) @ weights / weights.sum()))


def effective_rows(weight: Array) -> float:
    """How many rows of equal weight would tell as much as these: between 1 and their number.

    Args:
        weight: [rows], not negative, not all zero.

    Source: Kish (1965), Survey sampling, section 8.2.
    """
    weights = checked_weight(weight, len(weight))
    return float(weights.sum() ** 2 / (weights**2).sum())


def losses(name: str, truth: Array, prediction: Array) -> Array:
    """Each row's loss, whose mean is the metric: for comparing two models row by row.

    ``rmse`` has that of ``mse``. ``auc`` and the other metrics have none: compare them with
    ``components.evaluator.comparison``, which works for them, too.

    Raises:
        ConfigurationError: The metric has no loss of a single row, or does not exist.
        DataError: As ``compute``.
    """
    metric = definition("mse" if name == "rmse" else name)
    if not isinstance(metric, OfMeans) or not metric.row_loss:
        having = ", ".join(n for n, d in DEFINITIONS.items() if isinstance(d, OfMeans) and d.row_loss)
        raise ConfigurationError(f"{name!r} is not a mean of losses of single rows.", remedy=f"Those are {having}.")
    truths, predictions = checked(truth, prediction, metric.problem)
    row: Array = metric.terms(truths, predictions)[0]
    return row


def checked(truth: Array, prediction: Array, problem: Problem) -> tuple[Array, Array]:
    """Truths and predictions as float64, when every one of them can be scored.

    Raises:
        DataError: They can't: the message says which and how many.
    """
    truths, predictions = np.asarray(truth, dtype=float), np.asarray(prediction, dtype=float)
    if truths.ndim != 1 or truths.shape != predictions.shape:
        raise DataError(
            f"{truths.shape} truths do not fit {predictions.shape} predictions.", remedy="Give one for each row."
        )
    if len(truths) == 0:
        raise DataError("There are no rows to score.")
    for name, values in (("truths", truths), ("predictions", predictions)):
        wrong = int(np.count_nonzero(~np.isfinite(values)))
        if wrong:
            raise DataError(
                f"{wrong:,} of {len(values):,} {name} are null, NaN or infinite.", remedy="Every row needs one."
            )
    if problem == "binary":
        wrong = int(np.count_nonzero((truths != 0.0) & (truths != 1.0)))
        if wrong:
            raise DataError(f"{wrong:,} of {len(truths):,} truths are neither 0 nor 1.")
        wrong = int(np.count_nonzero((predictions < 0.0) | (predictions > 1.0)))
        if wrong:
            raise DataError(f"{wrong:,} of {len(truths):,} predictions are no probabilities.", remedy="Give 0 to 1.")
    return truths, predictions


def checked_weight(weight: Array | None, rows: int) -> Array:
    """Weights as float64; 1 for every row where there are none.

    Raises:
        DataError: They do not fit the rows, or one is negative, null, NaN or infinite, or all are zero.
    """
    if weight is None:
        return np.ones(rows)
    weights = np.asarray(weight, dtype=float)
    if weights.shape != (rows,) or not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
        raise DataError(f"The weights do not fit {rows:,} rows: one each, finite, not negative, not all zero.")
    return weights
