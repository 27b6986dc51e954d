"""What may be labelled, and what is known of it before anybody has looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ninefold.errors import DataError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pool:
    """The predictions that a batch is picked from; one row a key.

    Args:
        problem: ``regression`` or ``binary``.
        keys: [rows], what joins a label to its predictions; none twice.
        prediction_ids: [rows]; None where a row was never predicted.
        prediction: float64 [rows], in the target's unit, or the probability of 1.
        lower: float64 [rows], lower bound of the model's interval; None where it gives none.
        upper: float64 [rows], upper bound, likewise.
        known: float64 [rows], a truth or feedback that somebody gave already, NaN where nobody did; None for nowhere.
        traits: [rows], what a row is made of, hashed (``diversity.traits_of_text``): two rows that share most of it
            are near-duplicates. None where rows can't be compared.
    """

    problem: Literal["regression", "binary"]
    keys: Sequence[str]
    prediction_ids: Sequence[str | None]
    prediction: Array
    lower: Array | None = None
    upper: Array | None = None
    known: Array | None = None
    traits: Sequence[frozenset[int]] | None = None

    def __post_init__(self) -> None:
        rows = len(self.keys)
        for name in ("prediction_ids", "prediction", "lower", "upper", "known", "traits"):
            column = getattr(self, name)
            if column is not None and len(column) != rows:
                raise DataError(f"The pool has {rows:,} keys and {len(column):,} values of {name}.")
        if (self.lower is None) != (self.upper is None):
            raise DataError("The pool has one bound of an interval without the other.")
        if len(set(self.keys)) != rows:
            raise DataError(
                f"{rows - len(set(self.keys)):,} keys are in the pool twice.", remedy="Give one row for a key."
            )
        wrong = int(np.count_nonzero(~np.isfinite(self.prediction)))
        if wrong:
            raise DataError(f"{wrong:,} of {rows:,} predictions in the pool are no numbers.")

    def __len__(self) -> int:
        return len(self.keys)
