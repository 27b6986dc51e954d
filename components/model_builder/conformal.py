"""How far to move two quantiles so that they hold what they promise, whatever made them.

Conformalised quantile regression (Romano, Patterson and Candès, 2019, algorithm 1). Of rows that no fit has seen, the
score ``max(lower - truth, truth - upper)`` says how far the truth lies outside, negative inside. The bounds move
outwards by the smallest score that ``nominal`` of ``n + 1`` rows do not exceed. Then a new row that is exchangeable
with those rows lies inside with a chance of at least ``nominal``, however bad the quantiles are. What is not
exchangeable (a later month, another town) is not promised anything: production has to measure.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ninefold.errors import DataError

Array = np.ndarray[Any, Any]


def scores(bounds: Array, truth: Array) -> Array:
    """How far each truth lies outside of its bounds; negative inside.

    Args:
        bounds: [rows, 2], lower and upper.
        truth: [rows].
    """
    outside: Array = np.maximum(bounds[:, 0] - truth, truth - bounds[:, 1])
    return outside


def correction(outside: Array, weight: Array, nominal: float) -> float:
    """What is taken from lower bounds and added to upper ones; negative where the quantiles promise too little.

    Rows that stand for several, or for part of one, count by their weight (Tibshirani, Foygel Barber, Candès and
    Ramdas, 2019, with the new row as heavy as the heaviest); with equal weights it is the plain rule.

    Args:
        outside: ``scores`` [rows] of rows that no fit has seen.
        weight: [rows].
        nominal: Share of truths to hold, 0–1.

    Raises:
        DataError: There are too few rows to promise that share of.
    """
    order = np.argsort(outside, kind="stable")
    reached = np.cumsum(weight[order])
    needed = nominal * (reached[-1] + weight.max()) if len(order) else 0.0
    # 0.7 of ten rows is 7, not 7 and a rounding error.
    place = int(np.searchsorted(reached, needed * (1.0 - 1e-12)))
    if place >= len(order):
        raise DataError(
            f"{len(order):,} validation rows are too few for intervals that hold {nominal:.1%} of the truths.",
            remedy=f"It takes {int(np.ceil(nominal / (1.0 - nominal) - 1e-9)):,} at least, of equal weight.",
        )
    return float(outside[order[place]])


def sorted_bounds(quantiles: Array) -> Array:
    """Quantiles [rows, 2] that cross, put in order (rearranged: Chernozhukov, Fernández-Val and Galichon, 2010)."""
    return np.sort(quantiles, axis=1)


def around(bounds: Array, moved: float, prediction: Array) -> Array:
    """Intervals [rows, 2]: bounds moved outwards, and widened to the prediction where that lies outside of them.

    Widening takes no truth away, so what is promised stays promised, also for a prediction that was chosen by the very
    rows that the bounds were moved by; and lower <= prediction <= upper always.
    """
    lower = np.minimum(bounds[:, 0] - moved, prediction)
    upper = np.maximum(bounds[:, 1] + moved, prediction)
    return np.stack([lower, upper], axis=1)
