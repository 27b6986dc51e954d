"""The metric apart by who told the truth: what users say is shown beside what decides, and decides nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ninefold.metrics import compute
from ninefold.truths import SOURCES

if TYPE_CHECKING:
    from components.evaluator.evidence import Answers
    from components.evaluator.testset import TestSet
    from ninefold.usecase import UseCase


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceValues:
    """What models are worth by the truths of one source.

    Args:
        source: Who told them.
        rows: Rows of the test set.
        values: Role (``baseline``, ``candidate``) → the use case's metric; NaN where it is undefined.
    """

    source: str
    rows: int
    values: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back; NaN is null."""
        values = {role: value if math.isfinite(value) else None for role, value in self.values.items()}
        return {"source": self.source, "rows": self.rows, "values": values}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SourceValues:
        """Reads what ``to_json`` wrote."""
        values = {role: math.nan if value is None else value for role, value in document["values"].items()}
        return cls(source=document["source"], rows=document["rows"], values=values)


def by_source(use_case: UseCase, test: TestSet, answers: Mapping[str, Answers]) -> tuple[SourceValues, ...]:
    """The metric of each model by the truths of each source, the most trusted first.

    Args:
        use_case: Says what the metric is.
        test: The test set with the truths of all sources.
        answers: Role → what that model predicted.

    Returns:
        Empty where the test set doesn't say who told its truths.
    """
    if not test.sources:
        return ()
    told = np.array(test.sources, dtype=object)
    found = []
    for source in reversed(SOURCES):
        mine = told == source
        if mine.any():
            values = {role: _value(use_case, test, given, mine) for role, given in answers.items()}
            found.append(SourceValues(source=source, rows=int(mine.sum()), values=values))
    return tuple(found)


def _value(use_case: UseCase, test: TestSet, given: Answers, mine: Any) -> float:
    places = np.arange(len(test)) if given.places is None else given.places
    chosen = mine[places]
    if not chosen.any():
        return math.nan
    return compute(use_case.metric.name, test.truth[places][chosen], given.prediction[chosen])
