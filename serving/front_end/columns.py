"""Values to columns and back: what ``derive`` takes, and what the model server is sent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ninefold.errors import ConfigurationError
from ninefold.fields import NUMERIC, Input, Kind

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]


def to_column(kind: Kind, values: Sequence[Any]) -> Array:
    """Values as the numpy column of their kind; None becomes NaN, NaT or None."""
    if kind in NUMERIC:
        return np.array(values, dtype=np.float64)
    if kind == "time":
        # numpy knows no zones; instants are UTC everywhere.
        return np.array([v.replace(tzinfo=None) if v is not None else None for v in values], dtype="datetime64[us]")
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def to_model_rows(inputs: Sequence[Input], derived: dict[str, Array], count: int) -> list[list[Any]]:
    """Derived columns as the positional instances of a model; NaN and missing strings are None.

    Raises:
        ConfigurationError: ``derive`` left an input out, or gave it another length.
    """
    columns = []
    for item in inputs:
        try:
            column = derived[item.name].tolist()
        except KeyError:
            raise ConfigurationError(f"derive returned no column {item.name!r}, which the model needs.") from None
        if len(column) != count:
            raise ConfigurationError(f"derive returned {len(column)} values of {item.name!r} for {count} rows.")
        columns.append(column)
    isnan = math.isnan
    return [
        [None if type(value) is float and isnan(value) else value for value in row]
        for row in zip(*columns, strict=True)
    ]
