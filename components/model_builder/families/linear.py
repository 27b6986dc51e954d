"""Linear models: the metric's own loss over scaled and bent numbers, categories and words, with a ridge penalty.

One minimiser for all losses (L-BFGS, Nocedal 1980): squares, absolute errors rounded off near zero (Huber 1964), and
the logistic loss. It stops when time is over and keeps what it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize
from scipy.special import expit

from components.model_builder.families import Control
from components.model_builder.families.design import Design
from components.model_builder.families.link import Linked
from components.model_builder.table import Array, Objective, Table, Task

if TYPE_CHECKING:
    import optuna

    from components.model_builder.onnx_export import Graph

MAX_ITERATIONS = 200
TOLERANCE = 1e-6
"""Share of the loss by which an iteration has to improve it."""
_ROUNDED = 0.02
"""Absolute errors below this share of the goal's deviation are rounded off, so that the loss has a slope everywhere."""


class LinearModel(Linked):
    """Coefficients over a design, in the goal's unit (logits for a binary problem)."""

    def __init__(self, task: Task, design: Design, intercept: float, dense: Array, sparse: Array) -> None:
        super().__init__(task)
        self._design = design
        self._intercept = intercept
        self._dense = dense
        self._sparse = sparse

    @property
    def parts(self) -> tuple[Design, float, Array, Array]:
        """Design, intercept, and the coefficients of its dense and of its sparse columns."""
        return self._design, self._intercept, self._dense, self._sparse

    @property
    def microseconds(self) -> float:
        """See ``Fitted.microseconds``."""
        return 8.0 + sum(20.0 + 0.002 * len(words.places) for words in self._design.words)

    @property
    def size(self) -> int:
        """See ``Fitted.size``."""
        # A word's entry in its dictionary is much more than its coefficient.
        return self._dense.nbytes + 200 * len(self._sparse)

    def raw(self, table: Table) -> Array:
        """See ``Fitted.raw``."""
        dense, sparse = self._design.matrices(table)
        return np.asarray(dense @ self._dense + sparse @ self._sparse + self._intercept)

    def draw_raw(self, graph: Graph) -> str:
        """See ``Fitted.draw_raw``."""
        parts = [
            *self._design.numbers.draw_product(graph, self._dense),
            *self._draw_categories(graph),
            *self._draw_words(graph),
        ]
        total = graph.constant(np.array([self._intercept], dtype=np.float32))
        for part in parts:
            total = graph.op("Add", [part, total])
        return total

    def _draw_categories(self, graph: Graph) -> list[str]:
        if not self._design.categories:
            return []
        # One-hot columns times coefficients is a look-up of the coefficient.
        tables = [{value: self._sparse[i] for value, i in known.items()} for known in self._design.categories]
        found = graph.coded(tables, default=0.0)
        return [graph.op("ReduceSum", [found, graph.constant(np.array([1]))], keepdims=0)]

    def _draw_words(self, graph: Graph) -> list[str]:
        parts, start = [], sum(map(len, self._design.categories))
        for place, words in enumerate(self._design.words):
            stop = start + len(words.places)
            parts.append(words.draw(graph, graph.column("text", place), self._sparse[start:stop]))
            start = stop
        return parts


class Linear:
    """The family."""

    name = "linear"
    varies = False

    def __init__(self, task: Task, train: Table) -> None:
        self._task = task
        self._train = train

    @property
    def preparation(self) -> float:
        """See ``Family.preparation``."""
        return 0.0

    @property
    def default(self) -> Mapping[str, Any]:
        """Two bends a number, a light penalty."""
        return self._params(alpha=1e-4, knots=2, min_count=2 if self._task.names("text") else 10, pairs=True)

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """See ``Family.suggest``."""
        return self._params(
            alpha=trial.suggest_float("alpha", 1e-7, 1e-1, log=True),
            knots=trial.suggest_int("knots", 0, 6) if self._task.names("number") else 0,
            min_count=trial.suggest_int("min_count", 1, 50, log=True),
            pairs=trial.suggest_categorical("pairs", [False, True]) if self._task.names("text") else False,
        )

    def _params(self, *, alpha: float, knots: int, min_count: int, pairs: bool) -> dict[str, Any]:
        params: dict[str, Any] = {"alpha": alpha, "min_count": min_count}
        if self._task.names("number"):
            params["knots"] = knots
        if self._task.names("text"):
            params["pairs"] = pairs
        return params

    def fit(self, params: Mapping[str, Any], control: Control) -> LinearModel:
        """See ``Family.fit``."""
        return self._trained(params, self._train, control)

    def refit(
        self, params: Mapping[str, Any], fitted: LinearModel, table: Table, seed: int, control: Control
    ) -> LinearModel:
        """See ``Family.refit``."""
        return self._trained(params, table, control)

    def _trained(self, params: Mapping[str, Any], table: Table, control: Control) -> LinearModel:
        design = Design.of(
            table, knots=params.get("knots", 0), min_count=params["min_count"], pairs=params.get("pairs", False)
        )
        dense, sparse = design.matrices(table)
        dense = np.hstack([np.ones((len(dense), 1)), dense])
        goal, weight = table.goal, table.weight / table.weight.sum()
        objective = self._task.objective
        centre, scale = frame_of(goal, weight, objective)
        goal = (goal - centre) / scale
        width = dense.shape[1]
        # The intercept is not held small.
        penalty = np.full(width + sparse.shape[1], params["alpha"])
        penalty[0] = 0.0
        rotate, stretch = _conditioning(dense, sparse, weight, penalty)
        transposed = sparse.T.tocsr()

        def coefficients(u: Array) -> Array:
            return np.concatenate([rotate @ u[:width], stretch * u[width:]])

        def loss(u: Array) -> tuple[float, Array]:
            x = coefficients(u)
            losses, slopes = loss_of(objective, goal, dense @ x[:width] + sparse @ x[width:])
            slopes = slopes * weight
            gradient = np.concatenate([dense.T @ slopes, transposed @ slopes]) + penalty * x
            value = float(losses @ weight + (penalty * x) @ x / 2)
            return value, np.concatenate([rotate.T @ gradient[:width], stretch * gradient[width:]])

        def after_each(_: Array) -> None:
            if control.out_of_time():
                raise StopIteration

        found = optimize.minimize(
            loss, np.zeros(len(penalty)), jac=True, method="L-BFGS-B", callback=after_each,
            options={"maxiter": MAX_ITERATIONS, "maxcor": 20, "ftol": TOLERANCE, "gtol": 1e-9},
        ).x  # fmt: skip
        x = scale * coefficients(found)
        return LinearModel(self._task, design, centre + x[0], x[1:width], x[width:])


def _conditioning(dense: Array, sparse: Any, weight: Array, penalty: Array) -> tuple[Array, Array]:
    """A change of variables under which the loss is about as steep in every direction: a fifth of the iterations.

    Returns:
        Matrix for the dense columns, by the Cholesky factor of their second moments; factors for the sparse columns.
    """
    width = dense.shape[1]
    moments = dense.T @ (dense * weight[:, None]) + np.diag(penalty[:width]) + 1e-8 * np.eye(width)
    rotate = np.linalg.inv(np.linalg.cholesky(moments)).T
    squares = np.asarray(sparse.multiply(sparse).T @ weight).ravel()
    return rotate, 1.0 / np.sqrt(squares + penalty[width:])


def frame_of(goal: Array, weight: Array, objective: Objective) -> tuple[float, float]:
    """The goal's centre and scale, so that one penalty means the same for every unit."""
    if objective == "logistic":
        return 0.0, 1.0
    mean = float(goal @ weight)
    deviation = float(np.sqrt(((goal - mean) ** 2) @ weight))
    return (float(np.median(goal)) if objective == "absolute" else mean), deviation or 1.0


def loss_of(objective: Objective, goal: Array, raw: Array) -> tuple[Array, Array]:
    """Each row's loss and its slope by ``raw``."""
    if objective == "logistic":
        return np.logaddexp(0.0, raw) - goal * raw, expit(raw) - goal
    error = raw - goal
    if objective == "squared":
        return error**2 / 2, error
    near = np.abs(error) <= _ROUNDED
    return np.where(near, error**2 / (2 * _ROUNDED), np.abs(error) - _ROUNDED / 2), np.clip(error / _ROUNDED, -1, 1)
