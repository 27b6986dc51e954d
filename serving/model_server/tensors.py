"""The v2 protocol's tensors as columns and back: one tensor an input, by the signature's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from kserve import InferRequest, InferResponse
from kserve.protocol.infer_type import InferInput, InferOutput

from ninefold.errors import InvalidInput, TooLarge
from ninefold.fields import Columns, Input

_NUMBERS = frozenset({"BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP32", "FP64"})


def input_types(inputs: Sequence[Input]) -> list[dict[str, Any]]:
    """The inputs as v2 metadata: one tensor of shape [N] each."""
    return [{"name": i.name, "datatype": "FP32" if i.kind == "number" else "BYTES", "shape": [-1]} for i in inputs]


def output_types(outputs: Sequence[str]) -> list[dict[str, Any]]:
    """The outputs as v2 metadata: one tensor of shape [N] each."""
    return [{"name": name, "datatype": "FP32", "shape": [-1]} for name in outputs]


def columns(inputs: Sequence[Input], request: InferRequest, max_instances: int) -> Columns:
    """The tensors of a request as columns; NaN in a number and an empty string stand for null.

    Raises:
        InvalidInput: A tensor is missing, unknown, of another datatype, or of another length than its siblings.
        TooLarge: More rows than one request may hold.
    """
    tensors = {tensor.name: tensor for tensor in request.inputs}
    unknown = sorted(set(tensors) - {i.name for i in inputs})
    if unknown:
        raise InvalidInput(
            f"inputs.{unknown[0]}", "is not an input.", remedy=f"The inputs are {', '.join(i.name for i in inputs)}."
        )
    found: dict[str, Any] = {}
    rows: int | None = None
    for declared in inputs:
        if declared.name not in tensors:
            raise InvalidInput(f"inputs.{declared.name}", "is missing.", remedy="Send one tensor for every input.")
        column = _column(declared, tensors[declared.name])
        if rows is not None and len(column) != rows:
            raise InvalidInput(f"inputs.{declared.name}", f"has {len(column)} rows; the inputs before have {rows}.")
        rows = len(column)
        found[declared.name] = column
    if not rows:
        raise InvalidInput("inputs", "are empty.", remedy="Send at least one row.")
    if rows > max_instances:
        raise TooLarge(f"inputs: {rows:,} rows are over the bound of {max_instances:,}.")
    return found


def _column(declared: Input, tensor: InferInput) -> Any:
    where = f"inputs.{declared.name}"
    shape = list(tensor.shape)
    if not shape or len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
        raise InvalidInput(where, f"has shape {shape}.", remedy="Send [N] or [N, 1].")
    number = declared.kind == "number"
    if (tensor.datatype in _NUMBERS) is not number or (not number and tensor.datatype != "BYTES"):
        raise InvalidInput(
            where, f"has datatype {tensor.datatype}.", remedy=f"Send {'FP32 or FP64' if number else 'BYTES'}."
        )
    try:
        values = tensor.as_numpy().reshape(-1)
        if number:
            return values.astype(np.float64)
        return np.array([_text(v) or None for v in values], dtype=object)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(where, f"does not hold what its datatype and shape say: {error}.") from error


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is no string")
    # Half of a surrogate pair is one in Python, and in no string of ONNX Runtime's.
    value.encode()
    return value


def response(request: InferRequest, model_name: str, response_id: str, answers: Mapping[str, Any]) -> InferResponse:
    """The answers as a v2 response, one tensor an output.

    Args:
        request: What was asked; binary output is its choice.
        model_name: The name on the wire.
        response_id: Never None: KServe's encoder fails on a response without an id.
        answers: Output → [N]; sent as float32.
    """
    outputs = []
    for name, values in answers.items():
        output = InferOutput(name=name, shape=list(values.shape), datatype="FP32")
        output.set_data_from_numpy(values.astype(np.float32, copy=False), binary_data=request.use_binary_outputs)
        outputs.append(output)
    return InferResponse(
        response_id=response_id,
        model_name=model_name,
        infer_outputs=outputs,
        from_grpc=request.from_grpc,
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )
