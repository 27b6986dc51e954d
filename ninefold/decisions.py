"""Decisions by what they cost: from the costs of acting and of not acting to the probability from which it pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ninefold.errors import ConfigurationError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An offer that keeps some of those who would leave.

    To whom it is made costs ``cost``, and with the probability that the offer meets a leaver who is persuaded, it keeps
    ``value``. So it pays where p · persuaded · value exceeds the cost (Elkan, "The foundations of cost-sensitive
    learning", 2001): the threshold follows from the costs, and holds as far as the probabilities are calibrated.

    Args:
        cost: Of one offer, whoever gets it.
        value: What is kept when a leaver stays.
        persuaded: Share of the leavers who stay for it, 0–1.
        unit: Of the amounts.

    Raises:
        ConfigurationError: An amount is not above zero, or the share not above 0 and at most 1.
    """

    cost: float
    value: float
    persuaded: float
    unit: str

    def __post_init__(self) -> None:
        if self.cost <= 0 or self.value <= 0 or not 0 < self.persuaded <= 1:
            raise ConfigurationError(
                f"An offer of {self.cost:g} that persuades {self.persuaded:g} of those who are worth {self.value:g} "
                "can't be weighed.",
                remedy="Give a cost and a value above 0, and a share above 0 and at most 1.",
            )

    @property
    def worth(self) -> float:
        """What meeting a leaver is worth, in the unit: not all of them are persuaded."""
        return self.persuaded * self.value

    @property
    def threshold(self) -> float:
        """Probability from which the offer pays; above 1 it never does."""
        return self.cost / self.worth

    def expected(self, probability: float) -> float:
        """What the offer is expected to gain, in its unit; negative where it does not pay."""
        return probability * self.worth - self.cost

    def gained(self, truth: Array, probability: Array) -> Array:
        """What was gained by offering where it pays, row by row, by who would have left in truth.

        Args:
            truth: [rows], 1 for who leaves.
            probability: [rows].
        """
        gain: Array = np.where(probability >= self.threshold, truth * self.worth - self.cost, 0.0)
        return gain
