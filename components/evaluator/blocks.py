"""Intervals over blocks: how far a number could be off, when whole blocks of rows move together.

One storm moves a whole day, so rows are not independent, and an interval that takes them so is several times too
narrow. The use case declares its block (a day, a customer); blocks are the unit here. The method is the jackknife: the
metric without each block in turn, and Student's t with one degree of freedom less than there are blocks. It serves
every metric that is smooth in the blocks, ratios and AUC included, and weighs blocks by their size. For means it is the
cluster-robust variance "CV3" (MacKinnon, Nielsen and Webb 2023, Cluster-robust inference: a guide to empirical
practice), whose coverage holds best where blocks are few and unequal.

Rows that were picked with unequal chances have weights, the inverse of the chances. Then the metric is the weighted
one, and a few heavy blocks tell less than many light ones: Student's t has a degree of freedom less than there are
*effective* blocks (Kish 1965), so the interval says how little is known.

What it does not see: dependence *between* blocks (a storm of three days). Declare blocks that are long enough.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ninefold.errors import ConfigurationError, DataError
from ninefold.metrics import OfMeans, checked, checked_weight, definition, effective_rows

Array = np.ndarray[Any, Any]

LEVEL = 0.95
"""Confidence of every interval that the evaluator gives."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with the range that it may have; NaN bounds where fewer than two blocks leave it unknown."""

    value: float
    low: float
    high: float

    def to_json(self) -> list[float | None]:
        """``[value, low, high]``, null for what is unknown."""
        return [number if math.isfinite(number) else None for number in (self.value, self.low, self.high)]

    @classmethod
    def from_json(cls, document: list[float | None]) -> Interval:
        """Reads what ``to_json`` wrote."""
        value, low, high = (math.nan if number is None else number for number in document)
        return cls(value, low, high)


def number_blocks(blocks: Array) -> tuple[Array, Array]:
    """Distinct labels [blocks], sorted, and each row's place among them [rows].

    Raises:
        DataError: A row has no block.
    """
    labels = np.asarray(blocks)
    if labels.dtype.kind in "Mf":
        missing = int(np.count_nonzero(np.isnat(labels) if labels.dtype.kind == "M" else np.isnan(labels)))
    else:
        missing = sum(label is None for label in labels.tolist())
        labels = labels.astype(str)
    if missing:
        raise DataError(
            f"{missing:,} of {len(labels):,} rows have no block.", remedy="The use case's block names one a row."
        )
    distinct, places = np.unique(labels, return_inverse=True)
    return distinct.astype(str), places


def effective_blocks(places: Array, weight: Array) -> float:
    """How many blocks of equal weight would tell as much.

    Args:
        places: [rows], each row's block, from 0.
        weight: [rows].
    """
    return effective_rows(np.bincount(places, weights=weight))


def without_each_block(
    name: str, truth: Array, prediction: Array, places: Array, weight: Array | None = None
) -> tuple[float, Array]:
    """The metric over all rows, and over all but each block.

    Args:
        name: A metric of ``ninefold.metrics``.
        truth: [rows].
        prediction: [rows].
        places: [rows], each row's block, from 0.
        weight: [rows], not negative; None counts every row once.

    Returns:
        The metric, and [blocks] of the metric without that block; NaN where that is undefined.

    Raises:
        ConfigurationError: The metric is not smooth in the blocks (a median, binned calibration).
        DataError: As ``ninefold.metrics.compute``.
    """
    metric = definition(name)
    truths, predictions = checked(truth, prediction, metric.problem)
    weights = checked_weight(weight, len(truths))
    if isinstance(metric, OfMeans):
        means, without = means_without_each_block(metric.terms(truths, predictions), places, weights)
        return float(metric.value(means)), np.asarray(metric.value(without), dtype=float)
    if name == "auc":
        return _auc_without_each_block(truths, predictions, places, int(places.max()) + 1, weights)
    raise ConfigurationError(
        f"{name!r} has no interval over blocks: the jackknife does not hold for it.",
        remedy="Declare another metric for search and gates; it can still be reported.",
    )


def means_without_each_block(terms: Array, places: Array, weight: Array) -> tuple[Array, Array]:
    """Weighted means over all rows, and over all but each block.

    Args:
        terms: [means, rows].
        places: [rows], each row's block, from 0.
        weight: [rows], not negative, and not all 0.

    Returns:
        [means], and [means, blocks] without that block; NaN where nothing is left.
    """
    mass = np.bincount(places, weights=weight)
    sums = np.stack([np.bincount(places, weights=t * weight, minlength=len(mass)) for t in terms])
    total, left = sums.sum(axis=1), weight.sum() - mass
    without = np.full(sums.shape, np.nan)
    np.divide(total[:, None] - sums, left, out=without, where=left > 0)
    return total / weight.sum(), without


def _auc_without_each_block(
    truth: Array, prediction: Array, places: Array, count: int, weight: Array
) -> tuple[float, Array]:
    """AUC is a sum over pairs; a block leaves with the pairs that hold one of its rows: O(n log n) for all blocks."""
    positive, negative = truth * weight, (1.0 - truth) * weight
    wins = _wins(prediction, np.zeros(len(truth), dtype=int), positive, negative)
    losses = _wins(-prediction, np.zeros(len(truth), dtype=int), negative, positive)
    inside = _wins(prediction, places, positive, negative)
    by_block = [np.bincount(places, weights=w, minlength=count) for w in (wins, losses, inside, positive, negative)]
    total = float(wins.sum())
    pairs = float(positive.sum() * negative.sum())
    left = total - by_block[0] - by_block[1] + by_block[2]
    left_pairs = (positive.sum() - by_block[3]) * (negative.sum() - by_block[4])
    without: Array = np.divide(left, left_pairs, out=np.full(count, np.nan), where=left_pairs > 0)
    return (total / pairs if pairs else math.nan), without


def _wins(score: Array, group: Array, of: Array, over: Array) -> Array:
    """Each row's weight in ``of`` times the weight in ``over`` of its group's rows below it, a tie counting half."""
    order = np.lexsort((score, group))
    s, g, weight = score[order], group[order], over[order]
    new_group = np.r_[True, g[1:] != g[:-1]]
    new_tie = new_group | np.r_[True, s[1:] != s[:-1]]
    before = np.cumsum(weight) - weight
    first_of_group = np.maximum.accumulate(np.where(new_group, np.arange(len(s)), 0))
    tie = np.cumsum(new_tie) - 1
    tied = np.bincount(tie, weights=weight)[tie]
    first_of_tie = np.maximum.accumulate(np.where(new_tie, np.arange(len(s)), 0))
    below = before[first_of_tie] - before[first_of_group]
    result = np.empty(len(s))
    result[order] = of[order] * (below + 0.5 * tied)
    return result


def jackknife(value: float, without: Array, *, level: float = LEVEL, effective: float | None = None) -> Interval:
    """The interval around a number, from its values without each block.

    Args:
        value: The number over all blocks.
        without: [blocks], the number without each.
        level: Confidence, 0–1.
        effective: ``effective_blocks``; None where all rows weigh alike.
    """
    count = len(without)
    freedom = count - 1 if effective is None else int(effective) - 1
    if freedom < 1 or not math.isfinite(value) or not np.isfinite(without).all():
        return Interval(value, math.nan, math.nan)
    error = math.sqrt((count - 1) / count * float(((without - value) ** 2).sum()))
    reach = t_quantile(0.5 + level / 2, freedom) * error
    return Interval(value, value - reach, value + reach)


@functools.lru_cache(maxsize=1024)
def t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t above its middle, by bisection on its distribution function.

    Source: the finite series for whole degrees of freedom, Abramowitz and Stegun 26.7.3 and 26.7.4.
    """
    low, high = 0.0, 1.0
    while _t_below(high, freedom) < probability:
        high *= 2.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_below(middle, freedom) < probability else (low, middle)
    return high


def _t_below(t: float, freedom: int) -> float:
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine2 = math.sin(angle), math.cos(angle) ** 2
    if freedom % 2:
        steps = np.arange(2, freedom - 2, 2, dtype=float)
        series = 0.0 if freedom == 1 else math.cos(angle) * _series(cosine2, steps / (steps + 1))
        inside = 2 / math.pi * (angle + sine * series)
    else:
        steps = np.arange(1, freedom - 2, 2, dtype=float)
        inside = sine * _series(cosine2, steps / (steps + 1))
    return 0.5 + inside / 2


def _series(cosine2: float, factors: Array) -> float:
    return 1.0 + float(np.cumprod(factors * cosine2).sum())
