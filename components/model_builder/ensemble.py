"""Several fitted models as one: chosen with replacement by the validation set, as long as the average gets better.

Greedy ensemble selection (Caruana, Niculescu-Mizil, Crew and Ksikes, 2004): each round adds the model that helps the
average most, one that is in already included, so that how often a model was added is its weight. It pays for what it
adds: members cost microseconds of every answer, and both that and what else is counted stay within their bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from components.model_builder.families import Fitted
from components.model_builder.families.link import Linked
from components.model_builder.table import Array, Table, Task

if TYPE_CHECKING:
    from components.model_builder.onnx_export import Graph

ROUNDS = 40
_PATIENCE = 8
"""Rounds without a better value after which a selection ends."""


def select(
    predictions: Array, loss: Callable[[Array], float], *, costs: Array, most: Array, rounds: int = ROUNDS
) -> dict[int, float]:
    """Chooses members and their weights.

    Args:
        predictions: float64 [models, rows] on the validation set.
        loss: Of a prediction of all rows; less is better.
        costs: float64 [models, kinds], what a member costs once, however great its weight.
        most: float64 [kinds], what all members may cost together; the first is in whatever it costs.
        rounds: Models that are added, with replacement.

    Returns:
        Place of a member → weight; the weights sum to 1.
    """
    added: list[int] = []
    total = np.zeros(predictions.shape[1])
    best, best_length = np.inf, 0
    for count in range(1, rounds + 1):
        losses = {}
        spent = costs[sorted(set(added))].sum(axis=0)
        for place, prediction in enumerate(predictions):
            if not added or place in added or np.all(spent + costs[place] <= most):
                losses[place] = loss((total + prediction) / count)
        chosen = min(losses, key=lambda place: losses[place])
        added.append(chosen)
        total += predictions[chosen]
        if losses[chosen] < best:
            best, best_length = losses[chosen], count
        if count - best_length >= _PATIENCE:
            break
    kept = added[:best_length] or added[:1]
    return {place: kept.count(place) / len(kept) for place in dict.fromkeys(kept)}


class Ensemble(Linked):
    """A weighted average of models: of their logits for a binary problem.

    Args:
        task: What they learnt.
        members: Models and their weights, which sum to 1.
    """

    def __init__(self, task: Task, members: Sequence[tuple[float, Fitted]]) -> None:
        super().__init__(task)
        self._members = tuple(members)

    @property
    def microseconds(self) -> float:
        """See ``Fitted.microseconds``."""
        return sum(fitted.microseconds for _, fitted in self._members)

    @property
    def size(self) -> int:
        """See ``Fitted.size``."""
        return sum(fitted.size for _, fitted in self._members)

    def raw(self, table: Table) -> Array:
        """See ``Fitted.raw``."""
        total = np.zeros(len(table))
        for weight, fitted in self._members:
            total += weight * fitted.raw(table)
        return total

    def draw_raw(self, graph: Graph) -> str:
        """See ``Fitted.draw_raw``."""
        parts = [graph.op("Unsqueeze", [fitted.draw_raw(graph), _last(graph)]) for _, fitted in self._members]
        side_by_side = graph.op("Concat", parts, axis=1)
        weights = graph.constant(np.array([weight for weight, _ in self._members], dtype=np.float32))
        return graph.op("MatMul", [side_by_side, weights])


def _last(graph: Graph) -> str:
    return graph.constant(np.array([1]))
