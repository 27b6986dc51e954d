"""Small networks: smooth where trees have steps, and so what an average with trees gains most from.

Hidden layers of one width, x·sigmoid(x) between them (Ramachandran, Zoph and Le, 2017), the goal's own loss. Adam
(Kingma and Ba, 2015) with decoupled decay (Loshchilov and Hutter, 2019), and a step that rises for a tenth of the
epochs and falls along a cosine to nothing. No validation value is watched, so that more rows train it alike.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from components.model_builder.families import Control, HopelessTrial
from components.model_builder.families.design import Design
from components.model_builder.families.linear import frame_of, loss_of
from components.model_builder.families.link import Linked
from components.model_builder.table import Array, Table, Task

if TYPE_CHECKING:
    import optuna

    from components.model_builder.onnx_export import Graph

ROWS_TO_SEE = 600_000
"""Rows times epochs of a fit: more epochs where there are few rows."""
MOST_CATEGORIES = 2_000
"""Categories of all inputs together; the rarest share the place of what was never seen."""
_FIRST_DECAY, _SECOND_DECAY, _TINY = 0.9, 0.99, 1e-8
"""Adam's memory of slopes and of their squares."""
_PRUNE_FROM = 0.5
"""Share of the epochs before which a fit says nothing of itself: the step is still too long."""


class Network(Linked):
    """Trained layers over a design, in the goal's unit (logits for a binary problem)."""

    def __init__(
        self, task: Task, design: Design, layers: list[tuple[Array, Array]], centre: float, scale: float
    ) -> None:
        super().__init__(task)
        self._design = design
        self._layers = layers
        self._centre = centre
        self._scale = scale

    @property
    def microseconds(self) -> float:
        """See ``Fitted.microseconds``."""
        return 12.0 + 1e-4 * self.size

    @property
    def size(self) -> int:
        """See ``Fitted.size``."""
        return sum(weight.nbytes + bias.nbytes for weight, bias in self._layers)

    def raw(self, table: Table) -> Array:
        """See ``Fitted.raw``."""
        dense, sparse = self._design.matrices(_without_texts(table))
        width = dense.shape[1]
        first, bias = self._layers[0]
        raw = dense @ first[:width] + sparse @ first[width:] + bias
        for weight, bias in self._layers[1:]:
            raw = (raw * expit(raw)) @ weight + bias
        return np.asarray(self._centre + self._scale * raw[:, 0].astype(np.float64))

    def draw_raw(self, graph: Graph) -> str:
        """See ``Fitted.draw_raw``."""
        first, bias = self._layers[0]
        width = self._design.numbers.columns
        parts = self._design.numbers.draw_product(graph, first[:width])
        if self._design.categories:
            parts.append(self._draw_categories(graph, first[width:]))
        total = graph.constant(bias)
        for part in parts:
            total = graph.op("Add", [part, total])
        for weight, bias in self._layers[1:]:
            bent = graph.op("Mul", [total, graph.op("Sigmoid", [total])])
            total = graph.op("Add", [graph.op("MatMul", [bent, graph.constant(weight)]), graph.constant(bias)])
        raw = graph.op("Reshape", [total, graph.constant(np.array([-1]))])
        if self._task.objective == "logistic":
            return raw
        scaled = graph.op("Mul", [raw, graph.constant(np.array(self._scale, dtype=np.float32))])
        return graph.op("Add", [scaled, graph.constant(np.array(self._centre, dtype=np.float32))])

    def _draw_categories(self, graph: Graph, weights: Array) -> str:
        # The last row, of zeros, is what a category without a column adds.
        codes = [{value: float(i) for value, i in known.items()} for known in self._design.categories]
        places = graph.op("Cast", [graph.coded(codes, default=float(len(weights)))], to=7)
        rows = graph.constant(np.vstack([weights, np.zeros((1, weights.shape[1]), dtype=np.float32)]))
        return graph.op("ReduceSum", [graph.op("Gather", [rows, places]), graph.constant(np.array([1]))], keepdims=0)


class Networks:
    """The family."""

    name = "network"
    varies = True

    def __init__(self, task: Task, train: Table, validation: Table, *, seed: int) -> None:
        self._task = task
        self._train = train
        self._validation = validation
        self._seed = seed

    @property
    def preparation(self) -> float:
        """See ``Family.preparation``."""
        return 0.0

    @property
    def default(self) -> Mapping[str, Any]:
        """Two layers, wide enough for most tables."""
        return {
            "width": 128, "layers": 2, "knots": 0, "min_count": 10, "epochs": self._epochs, "step": 4e-3,
            "decay": 0.4, "dropout": 0.0,
        }  # fmt: skip

    @property
    def _epochs(self) -> int:
        return int(np.clip(ROWS_TO_SEE / len(self._train), 4, 80))

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """See ``Family.suggest``."""
        return {
            "width": trial.suggest_int("width", 32, 192, log=True),
            "layers": trial.suggest_int("layers", 1, 4),
            "knots": trial.suggest_int("knots", 0, 3),
            "min_count": trial.suggest_int("min_count", 2, 50, log=True),
            "epochs": trial.suggest_int("epochs", max(2, self._epochs // 2), 2 * self._epochs),
            "step": trial.suggest_float("step", 1e-3, 2e-2, log=True),
            "decay": trial.suggest_float("decay", 0.02, 2.0, log=True),
            "dropout": trial.suggest_float("dropout", 0.0, 0.2),
        }

    def fit(self, params: Mapping[str, Any], control: Control) -> Network:
        """See ``Family.fit``."""
        return self._trained(params, self._train, self._seed, control, watch=True)

    def refit(self, params: Mapping[str, Any], fitted: Network, table: Table, seed: int, control: Control) -> Network:
        """See ``Family.refit``."""
        return self._trained(params, table, seed, control, watch=False)

    def _trained(self, params: Mapping[str, Any], table: Table, seed: int, control: Control, *, watch: bool) -> Network:
        rng, table = np.random.default_rng(seed), _without_texts(table)
        design = Design.of(
            table, knots=params["knots"], min_count=params["min_count"], pairs=False, most=MOST_CATEGORIES
        )
        dense, sparse = design.matrices(table)
        dense, sparse = dense.astype(np.float32), sparse.astype(np.float32)
        weight = table.weight / table.weight.sum()
        centre, scale = frame_of(table.goal, weight, self._task.objective)
        goal, weight = (table.goal - centre) / scale, weight * len(table)
        fit = _Fit(dense.shape[1] + sparse.shape[1], params, rng)
        size = _batch(len(table))
        epochs = params["epochs"]
        steps = epochs * math.ceil(len(table) / size)
        done = 0
        for epoch in range(epochs):
            order = rng.permutation(len(table))
            for start in range(0, len(table), size):
                if control.out_of_time():
                    return Network(self._task, design, fit.layers(), centre, scale)
                rows = order[start : start + size]
                answer = fit.forward(dense[rows], sparse[rows])
                _, slopes = loss_of(self._task.objective, goal[rows], answer.astype(np.float64))
                done += 1
                fit.backward((slopes * weight[rows] / len(rows)).astype(np.float32), _step(done / steps))
            if watch and epoch + 1 < epochs and epoch >= _PRUNE_FROM * epochs:
                network = Network(self._task, design, fit.layers(), centre, scale)
                value = self._validation.score(self._task, network.predict(self._validation))
                if control.hopeless(epoch, value if self._task.metric.direction == "minimize" else -value):
                    raise HopelessTrial
        return Network(self._task, design, fit.layers(), centre, scale)


def _without_texts(table: Table) -> Table:
    return replace(table, texts=table.texts[:, :0])


def _batch(rows: int) -> int:
    """Rows of a step: few enough for a hundred steps an epoch, many enough for the processor."""
    return int(np.clip(2 ** round(math.log2(max(rows, 1) / 60)), 32, 512))


def _step(share: float) -> float:
    """Of the longest step, at a share of all steps."""
    return min(share / 0.1, 1.0) * 0.5 * (1 + math.cos(math.pi * share))


class _Fit:
    """The layers while they are trained: one flat array of weights, so that a step is a few operations."""

    def __init__(self, inputs: int, params: Mapping[str, Any], rng: np.random.Generator) -> None:
        self._rng = rng
        self._longest, self._decay, self._dropout = params["step"], params["decay"], params["dropout"]
        sizes = [inputs, *[params["width"]] * params["layers"], 1]
        shapes = list(itertools.pairwise(sizes))
        total = sum(a * b + b for a, b in shapes)
        self._flat = np.zeros(total, dtype=np.float32)
        self._slopes = np.zeros(total, dtype=np.float32)
        self._mean, self._square = np.zeros(total, dtype=np.float32), np.zeros(total, dtype=np.float32)
        self._decayed = np.zeros(total, dtype=np.float32)
        self._count = 0
        self._weights, self._gradients = self._views(self._flat, shapes), self._views(self._slopes, shapes)
        decayed = self._views(self._decayed, shapes)
        for place, (weight, _) in enumerate(self._weights):
            # The answer begins at the centre.
            spread = 0.0 if place == len(shapes) - 1 else math.sqrt(2.0 / max(weight.shape[0], 1))
            weight[:] = rng.normal(0.0, 1.0, weight.shape) * spread
            decayed[place][0][:] = 1.0
        self._seen: list[Any] = []

    @staticmethod
    def _views(flat: Array, shapes: list[tuple[int, int]]) -> list[tuple[Array, Array]]:
        found, start = [], 0
        for a, b in shapes:
            found.append((flat[start : start + a * b].reshape(a, b), flat[start + a * b : start + a * b + b]))
            start += a * b + b
        return found

    def layers(self) -> list[tuple[Array, Array]]:
        """A copy of the weights as they are now."""
        return [(weight.copy(), bias.copy()) for weight, bias in self._weights]

    def forward(self, dense: Array, sparse: Any) -> Array:
        """Answers of a batch, in the goal's deviations."""
        width = dense.shape[1]
        first, bias = self._weights[0]
        raw = dense @ first[:width] + sparse @ first[width:] + bias
        self._seen = [(dense, sparse)]
        for weight, bias in self._weights[1:]:
            gate = 1 / (1 + np.exp(-np.clip(raw, -30, 30)))
            bent = raw * gate
            mask = None
            if self._dropout:
                mask = (self._rng.random(bent.shape, dtype=np.float32) >= self._dropout) / np.float32(1 - self._dropout)
                bent = bent * mask
            self._seen.append((raw, gate, bent, mask))
            raw = bent @ weight + bias
        return np.asarray(raw[:, 0])

    def backward(self, slopes: Array, share: float) -> None:
        """One step, by the slopes of the batch's loss by its answers."""
        delta = slopes[:, None]
        for (weight, _), (into, bias), seen in zip(
            self._weights[:0:-1], self._gradients[:0:-1], self._seen[:0:-1], strict=True
        ):
            raw, gate, bent, mask = seen
            into[:] = bent.T @ delta
            bias[:] = delta.sum(axis=0)
            delta = delta @ weight.T
            if mask is not None:
                delta = delta * mask
            delta = delta * (gate * (1 + raw * (1 - gate)))
        dense, sparse = self._seen[0]
        width = dense.shape[1]
        into, bias = self._gradients[0]
        into[:width] = dense.T @ delta
        into[width:] = sparse.T @ delta
        bias[:] = delta.sum(axis=0)
        self._count += 1
        self._mean += (1 - _FIRST_DECAY) * (self._slopes - self._mean)
        self._square += (1 - _SECOND_DECAY) * (self._slopes**2 - self._square)
        mean = self._mean / (1 - _FIRST_DECAY**self._count)
        square = self._square / (1 - _SECOND_DECAY**self._count)
        step = self._longest * share
        self._flat -= step * (mean / (np.sqrt(square) + _TINY) + self._decay * self._decayed * self._flat)
