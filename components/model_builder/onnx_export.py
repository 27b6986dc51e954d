"""One ONNX graph from a fitted model: typed inputs in, ``prediction`` out.

The graph holds everything between the inputs and the answer: category codes, nulls, scaling, the model, the offset. So
a server needs no Python of the model builder's, and nothing can be encoded one way here and another way there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from components.model_builder.families import Answer
from components.model_builder.table import Array, Task
from ninefold.errors import PackageError
from ninefold.package import BOUNDED, TENSORS

if TYPE_CHECKING:
    from components.model_builder.interval import FittedInterval

OPSET = 20
"""Of the ONNX operators; the first with ``StringConcat``."""
ML_OPSET = 5
"""Of the ``ai.onnx.ml`` operators; the first with ``TreeEnsemble`` and its set membership."""
IR_VERSION = 10

_SEPARATOR = "\x1f"


class Graph:
    """A graph under construction.

    Args:
        task: Whose inputs it takes.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._domains = {"": OPSET, "ai.onnx.ml": ML_OPSET}
        self._known: dict[bytes, str] = {}

    def op(self, kind: str, inputs: Sequence[str], *, domain: str = "", **attributes: Any) -> str:
        """Adds an operator with one output, and returns the output's name; the same operator twice is one."""
        from onnx import helper

        node = helper.make_node(kind, list(inputs), [], domain=domain, **attributes)
        name = self._known.setdefault(node.SerializeToString(deterministic=True), f"v{len(self._nodes)}")
        if name == f"v{len(self._nodes)}":
            node.output.append(name)
            self._nodes.append(node)
            self._domains.setdefault(domain, 1)
        return name

    def constant(self, values: Array | Sequence[Any]) -> str:
        """Adds a constant tensor, and returns its name; the same values twice are one."""
        from onnx import numpy_helper

        tensor = numpy_helper.from_array(np.asarray(values))
        name = self._known.setdefault(tensor.SerializeToString(deterministic=True), f"c{len(self._constants)}")
        if name == f"c{len(self._constants)}":
            tensor.name = name
            self._constants.append(tensor)
        return name

    def takes(self, kind: str) -> bool:
        """Whether there are inputs of a kind."""
        return bool(self._task.names(kind))

    def column(self, kind: str, place: int) -> str:
        """One input column, [N]."""
        return self.op("Gather", [TENSORS[kind][0], self.constant(np.array(place))], axis=1)

    def coded(self, codes: Sequence[Mapping[str, float]], *, default: float) -> str:
        """All category columns at once through one look-up: float32 [N, categories].

        Args:
            codes: For each category input, category → number.
            default: The number of a category that is not there.
        """
        # One operator for all columns, with the column's place before each value, costs a third of one per column.
        prefixes = [f"{place}{_SEPARATOR}" for place in range(len(codes))]
        marked = self.op("StringConcat", [self.constant(np.array(prefixes, dtype=object)), TENSORS["category"][0]])
        keys = [prefix + key for prefix, table in zip(prefixes, codes, strict=True) for key in table]
        values = [float(value) for table in codes for value in table.values()]
        if not keys:
            # The operator refuses an empty table.
            keys, values = [_SEPARATOR], [default]
        return self.op(
            "LabelEncoder", [marked], domain="ai.onnx.ml",
            keys_strings=keys, values_floats=values, default_float=default,
        )  # fmt: skip

    def finish(self, output: str, bounds: Sequence[str] = ()) -> bytes:
        """The graph with its outputs, checked and serialized.

        Args:
            output: Name of the prediction.
            bounds: Names of its lower and its upper bound; none for a prediction alone.
        """
        import onnx
        from onnx import TensorProto, helper

        takes = [
            helper.make_tensor_value_info(
                name, TensorProto.FLOAT if kind == "number" else TensorProto.STRING, ["N", len(self._task.names(kind))]
            )
            for kind, (name, _) in TENSORS.items()
            if self._task.names(kind)
        ]
        # Renamed, not copied by one more operator: each costs the better part of a microsecond a request.
        names = dict(zip((output, *bounds), BOUNDED, strict=False))
        for node in self._nodes:
            for places in (node.input, node.output):
                for place, name in enumerate(places):
                    places[place] = names.get(name, name)
        model = helper.make_model(
            helper.make_graph(
                self._nodes, "ninefold", takes,
                [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in names.values()],
                self._constants,
            ),
            opset_imports=[helper.make_opsetid(domain, version) for domain, version in self._domains.items()],
            ir_version=IR_VERSION,
            producer_name="ninefold",
        )  # fmt: skip
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            raise PackageError(f"The exported graph is no valid ONNX: {error}.") from error
        return bytes(model.SerializeToString())


def to_onnx(task: Task, fitted: Answer, interval: FittedInterval | None = None) -> bytes:
    """Exports a model and its interval, with the offset added inside of the graph.

    Raises:
        PackageError: The graph is not valid.
    """
    graph = Graph(task)
    output, offset = fitted.draw(graph), None
    if task.offset is not None:
        offset = graph.column("number", task.names("number").index(task.offset))
        output = graph.op("Add", [output, offset])
    return graph.finish(output, () if interval is None else interval.draw(graph, output, offset))
