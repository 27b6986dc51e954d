"""Probabilities that come true as often as they say: a last step inside of the graph, where validation shows a need.

Two curves compete with none: Platt's (1999), a line through the logits, and an isotonic one (Zadrozny and Elkan, 2002),
pooled over bins of equal count and drawn through the pools' means, so that it rises where the model's answer does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy import optimize
from scipy.special import expit

from components.model_builder.families import Fitted
from components.model_builder.table import Array, Table, Task
from ninefold.metrics import compute

if TYPE_CHECKING:
    from components.model_builder.onnx_export import Graph

FEWEST_ROWS = 500
"""Validation rows below which no curve is drawn."""
FOLDS = 5
BINS = 40
_APART = 0.01
"""Least distance of two of an isotonic curve's points, so that it magnifies no rounding."""
_ERRORS = 2.0
"""Standard errors by which a curve has to better the log loss."""


class Curve(Protocol):
    """From a model's probability to a calibrated one."""

    def apply(self, raw: Array) -> Array:
        """Probabilities of logits, float64 [rows]."""
        ...

    def draw(self, graph: Graph, raw: str) -> str:
        """Adds the curve to a graph: from the name of logits, float32 [N], to the name of probabilities."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Platt:
    """Slope and shift of the logits."""

    slope: float
    shift: float

    @classmethod
    def of(cls, raw: Array, truth: Array, weight: Array) -> Platt:
        """The line of least log loss."""

        def loss(x: Array) -> tuple[float, Array]:
            found = x[0] * raw + x[1]
            slopes = weight * (expit(found) - truth)
            value = float(weight @ (np.logaddexp(0.0, found) - truth * found))
            return value, np.array([slopes @ raw, slopes.sum()])

        # A line that falls would turn the model's order around.
        found = optimize.minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0.05, 20), (-9, 9)])
        return cls(slope=float(found.x[0]), shift=float(found.x[1]))

    def apply(self, raw: Array) -> Array:
        """See ``Curve.apply``."""
        return np.asarray(expit(self.slope * raw + self.shift))

    def draw(self, graph: Graph, raw: str) -> str:
        """See ``Curve.draw``."""

        def number(value: float) -> str:
            return graph.constant(np.array(value, dtype=np.float32))

        line = graph.op("Add", [graph.op("Mul", [raw, number(self.slope)]), number(self.shift)])
        return graph.op("Sigmoid", [line])


@dataclass(frozen=True, slots=True, kw_only=True)
class Isotonic:
    """Points of a line that never falls; flat beyond its ends."""

    points: tuple[float, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, raw: Array, truth: Array, weight: Array) -> Isotonic:
        """Pools neighbouring bins until none is below the one before (Ayer et al., 1955)."""
        probability = expit(raw)
        order = np.argsort(probability, kind="stable")
        pools: list[tuple[float, float, float]] = []
        for rows in np.array_split(order, min(BINS, max(len(order) // 50, 1))):
            mass = float(weight[rows].sum())
            if not mass:
                continue
            pool = (mass, float(weight[rows] @ probability[rows]), float(weight[rows] @ truth[rows]))
            while pools and (
                pools[-1][2] / pools[-1][0] >= pool[2] / pool[0]
                or pool[1] / pool[0] - pools[-1][1] / pools[-1][0] < _APART
            ):
                before = pools.pop()
                pool = (pool[0] + before[0], pool[1] + before[1], pool[2] + before[2])
            pools.append(pool)
        return cls(
            points=tuple(np.float32(p[1] / p[0]).item() for p in pools),
            values=tuple(np.float32(p[2] / p[0]).item() for p in pools),
        )

    def apply(self, raw: Array) -> Array:
        """See ``Curve.apply``."""
        return np.interp(expit(raw), self.points, self.values)

    def draw(self, graph: Graph, raw: str) -> str:
        """See ``Curve.draw``."""
        probability = graph.op("Sigmoid", [raw])
        single = np.float32
        points, values = np.array(self.points), np.array(self.values)
        if len(points) == 1:
            nothing = graph.op("Mul", [probability, graph.constant(np.array(0, dtype=single))])
            return graph.op("Add", [nothing, graph.constant(values[0].astype(single))])
        apart = graph.op("Unsqueeze", [probability, graph.constant(np.array([1]))])
        from_low = graph.op("Max", [apart, graph.constant(points[:-1].astype(single))])
        within = graph.op("Min", [from_low, graph.constant(points[1:].astype(single))])
        climbed = graph.op("Sub", [within, graph.constant(points[:-1].astype(single))])
        slopes = graph.constant((np.diff(values) / np.diff(points)).astype(single))
        return graph.op("Add", [graph.op("MatMul", [climbed, slopes]), graph.constant(values[0].astype(single))])


class Calibrated:
    """A model with a curve behind it."""

    def __init__(self, fitted: Fitted, curve: Curve) -> None:
        self._fitted = fitted
        self._curve = curve

    @property
    def parts(self) -> tuple[Fitted, Curve]:
        """The model and the curve."""
        return self._fitted, self._curve

    def predict(self, table: Table) -> Array:
        """See ``Fitted.predict``."""
        return self._curve.apply(self._fitted.raw(table))

    def draw(self, graph: Graph) -> str:
        """See ``Fitted.draw``."""
        return self._curve.draw(graph, self._fitted.draw_raw(graph))


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was found.

    Args:
        kind: ``platt`` or ``isotonic``; None where the model's own probabilities are as good.
        before: Log loss on the validation set of the model's own probabilities.
        after: Log loss of calibrated ones, each row by a curve that did not see it; of the best curve, used or not.
    """

    kind: str | None
    before: float
    after: float

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


_KINDS: dict[str, Callable[[Array, Array, Array], Curve]] = {"platt": Platt.of, "isotonic": Isotonic.of}


def calibration(task: Task, validation: Table, raw: Array, *, seed: int) -> tuple[Calibration | None, Curve | None]:
    """Whether a curve makes the probabilities better, and which.

    A curve is taken when, fitted on four fifths of the validation set and judged on the fifth, it lowers the log loss
    by more than two standard errors, and does not make the task's own metric worse.

    Args:
        task: A binary task; for others, and for few rows, there is nothing to find.
        validation: The validation set.
        raw: float64 [rows], logits of models that were not trained on it.
        seed: Of the folds.
    """
    if task.objective != "logistic" or len(validation) < FEWEST_ROWS:
        return None, None
    truth, weight = validation.truth, validation.weight
    folds = np.random.default_rng(seed).permutation(len(validation)) % FOLDS
    before = _losses(expit(raw), truth)
    found: dict[str, Array] = {}
    for kind, fit in _KINDS.items():
        judged = np.empty(len(truth))
        for fold in range(FOLDS):
            inside, outside = folds != fold, folds == fold
            curve = fit(raw[inside], truth[inside], weight[inside])
            judged[outside] = curve.apply(raw[outside])
        found[kind] = _losses(judged, truth)
    means = {kind: float(np.average(losses, weights=weight)) for kind, losses in found.items()}
    best = min(means, key=lambda kind: means[kind])
    gain = before - found[best]
    share = weight / weight.sum()
    mean = float(share @ gain)
    error = float(np.sqrt(share**2 @ (gain - mean) ** 2))
    chosen = _KINDS[best](raw, truth, weight)
    own = compute(task.metric.name, truth, expit(raw), weight)
    kept = mean > _ERRORS * error and not task.metric.better(
        own, compute(task.metric.name, truth, chosen.apply(raw), weight)
    )
    told = Calibration(kind=best if kept else None, before=float(share @ before), after=means[best])
    return told, chosen if kept else None


def _losses(probability: Array, truth: Array) -> Array:
    cut = np.clip(probability, 1e-7, 1 - 1e-7)
    return np.asarray(-(truth * np.log(cut) + (1 - truth) * np.log1p(-cut)))
