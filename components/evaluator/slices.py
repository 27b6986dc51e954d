"""Slices: the same metric on parts of the rows, by the request fields that the use case declares.

A category, a boolean or a number with few values is sliced by value, another number by its quarters, a time by the hour
of the day (four bands, UTC). What is null is a slice of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ninefold.errors import ConfigurationError, DataError
from ninefold.fields import Columns, Field

if TYPE_CHECKING:
    from ninefold.usecase import UseCase

Array = np.ndarray[Any, Any]

SMALL_SLICE_ROWS = 100
"""A slice with fewer rows is shown as small, and decides nothing."""
FEW_VALUES = 12
NULL = "(null)"


def slice_rows(use_case: UseCase, request: Columns) -> Iterator[tuple[str, str, Array]]:
    """Every slice of the use case: (field, value, rows) with the rows as a boolean mask, in the order of the values.

    Raises:
        DataError: A declared field is missing from the columns.
        ConfigurationError: A text was declared as a slice.
    """
    for name in use_case.slices:
        if name not in request:
            raise DataError(f"The request column {name!r} is missing, by which {use_case.name} slices.")
        labels, values = _labels(use_case.fields[name], request[name])
        for place, value in enumerate(values):
            mask = labels == place
            if mask.any():
                yield name, value, mask


def _labels(field: Field, column: Array) -> tuple[Array, list[str]]:
    """Each row's place among the slice's values, and the values."""
    if field.kind == "text":
        raise ConfigurationError(f"The text {field.name!r} can't be a slice: nearly every one is different.")
    if field.kind == "time":
        hours = (column.astype("datetime64[h]") - column.astype("datetime64[D]")).astype(float)
        places = np.where(np.isnat(column), 4, np.nan_to_num(hours) // 6).astype(int)
        return places, ["00–06 h UTC", "06–12 h UTC", "12–18 h UTC", "18–24 h UTC", NULL]
    if field.kind == "category":
        text = np.array([NULL if value is None else value for value in column.tolist()], dtype=object)
        values, places = np.unique(text.astype(str), return_inverse=True)
        return places, values.tolist()
    numbers = column.astype(float)
    known = numbers[np.isfinite(numbers)]
    distinct = np.unique(known)
    if len(distinct) <= FEW_VALUES:
        places = np.searchsorted(distinct, numbers)
        names = [_number(value) for value in distinct]
        if field.kind == "boolean":
            names = ["yes" if value else "no" for value in distinct]
    else:
        edges = np.unique(np.quantile(known, [0.25, 0.5, 0.75]))
        places = np.searchsorted(edges, numbers)
        bounds = [_number(edge) for edge in edges]
        names = [f"≤ {bounds[0]}", *(f"{a} – {b}" for a, b in itertools.pairwise(bounds)), f"> {bounds[-1]}"]
    return np.where(np.isfinite(numbers), places, len(names)), [*names, NULL]


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"
