"""Comparing two models on the same rows: the paired difference, with an interval over blocks.

Both are judged on the same rows, so what is hard for both cancels; and by the same blocks, so a storm counts once.
Differences are signed by the metric's direction: a positive improvement is a better challenger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.evaluator.blocks import (
    LEVEL,
    Interval,
    effective_blocks,
    jackknife,
    number_blocks,
    without_each_block,
)
from ninefold.errors import DataError
from ninefold.fields import Metric

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A challenger against a reference.

    Args:
        metric: What they are compared on.
        reference: The reference's value.
        challenger: The challenger's value.
        improvement: How much better the challenger is, in the metric's unit; negative where it is worse.
        relative: The same as a share of the reference's value.
        rows: Rows that both predicted.
        blocks: Independent blocks among them; where rows have weights, how many of equal weight would tell as much.
        level: Confidence of the intervals.
    """

    metric: Metric
    reference: float
    challenger: float
    improvement: Interval
    relative: Interval
    rows: int
    blocks: int
    level: float = LEVEL

    def words(self, reference: str) -> str:
        """The comparison in a sentence, for people; the caller names the reference."""
        name, unit, relative = self.metric.name, self.metric.unit, self.relative
        values = f"{name} {self.challenger:.4g} {unit}".strip() + (
            f" against the {reference}'s {self.reference:.4g} {unit}".rstrip()
        )
        if not math.isfinite(relative.low):
            return f"{values}, with no interval over {self.blocks:,} blocks."
        verdict = f"{abs(relative.value):.1%} {'worse' if relative.value < 0 else 'better'}"
        return (
            f"{values}: {verdict} ({self.level:.0%} interval over {self.blocks:,} blocks: "
            f"{signed(relative.low)} to {signed(relative.high)})."
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {
            "metric": {"name": self.metric.name, "direction": self.metric.direction, "unit": self.metric.unit},
            "reference": self.reference if math.isfinite(self.reference) else None,
            "challenger": self.challenger if math.isfinite(self.challenger) else None,
            "improvement": self.improvement.to_json(),
            "relative": self.relative.to_json(),
            "rows": self.rows,
            "blocks": self.blocks,
            "level": self.level,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Comparison:
        """Reads what ``to_json`` wrote."""
        return cls(
            metric=Metric(**document["metric"]),
            reference=math.nan if document["reference"] is None else document["reference"],
            challenger=math.nan if document["challenger"] is None else document["challenger"],
            improvement=Interval.from_json(document["improvement"]),
            relative=Interval.from_json(document["relative"]),
            rows=document["rows"],
            blocks=document["blocks"],
            level=document["level"],
        )


def compare(
    metric: Metric,
    truth: Array,
    reference: Array,
    challenger: Array,
    blocks: Array,
    *,
    weight: Array | None = None,
    level: float = LEVEL,
) -> Comparison:
    """Compares two models' predictions of the same rows.

    Args:
        metric: What to compare on; its direction says which way is better.
        truth: [rows].
        reference: [rows], predictions to be measured against.
        challenger: [rows], predictions to be judged.
        blocks: [rows], label of each row's independent block.
        weight: [rows], the inverse of the chance that each row had of being picked; None where all had the same.
        level: Confidence of the intervals, 0–1.

    Raises:
        ConfigurationError: The metric has no interval over blocks.
        DataError: No rows, lengths that differ, or rows that can't be scored.
    """
    if len(blocks) != len(truth):
        raise DataError(f"{len(blocks):,} blocks do not fit {len(truth):,} rows.")
    labels, places = number_blocks(blocks)
    of_reference, reference_without = without_each_block(metric.name, truth, reference, places, weight)
    of_challenger, challenger_without = without_each_block(metric.name, truth, challenger, places, weight)
    effective = None if weight is None else effective_blocks(places, weight)
    sign = 1.0 if metric.direction == "maximize" else -1.0
    improvement = sign * (of_challenger - of_reference)
    improvements = sign * (challenger_without - reference_without)
    return Comparison(
        metric=metric,
        reference=of_reference,
        challenger=of_challenger,
        improvement=jackknife(improvement, improvements, level=level, effective=effective),
        relative=jackknife(
            float(_share(np.array([improvement]), np.array([of_reference]))[0]),
            _share(improvements, reference_without),
            level=level,
            effective=effective,
        ),
        rows=len(truth),
        blocks=len(labels) if effective is None else int(effective),
        level=level,
    )


def signed(share: float) -> str:
    """A share as a percentage with its sign."""
    return f"{share:+.1%}".replace("-", "−")


def _share(improvement: Array, reference: Array) -> Array:
    # Two faultless models do not differ; a share of nothing is otherwise unknown.
    of_nothing = np.where(improvement == 0, 0.0, np.nan)
    share: Array = np.divide(improvement, np.abs(reference), out=of_nothing, where=reference != 0)
    return share
