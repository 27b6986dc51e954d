"""Contributions of groups of inputs to one prediction, for any model: Shapley values against a reference.

The value of a coalition is the prediction with the coalition's inputs as they are and all others at their reference
values. A group's contribution is its mean effect over all orders in which groups can be let in (Shapley, "A value for
n-person games", 1953; Strumbelj and Kononenko, "Explaining prediction models and individual predictions with feature
contributions", 2014). Contributions sum to the prediction minus the reference's prediction.

Up to eight groups all coalitions are asked and the result is exact. Beyond, orders are sampled, each with its reverse;
the sum still holds exactly.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ninefold.fields import Input

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

EXACT_UP_TO = 8
_SAMPLED_ORDERS = 32


@dataclass(frozen=True, eq=False)
class Plan:
    """What to ask so that contributions follow.

    Args:
        groups: Names of the groups.
        members: [inputs] → place of the input's group.
        masks: Coalitions to ask, as bits by group; the first is empty, the last is everybody.
        weights: [groups, coalitions] → a coalition's share in a group's contribution.
    """

    groups: tuple[str, ...]
    members: tuple[int, ...]
    masks: tuple[int, ...]
    weights: Array

    def rows(self, row: Sequence[Any], reference: Sequence[Any]) -> list[list[Any]]:
        """The instances to ask for one row, a coalition each.

        Args:
            row: The values as they are, in the order of the inputs.
            reference: What stands for "nothing known", likewise.
        """
        triples = list(zip(row, reference, self.members, strict=True))
        return [[own if mask >> group & 1 else other for own, other, group in triples] for mask in self.masks]

    def contributions(self, values: Sequence[float]) -> list[float]:
        """The groups' contributions, from the coalitions' predictions in the order of ``masks``."""
        contributions: list[float] = (self.weights @ np.asarray(values)).tolist()
        return contributions


@functools.lru_cache(maxsize=16)
def plan(inputs: tuple[Input, ...]) -> Plan:
    """The plan for a model's inputs; an input without a group is one of its own."""
    names = [item.group or item.name for item in inputs]
    groups = tuple(dict.fromkeys(names))
    masks, weights = coalitions(len(groups), None if len(groups) <= EXACT_UP_TO else _SAMPLED_ORDERS)
    return Plan(groups, tuple(groups.index(name) for name in names), masks, weights)


@functools.lru_cache(maxsize=32)
def coalitions(count: int, orders: int | None) -> tuple[tuple[int, ...], Array]:
    """The coalitions to ask of so many players, and each one's share in a player's contribution.

    Args:
        count: Players.
        orders: Orders to sample, each with its reverse: at most 2 · ``count`` · ``orders`` coalitions. None for all of
            the 2 to the power of ``count``.

    Returns:
        Coalitions as bits by player, the first empty, the last everybody; weights [players, coalitions].
    """
    return _exact(count) if orders is None else _sampled(count, orders)


def _exact(count: int) -> tuple[tuple[int, ...], Array]:
    masks = tuple(range(2**count))
    weights = np.zeros((count, len(masks)))
    for mask in masks:
        size = mask.bit_count()
        for group in range(count):
            if not mask >> group & 1:
                # The share of orders in which exactly this coalition is there when the group comes.
                weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
                weights[group, mask | 1 << group] += weight
                weights[group, mask] -= weight
    return masks, weights


def _sampled(count: int, sampled: int) -> tuple[tuple[int, ...], Array]:
    # One fixed sample: the same question has the same answer.
    generator = random.Random(count)  # noqa: S311
    orders = []
    for _ in range(sampled):
        order = generator.sample(range(count), count)
        orders += [order, order[::-1]]
    steps = [step for order in orders for step in _prefixes(order)]
    everybody = 2**count - 1
    masks = (*sorted({mask for _, mask in steps}), everybody)
    places = {mask: place for place, mask in enumerate(masks)}
    weights = np.zeros((count, len(masks)))
    for group, mask in steps:
        weights[group, places[mask | 1 << group]] += 1 / len(orders)
        weights[group, places[mask]] -= 1 / len(orders)
    return masks, weights


def _prefixes(order: Sequence[int]) -> list[tuple[int, int]]:
    """(Group, the coalition that is there when it comes) along an order."""
    steps = []
    mask = 0
    for group in order:
        steps.append((group, mask))
        mask |= 1 << group
    return steps
