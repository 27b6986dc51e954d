"""The words model of the model builder, made quick for thousands of fits on subsets of one set of texts.

Texts are cut into words once. A fit weighs as ``families.words`` does (words and pairs that two of the training texts
hold, rarity by the training texts) and has the linear family's loss, a logistic one with a ridge penalty, minimised by
liblinear: milliseconds where there are no numbers to bend and no time to watch.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import expit

from components.model_builder.families.words import words_of

MIN_COUNT = 2
"""Of the linear family's default for a text."""
C = 3.0
"""Inverse of the penalty for each row, as the family's default is at 3,300 of them; the search would find its own."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model: columns of the whole counts, rarity and coefficients for them, the intercept."""

    columns: Array
    rarity: Array
    coefficients: Array
    intercept: float


class FastWords:
    """Counts of words and pairs of all texts.

    Args:
        texts: [rows].
    """

    def __init__(self, texts: list[str]) -> None:
        places: dict[tuple[str, ...], int] = {}
        rows: list[int] = []
        columns: list[int] = []
        values: list[int] = []
        for row, text in enumerate(texts):
            words = words_of(text)
            counts = Counter([*((word,) for word in words), *pairwise(words)])
            for gram, count in counts.items():
                rows.append(row)
                columns.append(places.setdefault(gram, len(places)))
                values.append(count)
        logs = np.log1p(np.array(values, dtype=float))
        whole = sparse.csr_matrix((logs, (rows, columns)), shape=(len(texts), len(places)))
        # A gram that one text alone holds is in no vocabulary of any subset.
        kept = np.flatnonzero(np.asarray((whole > 0).sum(axis=0)).ravel() >= MIN_COUNT)
        self._logs = whole[:, kept].tocsr()

    def fit(self, rows: Array, truth: Array) -> Fit:
        """Fits on some rows.

        Args:
            rows: Which.
            truth: [rows], 0 or 1.
        """
        from sklearn.linear_model import LogisticRegression

        logs = self._logs[rows]
        holders = np.bincount(logs.indices, minlength=logs.shape[1])
        columns = np.flatnonzero(holders >= MIN_COUNT)
        rarity = 1.0 + np.log((1.0 + len(rows)) / (1.0 + holders[columns]))
        model = LogisticRegression(C=C, solver="liblinear", tol=1e-3, random_state=0)
        model.fit(_of_unit_length(logs[:, columns], rarity), truth)
        return Fit(columns, rarity, model.coef_[0], float(model.intercept_[0]))

    def predict(self, fit: Fit, rows: Array) -> Array:
        """Probabilities of 1 for some rows."""
        matrix = _of_unit_length(self._logs[rows][:, fit.columns], fit.rarity)
        return np.asarray(expit(matrix @ fit.coefficients + fit.intercept))


def _of_unit_length(logs: Any, rarity: Array) -> Any:
    weighted = logs.multiply(rarity).tocsr()
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return sparse.diags(1.0 / np.where(length > 0, length, 1.0)) @ weighted
