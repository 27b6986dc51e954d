"""From inputs to the columns of a linear model: numbers scaled, bent and flagged where null; categories; words.

Everything here has an exact equal in ONNX (``draw`` of the linear family), which is why it is written here and not
taken from a library whose conversion is approximate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from components.model_builder.families.words import WordCounts
from components.model_builder.table import Array, Table

MAX_DENSE = 40_000_000
"""Cells of the dense block; bends are thinned to stay below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberColumns:
    """How numbers become columns: clipped to the training range, scaled, null at the mean with a flag, bent at knots.

    Args:
        low, high, mean, scale: float32 [numbers], from training, nulls left out.
        knots: float32 [numbers, knots], in scaled units: ``max(0, z - knot)`` is a column, so a line may bend there.
        flagged: Places of the numbers that training saw null.
    """

    low: Array
    high: Array
    mean: Array
    scale: Array
    knots: Array
    flagged: Array

    @classmethod
    def of(cls, numbers: Array, knots: int) -> NumberColumns:
        """Learns the columns from the training set's float32 [rows, numbers]."""
        columns = numbers.shape[1]
        low, high, mean = np.zeros(columns), np.zeros(columns), np.zeros(columns)
        scale, bends = np.ones(columns), np.zeros((columns, knots))
        for place in range(columns):
            known = numbers[:, place][np.isfinite(numbers[:, place])].astype(np.float64)
            if not len(known):
                continue
            low[place], high[place], mean[place] = known.min(), known.max(), known.mean()
            deviation = known.std()
            # A constant column is all zeros after it is centred; any scale does.
            scale[place] = deviation if deviation > 1e-12 * max(1.0, abs(mean[place])) else 1.0
            if knots:
                shares = np.linspace(0, 1, knots + 2)[1:-1]
                bends[place] = (np.quantile(known, shares) - mean[place]) / scale[place]
        single = np.float32
        return cls(
            low=low.astype(single), high=high.astype(single), mean=mean.astype(single), scale=scale.astype(single),
            knots=bends.astype(single), flagged=np.flatnonzero(np.isnan(numbers).any(axis=0)),
        )  # fmt: skip

    def matrix(self, numbers: Array) -> Array:
        """float64 [rows, columns]: scaled numbers, then bends by number, then null flags."""
        null = np.isnan(numbers)
        scaled = (np.clip(np.where(null, self.mean, numbers), self.low, self.high) - self.mean) / self.scale
        bent = np.maximum(scaled[:, :, None] - self.knots, 0.0).reshape(len(numbers), -1)
        return np.hstack([scaled, bent, null[:, self.flagged]]).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """All columns of a linear model.

    Args:
        numbers: Columns of the numbers.
        categories: For each category input, category → its column, counted over all categories' columns.
        words: For each text input, its words.
    """

    numbers: NumberColumns
    categories: tuple[Mapping[str, int], ...]
    words: tuple[WordCounts, ...]

    @classmethod
    def of(cls, train: Table, *, knots: int, min_count: int, pairs: bool) -> Design:
        """Learns the columns from the training set.

        Args:
            train: The training set.
            knots: Bends a number.
            min_count: Rows that a category or a word needs to have a column.
            pairs: Whether pairs of neighbouring words are words.
        """
        cells = len(train) * max(train.numbers.shape[1], 1)
        categories: list[dict[str, int]] = []
        columns = 0
        for place in range(train.categories.shape[1]):
            counts = Counter(train.categories[:, place])
            kept = sorted(value for value, count in counts.items() if count >= min_count)
            categories.append({value: columns + i for i, value in enumerate(kept)})
            columns += len(kept)
        return cls(
            numbers=NumberColumns.of(train.numbers, min(knots, max(MAX_DENSE // cells - 2, 0))),
            categories=tuple(categories),
            words=tuple(
                WordCounts.of(train.texts[:, place], min_count=min_count, pairs=pairs)
                for place in range(train.texts.shape[1])
            ),
        )

    def matrices(self, table: Table) -> tuple[Array, Any]:
        """(dense float64 [rows, number columns], sparse CSR [rows, category columns + words])."""
        rows = len(table)
        blocks: list[Any] = [sparse.csr_matrix((rows, 0))]
        places, columns = [], []
        for place, known in enumerate(self.categories):
            found = np.array([known.get(value, -1) for value in table.categories[:, place]], dtype=np.int64)
            hit = np.flatnonzero(found >= 0)
            places.append(hit)
            columns.append(found[hit])
        if self.categories:
            row, column = np.concatenate(places), np.concatenate(columns)
            width = sum(map(len, self.categories))
            blocks.append(sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=(rows, width)))
        blocks += [words.matrix(table.texts[:, place]) for place, words in enumerate(self.words)]
        return self.numbers.matrix(table.numbers), sparse.hstack(blocks, format="csr")
