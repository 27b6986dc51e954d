"""Whether intervals hold what they promise: the share of truths between their bounds, and how wide they are.

Coverage alone is no merit, as an interval from nothing to everything covers all; width alone is none either. So both
are told, with their intervals over blocks, and by slice: a promise that is kept on average may be broken for some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluator.blocks import Interval, effective_blocks, jackknife, means_without_each_block
from components.evaluator.slices import SMALL_SLICE_ROWS, slice_rows
from ninefold.errors import DataError
from ninefold.fields import Columns

if TYPE_CHECKING:
    from ninefold.usecase import UseCase

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageSlice:
    """Intervals on some of the rows.

    Args:
        field: Request field.
        value: Its value, or a range of values.
        rows: Rows of the slice that have an interval.
        coverage: Share of their truths that lie inside, 0–1.
        width: Mean of upper − lower there, in the target's unit.
        small: Fewer rows than can be judged by.
    """

    field: str
    value: str
    rows: int
    coverage: float
    width: float
    small: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalQuality:
    """What intervals were worth.

    Args:
        nominal: Share of truths that they promise to hold, 0–1.
        rows: Rows that have one; a row that the baseline answered has none.
        coverage: Share of truths that lie inside or on a bound, over blocks.
        width: Mean of upper − lower, in the target's unit, over blocks.
        slices: The same by declared request field.
    """

    nominal: float
    rows: int
    coverage: Interval
    width: Interval
    slices: tuple[CoverageSlice, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {
            "nominal": self.nominal,
            "rows": self.rows,
            "coverage": self.coverage.to_json(),
            "width": self.width.to_json(),
            "slices": [
                {
                    "field": s.field,
                    "value": s.value,
                    "rows": s.rows,
                    "coverage": s.coverage,
                    "width": s.width,
                    "small": s.small,
                }
                for s in self.slices
            ],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> IntervalQuality:
        """Reads what ``to_json`` wrote."""
        return cls(
            nominal=document["nominal"],
            rows=document["rows"],
            coverage=Interval.from_json(document["coverage"]),
            width=Interval.from_json(document["width"]),
            slices=tuple(CoverageSlice(**s) for s in document["slices"]),
        )


def interval_quality(
    use_case: UseCase,
    request: Columns,
    truth: Array,
    interval: Array | None,
    places: Array,
    weight: Array | None = None,
) -> IntervalQuality | None:
    """Judges intervals by truths; None where the use case declares none, or no row has one.

    Args:
        use_case: Says what they promise, and what the slices are.
        request: Request columns [rows].
        truth: [rows].
        interval: [rows, 2], NaN where a row has none.
        places: [rows], each row's block, from 0.
        weight: [rows], where rows stand for more or less than one; None where all count once.

    Raises:
        DataError: The intervals do not fit the rows, or a lower bound lies above its upper one.
    """
    if use_case.interval is None or interval is None:
        return None
    if interval.shape != (len(truth), 2):
        raise DataError(f"{interval.shape} intervals do not fit {len(truth):,} rows.", remedy="Give two bounds a row.")
    weights = np.ones(len(truth)) if weight is None else weight
    weighted = weight is not None
    has = np.isfinite(interval).all(axis=1) & (weights > 0)
    if not has.any():
        return None
    lower, upper = interval[has].T
    crossed = int(np.count_nonzero(lower > upper))
    if crossed:
        raise DataError(f"{crossed:,} of {len(lower):,} intervals have a lower bound above their upper one.")
    inside = ((truth[has] >= lower) & (truth[has] <= upper)).astype(float)
    width = upper - lower
    blocks, weights = places[has], weights[has]
    return IntervalQuality(
        nominal=use_case.interval,
        rows=len(inside),
        coverage=_mean(inside, blocks, weights, weighted=weighted),
        width=_mean(width, blocks, weights, weighted=weighted),
        slices=tuple(
            CoverageSlice(
                field=field,
                value=value,
                rows=int(np.count_nonzero(mask)),
                coverage=float(np.average(inside[mask], weights=weights[mask])),
                width=float(np.average(width[mask], weights=weights[mask])),
                small=np.count_nonzero(mask) < SMALL_SLICE_ROWS,
            )
            for field, value, mask in slice_rows(use_case, {name: column[has] for name, column in request.items()})
        ),
    )


def _mean(values: Array, blocks: Array, weight: Array, *, weighted: bool) -> Interval:
    """A mean with its interval over blocks."""
    _, places = np.unique(blocks, return_inverse=True)
    (value,), (without,) = means_without_each_block(values[None], places, weight)
    return jackknife(float(value), without, effective=effective_blocks(places, weight) if weighted else None)
