"""How unsure a model is of an answer: the higher, the more its label would teach.

Sources: Lewis and Gale (1994), A sequential algorithm for training text classifiers (uncertainty sampling); Scheffer,
Decomain and Wrobel (2001) for the margin; Settles (2009), Active learning literature survey, section 3; Seung, Opper
and Sompolinsky (1992), Query by committee, for disagreement.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from components.labeller.sampling.pool import Pool
from ninefold.errors import ConfigurationError, DataError

Array = np.ndarray[Any, Any]


def margin(probabilities: Array) -> Array:
    """1 less the gap between the two likeliest classes: 1 where they are alike, 0 where one is certain.

    Args:
        probabilities: [rows, classes], each row summing to 1.
    """
    _check_classes(probabilities)
    top = np.sort(probabilities, axis=1)[:, -2:]
    return np.asarray(1.0 - (top[:, 1] - top[:, 0]))


def entropy(probabilities: Array) -> Array:
    """Shannon's entropy as a share of the greatest: 1 where all classes are alike, 0 where one is certain.

    Of two classes it ranks as ``margin`` does; of more, it also counts how the unlikely ones share what is left.

    Args:
        probabilities: [rows, classes], each row summing to 1.
    """
    _check_classes(probabilities)
    logs = np.log(probabilities, out=np.zeros_like(probabilities, dtype=float), where=probabilities > 0)
    return np.asarray(-(probabilities * logs).sum(axis=1) / np.log(probabilities.shape[1]))


def interval_width(lower: Array, upper: Array) -> Array:
    """How far apart the quantiles of a number lie, in the target's unit.

    Args:
        lower: [rows].
        upper: [rows], nowhere below ``lower``.
    """
    width = np.asarray(upper, dtype=float) - np.asarray(lower, dtype=float)
    crossed = int(np.count_nonzero(~(width >= 0)))
    if crossed:
        raise DataError(f"{crossed:,} of {len(width):,} intervals have no width: a bound is missing, or they cross.")
    return np.asarray(width)


def disagreement(predictions: Array) -> Array:
    """Standard deviation of what several models, or quantiles, answer.

    Args:
        predictions: [models, rows], at least two models.
    """
    if predictions.ndim != 2 or len(predictions) < 2:
        raise DataError("Disagreement needs the answers of two models or more.")
    return np.asarray(predictions.std(axis=0))


def uncertainty_of(pool: Pool) -> Array:
    """How unsure the model is of each row, by what it answered: [rows], not below 0.

    Raises:
        ConfigurationError: A number without an interval says nothing about how sure it is.
    """
    if pool.problem == "binary":
        return margin(np.stack([1.0 - pool.prediction, pool.prediction], axis=1))
    if pool.lower is None or pool.upper is None:
        raise ConfigurationError(
            "How unsure the model is of a number is not known: it answers without an interval.",
            remedy="Declare an interval in the use case, or pick with the mix random=1.",
        )
    return interval_width(pool.lower, pool.upper)


def _check_classes(probabilities: Array) -> None:
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        raise DataError(f"Probabilities of shape {probabilities.shape} name no two classes a row.")
    wrong = int(np.count_nonzero(~(probabilities >= 0).all(axis=1) | (abs(probabilities.sum(axis=1) - 1) > 1e-6)))
    if wrong:
        raise DataError(f"{wrong:,} of {len(probabilities):,} rows are no probabilities that sum to 1.")
