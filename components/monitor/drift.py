"""Drift: how far a window's values are from those before, and how far they may be.

The distance is the population stability index over bins: deciles of the reference and one bin for null for a number;
the frequent categories, the others, those never seen and null for a category. Source of the index: Siddiqi, *Credit
Risk Scorecards*, 2006, chapter 8. Textbook bounds (0.1, 0.25) suppose that nothing changes by itself; flights, weather
and seasons do. So limits are calibrated: each window of history against the windows before it, which says how far a
quiet window is, column by column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

Array = np.ndarray[Any, Any]

LEAST_LIMIT = 0.1
"""No limit is below this: what is that little matters to nobody, however still a column is (Siddiqi's "no change")."""
LEAST_USUAL = 0.02
"""What a column may be away by itself at least: below lies the noise of counting."""
MOST_CATEGORIES = 40
_OTHER, _UNSEEN, _NULL = -3, -2, -1
_SMOOTHING = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """How a column's values are counted.

    Args:
        edges: Inner edges of a number's bins, each in the bin that it ends; None for a category.
        frequent: Categories with a bin of their own.
        known: Every category that is known.
    """

    edges: tuple[float, ...] | None = None
    frequent: tuple[str, ...] = ()
    known: frozenset[str] = field(default_factory=frozenset)

    @property
    def size(self) -> int:
        """Number of bins, the last of them null."""
        return len(self.edges) + 2 if self.edges is not None else len(self.frequent) + 3

    @classmethod
    def of(cls, values: pl.Series, known: Mapping[str, int] | None = None) -> Bins:
        """Bins from a reference's values, and the categories that training knew."""
        if values.dtype.is_numeric():
            finite = values.drop_nulls().to_numpy()
            return cls(edges=tuple(float(edge) for edge in _edges(finite)) if len(finite) else ())
        counts = values.drop_nulls().value_counts(sort=True)
        names = counts[counts.columns[0]].to_list()
        return cls(frequent=tuple(sorted(names[:MOST_CATEGORIES])), known=frozenset(names) | frozenset(known or ()))

    def count(self, values: pl.Series, window: Array, windows: int) -> Array:
        """Counts [windows, size] of values [rows] by their window [rows]."""
        if self.edges is not None:
            numbers = values.cast(pl.Float64).fill_null(math.nan).to_numpy()
            places = np.searchsorted(np.array(self.edges), numbers, side="left")
            places[np.isnan(numbers)] = self.size - 1
        else:
            place = dict.fromkeys(self.known, self.size + _OTHER) | {c: i for i, c in enumerate(self.frequent)}
            found = (
                values.replace_strict(
                    list(place), list(place.values()), default=self.size + _UNSEEN, return_dtype=pl.Int64
                )
                if place
                else pl.repeat(self.size + _UNSEEN, len(values), eager=True)
            )
            places = found.to_numpy().copy()
            places[values.is_null().to_numpy()] = self.size - 1
        counted: Array = np.bincount(window * self.size + places, minlength=windows * self.size)
        return counted.reshape(windows, self.size)

    def null_share(self, counts: Array) -> float:
        """Share of nulls among counted values; NaN of none."""
        total = counts.sum()
        return float(counts[-1] / total) if total else math.nan

    def unseen_share(self, counts: Array) -> float:
        """Share of categories that nobody knew; NaN of none, and of a number."""
        total = counts.sum()
        return float(counts[_UNSEEN] / total) if total and self.edges is None else math.nan

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {
            "edges": None if self.edges is None else list(self.edges),
            "frequent": list(self.frequent),
            "known": sorted(self.known),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Bins:
        """Reads what ``to_json`` wrote."""
        edges = document["edges"]
        return cls(
            edges=None if edges is None else tuple(edges),
            frequent=tuple(document["frequent"]),
            known=frozenset(document["known"]),
        )


def _edges(finite: Array) -> Array:
    """Deciles; and below a value that several of them are, the greatest value that is less.

    Else one bin would hold both, and nobody saw it when a column of ones with few zeros turns into zeros.
    """
    deciles, times = np.unique(np.quantile(finite, np.linspace(0.1, 0.9, 9)), return_counts=True)
    below = [_just_below(finite, value) for value in deciles[times > 1]]
    return np.unique(np.concatenate([deciles, below]))


def _just_below(finite: Array, value: float) -> float:
    less = finite[finite < value]
    if len(less):
        return float(less.max())
    # What is less was never seen, and has a bin for the day when it is.
    return float(np.nextafter(value, -np.inf)) if value else -float(np.finfo(np.float64).tiny)


def psi(reference: Array, current: Array) -> float:
    """Population stability index of two rows of counts [bins]; NaN where one of them is empty.

    Half a row is added to each bin, so that an empty one is rare and not impossible.
    """
    if not reference.sum() or not current.sum():
        return math.nan
    p = (reference + _SMOOTHING) / (reference.sum() + _SMOOTHING * len(reference))
    q = (current + _SMOOTHING) / (current.sum() + _SMOOTHING * len(current))
    return float(((q - p) * np.log(q / p)).sum())


def trailing_psi(counts: Array, reference_windows: int) -> Array:
    """[windows] of each window's index against the ``reference_windows`` before it; NaN where fewer lie before."""
    sums = np.vstack([np.zeros(counts.shape[1]), np.cumsum(counts, axis=0)])
    return np.array(
        [
            psi(sums[i] - sums[i - reference_windows], counts[i]) if i >= reference_windows else math.nan
            for i in range(len(counts))
        ]
    )


def against_the_rest(counts: Array) -> Array:
    """[windows] of each window's index against all the others, where windows have no order."""
    total = counts.sum(axis=0)
    return np.array([psi(total - row, row) for row in counts])


def calibrate(quiet: Mapping[str, Array], rate: float, minimum_windows: int) -> dict[str, float]:
    """How far each column may be, so that in a share ``rate`` of quiet windows any column is beyond.

    A column is told by its own history: its distance over the 95 % quantile of its distances. The greatest of these
    ratios in a window is a maximum of many, so the factor that it exceeds in a share ``rate`` of windows is a quantile
    of the Gumbel distribution fitted to history's windows, or of history's own where that is greater. Source: Gumbel,
    *Statistics of Extremes*, 1958 (moments).

    Args:
        quiet: Column → distances [windows] of history; NaN where unknown.
        rate: False alarms, as a share of windows.
        minimum_windows: With fewer distances a column has no limit.

    Returns:
        Column → limit; columns that can't be calibrated are missing.
    """
    usual, ratios = {}, []
    for column, distances in quiet.items():
        known = distances[np.isfinite(distances)]
        if len(known) >= minimum_windows:
            usual[column] = max(float(np.quantile(known, 0.95)), LEAST_USUAL)
            ratios.append(np.where(np.isfinite(distances), distances / usual[column], 0.0))
    if not usual:
        return {}
    worst = np.max(ratios, axis=0)
    factor = highest_of(worst[worst > 0], rate)
    return {column: max(LEAST_LIMIT, factor * level) for column, level in usual.items()}


def highest_of(values: Sequence[float] | Array, rate: float) -> float:
    """What a maximum like these exceeds in a share ``rate`` of cases."""
    sample = np.asarray(values, dtype=float)
    scale = float(sample.std(ddof=1)) * math.sqrt(6.0) / math.pi
    place = float(sample.mean()) - 0.5772156649 * scale
    fitted = place - scale * math.log(-math.log1p(-rate))
    return max(fitted, float(np.quantile(sample, 1.0 - rate)))
