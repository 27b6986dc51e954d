"""How far several annotators agree beyond chance: Krippendorff's alpha.

Any number of annotators, any of whom may have left out any task. Source: Krippendorff (2011), Computing Krippendorff's
Alpha-Reliability; alpha = 1 - observed / expected disagreement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["nominal", "interval"]
"""Whether two different answers are just different, or the further apart the more different."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far annotators agree.

    Args:
        alpha: 1 where they always agree, 0 where chance would do as well, below 0 where they disagree by system. None
            where it can't be said: no task has two answers, or all answers of all tasks are the same.
        tasks: How many tasks have two answers or more.
        answers: How many answers those have.
    """

    alpha: float | None
    tasks: int
    answers: int


def agreement(tasks: Iterable[Sequence[float]], level: Level) -> Agreement:
    """Krippendorff's alpha.

    Args:
        tasks: Of each task the answers, one an annotator; finite.
        level: ``nominal`` for classes, ``interval`` for numbers.
    """
    paired = [answers for answers in tasks if len(answers) > 1]
    everything = [value for answers in paired for value in answers]
    total = len(everything)
    if not total:
        return Agreement(None, 0, 0)
    disagreement = _different_pairs if level == "nominal" else _squared_distances
    expected = disagreement(everything) / (total * (total - 1))
    if not expected:
        return Agreement(None, len(paired), total)
    observed = sum(disagreement(answers) / (len(answers) - 1) for answers in paired) / total
    return Agreement(1.0 - observed / expected, len(paired), total)


def _different_pairs(values: Sequence[float]) -> float:
    """How many ordered pairs differ."""
    return float(len(values) ** 2 - sum(count**2 for count in Counter(values).values()))


def _squared_distances(values: Sequence[float]) -> float:
    """Sum of squared distances over all ordered pairs: 2 n times the sum of squares around the mean."""
    middle = sum(values) / len(values)
    return 2.0 * len(values) * sum((value - middle) ** 2 for value in values)
