"""From raw answers to answers and back: logits and probabilities for a binary problem, else one and the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, logit

from components.model_builder.table import Array, Table, Task

if TYPE_CHECKING:
    from components.model_builder.onnx_export import Graph


_NONE = 1e-15
"""The least probability that has a logit."""


def linked(task: Task, answers: Array) -> Array:
    """Raw answers of answers; near 0 and 1 they are not what the model's own ``raw`` tells."""
    return logit(np.clip(answers, _NONE, 1 - _NONE)) if task.objective == "logistic" else answers


def unlinked(task: Task, raw: Array) -> Array:
    """Answers of raw answers."""
    return np.asarray(expit(raw)) if task.objective == "logistic" else raw


class Linked(ABC):
    """A trained model that tells its raw answer; what it predicts and draws follows from that.

    Args:
        task: What it has learnt.
    """

    def __init__(self, task: Task) -> None:
        self._task = task

    @abstractmethod
    def raw(self, table: Table) -> Array:
        """See ``Fitted.raw``."""

    @abstractmethod
    def draw_raw(self, graph: Graph) -> str:
        """See ``Fitted.draw_raw``."""

    def predict(self, table: Table) -> Array:
        """See ``Fitted.predict``."""
        return unlinked(self._task, self.raw(table))

    def draw(self, graph: Graph) -> str:
        """See ``Fitted.draw``."""
        raw = self.draw_raw(graph)
        return graph.op("Sigmoid", [raw]) if self._task.objective == "logistic" else raw
