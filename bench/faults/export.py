"""A model whose export predicts something else: scikit-learn's boosting with native categories, through skl2onnx."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np

from bench.faults.flights import Flights, mae
from bench.faults.row import Fault
from components.model_builder.families.boosting import encoded, vocabularies
from components.model_builder.parity import check_parity
from components.model_builder.table import Array, Table, Task, read_tables
from ninefold.errors import ParityError
from ninefold.fields import Input
from ninefold.package import OUTPUT, OnnxPredictor
from ninefold.signature import PackageManifest

ROWS = 30_000
ITERATIONS = 40
LARGEST = 250
"""Categories of a column; scikit-learn takes 255."""


class Histogram:
    """scikit-learn's histogram boosting as the model builder's ``Fitted``: all inputs are numbers, categories coded."""

    def __init__(self, numbers: Array, goal: Array, categories: list[int]) -> None:
        from sklearn.ensemble import HistGradientBoostingRegressor

        self._model = HistGradientBoostingRegressor(
            loss="absolute_error", max_iter=ITERATIONS, categorical_features=categories, random_state=0,
            early_stopping=False,
        )  # fmt: skip
        self._model.fit(numbers, goal)
        self._width = numbers.shape[1]

    def predict(self, table: Table) -> Array:
        """See ``Fitted.predict``."""
        return np.asarray(self._model.predict(table.numbers.astype(np.float64)))

    def draw(self, graph: Any) -> str:
        """It is drawn by skl2onnx, whole."""
        raise NotImplementedError

    def to_onnx(self, offset: int) -> bytes:
        """What skl2onnx makes of it, with the offset added and under the names that a package has."""
        from onnx import helper, numpy_helper
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import FloatTensorType

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = convert_sklearn(self._model, initial_types=[("numbers", FloatTensorType([None, self._width]))])
        graph = model.graph
        raw = graph.output[0].name
        graph.initializer.append(numpy_helper.from_array(np.array([-1]), "flat"))
        graph.initializer.append(numpy_helper.from_array(np.array(offset), "place"))
        graph.node.append(helper.make_node("Reshape", [raw, "flat"], ["gain"]))
        graph.node.append(helper.make_node("Gather", ["numbers", "place"], ["offset"], axis=1))
        graph.node.append(helper.make_node("Add", ["gain", "offset"], [OUTPUT]))
        del graph.output[:]
        graph.output.append(helper.make_tensor_value_info(OUTPUT, 1, ["N"]))
        return bytes(model.SerializeToString())


def wrong_export(flights: Flights) -> Fault:
    """Trains it, converts it without an error, and holds it to the gate of every export."""
    honest = flights.honest
    sets = flights.settings.home / "sets"
    flights.test_set("honest", flights.july, flights.card)
    learned = str(sets / "honest-training.parquet")
    task, _, training, validation = read_tables(learned, str(sets / "honest-validation.parquet"), None)
    _, _, _, july = read_tables(learned, str(sets / "honest-test.parquet"), None)
    coded, train, check, test = _coded(task, training, validation, july)
    width = len(coded.inputs)
    fitted = Histogram(train.numbers, train.goal, list(range(width - len(task.names("category")), width)))
    manifest = PackageManifest(format="onnx", signature=coded.signature, statistics={})
    graph = fitted.to_onnx(coded.names("number").index(str(coded.offset)))
    served = OnnxPredictor(manifest, graph).predict_columns(test.columns(coded))
    try:
        check_parity(coded, fitted, manifest, graph, check)
    except ParityError as error:
        caught, words = True, error.message.partition(", for {")[0] + "."
    else:
        caught, words = False, "It passed."
    parity = honest.manifest.training["parity"]
    return Fault(
        name="scikit-learn's boosting with native categories, exported by skl2onnx, which is wrong without an error",
        kind="gate", check="parity of the export", caught=caught, words=words,
        twin_passes=parity["error"] <= parity["tolerance"],
        twin=f"LightGBM with native categories differs by {parity['error']:.1g} min at most; "
        f"{parity['tolerance']:.1g} are allowed ({parity['rows']:,} rows).",
        offline=mae(test.truth, fitted.predict(test) + test.offset), online=mae(test.truth, served),
    )  # fmt: skip


def _coded(task: Task, training: Table, validation: Table, test: Table) -> tuple[Task, Table, Table, Table]:
    """The same task with categories as codes from 0 on: what scikit-learn takes."""
    codes = vocabularies(training.categories)
    names = [*task.names("number"), *task.names("category")]
    signature = dataclasses.replace(task.signature, inputs=tuple(Input(name=name) for name in names))
    chosen = np.random.default_rng(0).choice(len(training), ROWS, replace=False)

    def table(of: Table) -> Table:
        numbers = encoded(of, codes).astype(np.float32)
        first = len(task.names("number"))
        numbers[:, first:] = np.minimum(numbers[:, first:] - 1.0, LARGEST)
        return dataclasses.replace(of, numbers=numbers, categories=np.empty((len(of), 0), dtype=object))

    coded = dataclasses.replace(task, signature=signature)
    return coded, table(training.rows(chosen)), table(validation), table(test)
