"""How errors are distributed: what a single number hides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ninefold.metrics import THRESHOLD, calibration_table

Array = np.ndarray[Any, Any]

LEVELS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
HISTOGRAM_BINS = 40
SCORE_BINS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDistribution:
    """How far predictions of a number were off (predicted − true), in the target's unit.

    Where rows have weights, all of it is weighted: a count is then the weight of the rows, of a mean of 1.

    Args:
        quantiles: Level → error.
        absolute_quantiles: Level → size of the error.
        edges: [bins + 1], from the 0.5 % to the 99.5 % quantile.
        counts: [bins], rows in each.
        below: Rows left of the first edge.
        above: Rows right of the last one.
    """

    quantiles: Mapping[float, float]
    absolute_quantiles: Mapping[float, float]
    edges: tuple[float, ...]
    counts: tuple[float, ...]
    below: float
    above: float

    @classmethod
    def of(cls, truth: Array, prediction: Array, weight: Array | None = None) -> ErrorDistribution:
        """The distribution of these rows' errors."""
        error = prediction - truth
        counted = _counted(weight)
        first, last = (float(q) for q in _at_levels(error, [0.005, 0.995], counted))
        # Errors that differ by rounding alone leave no room for bins.
        if last - first <= 1e-9 * max(1.0, abs(first)):
            first, last = first - 0.5, last + 0.5
        counts, edges = np.histogram(error, bins=HISTOGRAM_BINS, range=(first, last), weights=counted)
        return cls(
            quantiles=_quantiles(error, counted),
            absolute_quantiles=_quantiles(np.abs(error), counted),
            edges=tuple(float(edge) for edge in edges),
            counts=tuple(counts.tolist()),
            below=_count(error < first, counted),
            above=_count(error > last, counted),
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {
            "quantiles": [[level, value] for level, value in self.quantiles.items()],
            "absolute_quantiles": [[level, value] for level, value in self.absolute_quantiles.items()],
            "edges": list(self.edges),
            "counts": list(self.counts),
            "below": self.below,
            "above": self.above,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ErrorDistribution:
        """Reads what ``to_json`` wrote."""
        return cls(
            quantiles=dict(document["quantiles"]),
            absolute_quantiles=dict(document["absolute_quantiles"]),
            edges=tuple(document["edges"]),
            counts=tuple(document["counts"]),
            below=document["below"],
            above=document["above"],
        )


def _counted(weight: Array | None) -> Array | None:
    return None if weight is None else weight * (len(weight) / weight.sum())


def _count(rows: Array, counted: Array | None) -> float:
    return int(np.count_nonzero(rows)) if counted is None else float(counted[rows].sum())


def _at_levels(values: Array, levels: Sequence[float], counted: Array | None) -> Array:
    if counted is None:
        return np.quantile(values, levels)
    return np.quantile(values, levels, weights=counted, method="inverted_cdf")


def _quantiles(values: Array, counted: Array | None) -> dict[float, float]:
    return dict(zip(LEVELS, (float(q) for q in _at_levels(values, LEVELS, counted)), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreDistribution:
    """How predicted probabilities were distributed, and what came true; weighted as in ``ErrorDistribution``.

    Args:
        edges: [bins + 1], from 0 to 1.
        zeros: [bins], rows with truth 0 and such a probability.
        ones: [bins], rows with truth 1.
        calibration: Ten bins of equal width: (rows, mean probability, share of ones); NaN where a bin is empty.
        confusion: ``true_positive``, ``false_positive``, ``false_negative``, ``true_negative`` at 0.5.
    """

    edges: tuple[float, ...]
    zeros: tuple[float, ...]
    ones: tuple[float, ...]
    calibration: tuple[tuple[float, float, float], ...]
    confusion: Mapping[str, float]

    @classmethod
    def of(cls, truth: Array, prediction: Array, weight: Array | None = None) -> ScoreDistribution:
        """The distribution of these rows' probabilities."""
        edges = np.linspace(0.0, 1.0, SCORE_BINS + 1)
        predicted, true = prediction >= THRESHOLD, truth == 1.0
        counted = _counted(weight)

        def histogram(rows: Array) -> tuple[float, ...]:
            weights = None if counted is None else counted[rows]
            return tuple(np.histogram(prediction[rows], bins=edges, weights=weights)[0].tolist())

        calibration = calibration_table(truth, prediction, counted)
        return cls(
            edges=tuple(float(edge) for edge in edges),
            zeros=histogram(~true),
            ones=histogram(true),
            calibration=tuple((int(r) if counted is None else r, p, share) for r, p, share in calibration),
            confusion={
                "true_positive": _count(predicted & true, counted),
                "false_positive": _count(predicted & ~true, counted),
                "false_negative": _count(~predicted & true, counted),
                "true_negative": _count(~predicted & ~true, counted),
            },
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {
            "edges": list(self.edges),
            "zeros": list(self.zeros),
            "ones": list(self.ones),
            "calibration": [
                [rows, *(value if math.isfinite(value) else None for value in values)]
                for rows, *values in self.calibration
            ],
            "confusion": dict(self.confusion),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ScoreDistribution:
        """Reads what ``to_json`` wrote."""
        return cls(
            edges=tuple(document["edges"]),
            zeros=tuple(document["zeros"]),
            ones=tuple(document["ones"]),
            calibration=tuple(
                (rows, math.nan if p is None else p, math.nan if share is None else share)
                for rows, p, share in document["calibration"]
            ),
            confusion=document["confusion"],
        )
