"""Rows and columns of a request as arrays, and what is said where they are wrong: the same for every format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ninefold.errors import InvalidInput
from ninefold.fields import Columns, Input

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

TENSORS: Mapping[str, tuple[str, str]] = {
    "number": ("numbers", "tensor(float)"),
    "category": ("categories", "tensor(string)"),
    "text": ("texts", "tensor(string)"),
}
"""Kind → the tensor that holds its inputs, [N, number of inputs of the kind] in signature order, and its type."""


def columns_of(rows: Sequence[Sequence[Any]], inputs: Sequence[Input]) -> dict[str, Array]:
    """Instances as columns: numbers float64 with null as NaN, strings as they are, with None.

    Raises:
        InvalidInput: A row is too short or too long, or a value is of the wrong type.
    """
    import numpy as np

    width = len(inputs)
    for row in rows:
        if len(row) != width:
            raise wrong_width(rows, width)
    columns: dict[str, Array] = {}
    for place, declared in enumerate(inputs):
        values = [row[place] for row in rows]
        wanted = (int, float) if declared.kind == "number" else str
        if not all(value is None or isinstance(value, wanted) for value in values):
            raise wrong_value(rows, inputs)
        if declared.kind == "number":
            try:
                columns[declared.name] = np.array(values, dtype=np.float64)
            except OverflowError:
                raise wrong_value(rows, inputs) from None
        else:
            columns[declared.name] = np.empty(len(values), dtype=object)
            columns[declared.name][:] = values
    return columns


def tensors(inputs: Sequence[Input], columns: Columns) -> dict[str, Array]:
    """The graph's tensors from whole columns: numbers float32 with null as NaN, strings with null as ``""``.

    Raises:
        InvalidInput: An input is missing.
    """
    import numpy as np

    check_columns(inputs, columns)
    feeds: dict[str, Array] = {}
    for kind, (name, _) in TENSORS.items():
        of_kind = [columns[declared.name] for declared in inputs if declared.kind == kind]
        if not of_kind:
            continue
        feeds[name] = np.empty((len(of_kind[0]), len(of_kind)), dtype=np.float32 if kind == "number" else object)
        # A number beyond float32 is infinite there, and meant to be: it lies on the same side of every threshold.
        with np.errstate(over="ignore"):
            for place, column in enumerate(of_kind):
                feeds[name][:, place] = column if kind == "number" else ["" if v is None else v for v in column]
    return feeds


def check_columns(inputs: Sequence[Input], columns: Columns) -> None:
    """Refuses columns in which an input is missing.

    Raises:
        InvalidInput: An input is missing.
    """
    missing = [declared.name for declared in inputs if declared.name not in columns]
    if missing:
        raise InvalidInput(missing[0], "is missing.", remedy=f"The model needs {', '.join(i.name for i in inputs)}.")


def wrong_width(rows: Sequence[Sequence[Any]], width: int) -> InvalidInput:
    """What is said where a row has not as many values as there are inputs."""
    place = next(i for i, row in enumerate(rows) if len(row) != width)
    return InvalidInput(f"instances[{place}]", f"has {len(rows[place])} values.", remedy=f"Send {width}.")


def wrong_value(rows: Sequence[Sequence[Any]], inputs: Sequence[Input]) -> InvalidInput:
    """What is said where a value is not of its input's kind: the first one is named."""
    for number, row in enumerate(rows):
        for value, declared in zip(row, inputs, strict=True):
            wanted = (int, float) if declared.kind == "number" else str
            if value is not None and not isinstance(value, wanted):
                kind = "number" if declared.kind == "number" else "string"
                return InvalidInput(
                    f"instances[{number}].{declared.name}", f"{value!r:.60} is not a {kind}.", remedy=f"Send a {kind}."
                )
    return InvalidInput("instances", "hold a number that is out of range.", remedy="Send finite numbers.")
