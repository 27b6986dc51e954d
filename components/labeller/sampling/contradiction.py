"""Sure, but wrong: where somebody said what is so, and the model had been confident of something else.

A truth or feedback that contradicts a confident answer is either the model's blind spot or a wrong entry; both are
worth an expert's look. Uncertainty sampling never finds them: the model is not unsure there. Source: Attenberg and
Provost (2011), Inactive learning? Difficulties employing active learning in practice ("unknown unknowns").
"""

from __future__ import annotations

from typing import Any

import numpy as np

from components.labeller.sampling.pool import Pool

Array = np.ndarray[Any, Any]


def contradiction(pool: Pool) -> Array:
    """How far an answer was beyond what its model thought possible: [rows], 0 where nothing contradicts it.

    Of a class: how much more probable than even the model held what is not so (0–1). Of a number: how far the truth
    lies outside of the interval, in widths of the interval; without an interval, nothing is known to contradict it.
    """
    found = np.zeros(len(pool))
    if pool.known is None:
        return found
    told = np.isfinite(pool.known)
    if pool.problem == "binary":
        held = np.where(pool.known >= 0.5, 1.0 - pool.prediction, pool.prediction)
        found[told] = np.maximum(2.0 * held[told] - 1.0, 0.0)
    elif pool.lower is not None and pool.upper is not None:
        outside = np.maximum(pool.lower - pool.known, pool.known - pool.upper)
        width = np.maximum(pool.upper - pool.lower, np.finfo(float).tiny)
        found[told] = np.maximum(outside / width, 0.0)[told]
    return found
