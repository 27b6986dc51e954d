"""From inputs to the columns of a linear model: numbers scaled, bent and flagged where null; categories; words.

Everything here has an exact equal in ONNX (``draw`` of the linear family), which is why it is written here and not
taken from a library whose conversion is approximate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from components.model_builder.families.words import WordCounts
from components.model_builder.table import Array, Table

if TYPE_CHECKING:
    from components.model_builder.onnx_export import Graph

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

    @property
    def columns(self) -> int:
        """How many columns ``matrix`` has."""
        return self.knots.size + len(self.knots) + len(self.flagged)

    def draw_product(self, graph: Graph, weights: Array) -> list[str]:
        """Adds ``matrix`` times weights to a graph.

        Args:
            graph: The graph.
            weights: [columns] or [columns, answers].

        Returns:
            Names of the products to add up, float32 [N] or [N, answers].
        """
        width, knots = self.knots.shape
        if not width:
            return []
        weights = weights.astype(np.float32)
        null = graph.op("IsNaN", ["numbers"])
        filled = graph.op("Where", [null, graph.constant(self.mean), "numbers"])
        clipped = graph.op("Min", [graph.op("Max", [filled, graph.constant(self.low)]), graph.constant(self.high)])
        centred = graph.op("Sub", [clipped, graph.constant(self.mean)])
        scaled = graph.op("Div", [centred, graph.constant(self.scale)])
        parts = [graph.op("MatMul", [scaled, graph.constant(weights[:width])])]
        bends = width * (1 + knots)
        if knots:
            apart = graph.op("Unsqueeze", [scaled, graph.constant(np.array([2]))])
            bent = graph.op("Relu", [graph.op("Sub", [apart, graph.constant(self.knots)])])
            flat = graph.op("Reshape", [bent, graph.constant(np.array([-1, width * knots]))])
            parts.append(graph.op("MatMul", [flat, graph.constant(weights[width:bends])]))
        if len(self.flagged):
            flags = np.zeros((width, *weights.shape[1:]), dtype=np.float32)
            flags[self.flagged] = weights[bends:]
            parts.append(graph.op("MatMul", [graph.op("Cast", [null], to=1), graph.constant(flags)]))
        return parts


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
    def of(cls, train: Table, *, knots: int, min_count: int, pairs: bool, most: int | None = None) -> Design:
        """Learns the columns from the training set.

        Args:
            train: The training set.
            knots: Bends a number.
            min_count: Rows that a category or a word needs to have a column.
            pairs: Whether pairs of neighbouring words are words.
            most: Categories of all inputs together that have columns at most; the most frequent ones.
        """
        cells = len(train) * max(train.numbers.shape[1], 1)
        categories: list[dict[str, int]] = []
        columns = 0
        counted = [Counter(train.categories[:, place]) for place in range(train.categories.shape[1])]
        if most is not None and sum(map(len, counted)) > most:
            frequencies = sorted((count for counts in counted for count in counts.values()), reverse=True)
            min_count = max(min_count, frequencies[most - 1])
        for counts in counted:
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
