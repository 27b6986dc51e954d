"""Probabilities are calibrated where validation shows that it helps, inside of the graph, and left alone elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from components.model_builder.calibration import Calibrated, Isotonic, Platt, calibration
from components.model_builder.onnx_export import Graph
from components.model_builder.table import Table, Task
from ninefold.fields import Input, Metric
from ninefold.signature import Signature

SIGNATURE = Signature(
    use_case="x", problem="binary", inputs=(Input(name="p"),), views=(), derive_digest="", target="y"
)  # fmt: skip
TASK = Task(signature=SIGNATURE, metric=Metric(name="auc", direction="maximize"), offset=None)


class Given:
    """A model whose answer is its input."""

    microseconds, size = 1.0, 8

    def predict(self, table: Table) -> np.ndarray:
        return table.numbers[:, 0].astype(np.float64)

    def raw(self, table: Table) -> np.ndarray:
        return logit(self.predict(table))

    def draw(self, graph: Graph) -> str:
        return graph.column("number", 0)

    def draw_raw(self, graph: Graph) -> str:
        given, one = graph.column("number", 0), graph.constant(np.array(1, dtype=np.float32))
        return graph.op("Log", [graph.op("Div", [given, graph.op("Sub", [one, given])])])


def table(probability: np.ndarray, truth: np.ndarray) -> Table:
    rows = len(probability)
    return Table(
        numbers=probability.astype(np.float32)[:, None], categories=np.empty((rows, 0), dtype=object),
        texts=np.empty((rows, 0), dtype=object), truth=truth, offset=np.zeros(rows), weight=np.ones(rows),
        baseline=np.zeros(rows), left_out={},
    )  # fmt: skip


def sample(rows: int, told: Callable[[np.ndarray], np.ndarray], seed: int = 0) -> SimpleNamespace:
    """Truths of known chances, and what a model says of them."""
    rng = np.random.default_rng(seed)
    chance = expit(rng.normal(0, 1.5, rows))
    truth = (rng.random(rows) < chance).astype(float)
    probability = np.clip(told(chance), 1e-6, 1 - 1e-6)
    return SimpleNamespace(chance=chance, truth=truth, probability=probability, table=table(probability, truth))


def test_probabilities_that_are_right_are_left_alone() -> None:
    right = sample(4000, lambda chance: chance)
    told, curve = calibration(TASK, right.table, logit(right.probability), seed=0)
    assert curve is None
    assert told is not None
    assert told.kind is None
    assert told.after > told.before - 0.001


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("too sure", lambda chance: expit(3 * logit(chance))),
        ("too low", lambda chance: expit(logit(chance) - 1.5)),
        ("bent", lambda chance: np.where(chance < 0.5, 0.5 * chance, 0.25 + 0.75 * np.abs(chance - 0.5) ** 0.3)),
    ],
)
def test_probabilities_that_are_wrong_are_mended(name: str, told: Callable[[np.ndarray], np.ndarray]) -> None:
    wrong, later = sample(4000, told), sample(20_000, told, seed=1)
    found, curve = calibration(TASK, wrong.table, logit(wrong.probability), seed=0)
    assert curve is not None, name
    assert found is not None
    assert found.kind in ("platt", "isotonic")
    assert found.after < found.before
    mended = curve.apply(logit(later.probability))
    assert np.abs(mended - later.chance).mean() < 0.5 * np.abs(later.probability - later.chance).mean()


def test_few_rows_and_other_problems_have_no_curve() -> None:
    few = sample(300, lambda chance: expit(3 * logit(chance)))
    assert calibration(TASK, few.table, logit(few.probability), seed=0) == (None, None)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([Platt, Isotonic]), st.floats(0.2, 4.0), st.integers(20, 3000))
def test_a_curve_rises_and_the_graph_draws_it(seed: int, kind: Any, steepness: float, rows: int) -> None:
    drawn = sample(rows, lambda chance: expit(steepness * logit(chance)), seed)
    curve = kind.of(logit(drawn.probability), drawn.truth, np.ones(rows))
    probability = np.concatenate([drawn.probability, np.linspace(0.01, 0.99, 99)]).astype(np.float32)
    rows_of = table(probability, np.zeros(len(probability)))
    model = Calibrated(Given(), curve)
    expected = model.predict(rows_of)
    assert np.all(np.diff(expected[np.argsort(probability)]) >= -1e-12)
    assert expected.min() >= 0
    assert expected.max() <= 1
    graph = Graph(TASK)
    found = ort.InferenceSession(graph.finish(model.draw(graph))).run(None, {"numbers": probability[:, None]})[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
