"""An export that answers anything else than the trained model is refused, and nothing is packaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.model_builder.build import build
from components.model_builder.families import trees
from components.model_builder.families.boosting import BoostedTrees
from components.model_builder.families.linear import LinearModel
from components.model_builder.onnx_export import Graph
from components.model_builder.parity import with_odd_rows
from components.model_builder.table import read_tables
from ninefold.errors import ParityError

Make = Callable[..., Any]


def build_only(make: Make, monkeypatch: pytest.MonkeyPatch, family: str, kind: str = "regression") -> Any:
    """Builds with one family alone, so that its export is the one that is judged."""
    from components.model_builder import build as module

    data = make(kind, rows=800, validation_rows=400)
    every = module.families
    monkeypatch.setattr(module, "families", lambda *a, **k: [f for f in every(*a, **k) if f.name == family])
    return data, lambda: build(
        data.train, data.validation, max_training_time=60, models_url=data.models, trials=1, threads=1
    )


def refused(data: Any, run: Callable[[], Any]) -> None:
    with pytest.raises(ParityError, match="Nothing was packaged"):
        run()
    assert not Path(data.models).exists()


@pytest.mark.parametrize("family", ["boosting", "linear"])
def test_permuted_category_codes_are_refused(make: Make, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    data, run = build_only(make, monkeypatch, family)
    right = Graph.coded

    def permuted(self: Graph, codes: Any, *, default: float) -> str:
        wrong = [dict(zip(table, np.roll(list(table.values()), 1), strict=True)) for table in codes]
        return right(self, wrong, default=default)

    monkeypatch.setattr(Graph, "coded", permuted)
    refused(data, run)


def test_an_unseen_category_that_gets_a_code_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the rows that the gate makes up can see this: every category of validation was seen in training."""
    data, run = build_only(make, monkeypatch, "boosting")
    right = Graph.coded
    monkeypatch.setattr(Graph, "coded", lambda self, codes, *, default: right(self, codes, default=1.0))
    refused(data, run)


def test_nan_on_the_wrong_side_of_a_split_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data, run = build_only(make, monkeypatch, "boosting")
    right = BoostedTrees.draw

    def flipped(self: BoostedTrees, graph: Graph) -> str:
        output = right(self, graph)
        node = next(node for node in graph._nodes if node.op_type == "TreeEnsemble")
        sides = next(a for a in node.attribute if a.name == "nodes_missing_value_tracks_true")
        sides.ints[:] = [1 - side for side in sides.ints]
        return output

    monkeypatch.setattr(BoostedTrees, "draw", flipped)
    refused(data, run)


def test_a_forgotten_offset_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from components.model_builder import build as module

    data, run = build_only(make, monkeypatch, "boosting")

    def without_offset(task: Any, fitted: Any, interval: Any) -> bytes:
        graph = Graph(task)
        return graph.finish(fitted.draw(graph))

    monkeypatch.setattr(module, "to_onnx", without_offset)
    refused(data, run)


def test_a_fault_of_a_thousandth_of_the_deviation_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data, run = build_only(make, monkeypatch, "linear")
    right = LinearModel.draw
    # The truth's deviation is about 33 min.
    monkeypatch.setattr(
        LinearModel,
        "draw",
        lambda self, graph: graph.op("Add", [right(self, graph), graph.constant(np.array([0.03], dtype=np.float32))]),
    )
    refused(data, run)


@pytest.mark.parametrize("threshold", [0.1, 1e300, -1e300, 1.0, 1e-45, 16777217.0, -0.1, 1.0000000180025095e-35])
def test_a_float32_threshold_divides_float32_values_as_the_double_did(threshold: float) -> None:
    below = trees.float32_below(threshold)
    with np.errstate(over="ignore", under="ignore"):
        around = [below, np.nextafter(below, np.float32(np.inf)), np.nextafter(below, np.float32(-np.inf))]
    for x in [*around, np.float32(0), np.float32(np.inf), np.float32(-np.inf)]:
        assert (float(x) <= threshold) == bool(np.float32(x) <= below)


def test_the_gate_looks_at_nulls_and_unseen_values_of_every_input(make: Make) -> None:
    data = make("regression", rows=300, validation_rows=200)
    task, _, _, validation = read_tables(data.train, data.validation, None)
    table = with_odd_rows(task, validation)
    extra = table.rows(np.arange(len(validation), len(table)))
    assert np.isnan(extra.numbers).any(axis=0).all()
    assert (extra.categories == "").any(axis=0).all()
    seen = set(validation.categories.ravel())
    assert all(any(value not in seen for value in column) for column in extra.categories.T)
    assert len(validation) == 200
    np.testing.assert_array_equal(np.isnan(extra.offset), np.isnan(extra.numbers[:, 0]))
