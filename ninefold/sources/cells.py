"""Rows of a database driver as columns: each column keeps one kind, and the first value of another is named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import polars as pl

from ninefold.errors import DataError

_KINDS: dict[type, tuple[str, pl.DataType | type[pl.DataType]]] = {
    bool: ("boolean", pl.Boolean()), int: ("number", pl.Float64()), float: ("number", pl.Float64()),
    Decimal: ("number", pl.Float64()), str: ("text", pl.String()), UUID: ("text", pl.String()),
    datetime: ("time", pl.Datetime("us")), date: ("date", pl.Date()),
}  # fmt: skip
_READ: dict[type, Callable[[Any], Any]] = {Decimal: float, UUID: str}


class Cells:
    """Collects batches of rows.

    Args:
        where: What is read, for messages.
        names: The columns.
    """

    def __init__(self, where: str, names: Sequence[str]) -> None:
        self._where = where
        self._names = names
        self._kinds: dict[str, str] = {}
        self._types: dict[str, set[type]] = {name: set() for name in names}
        self._parts: dict[str, list[list[Any]]] = {name: [] for name in names}
        self._rows = 0

    def add(self, batch: Iterable[Sequence[Any]]) -> None:
        """Takes rows.

        Raises:
            DataError: A value is of another kind than those before it in its column, or of none that there is.
        """
        rows = list(batch)
        for name, values in zip(self._names, zip(*rows, strict=True), strict=True):
            self._parts[name].append(self._checked(name, values))
        self._rows += len(rows)

    def frame(self) -> pl.DataFrame:
        """The columns."""
        return pl.DataFrame({name: self._series(name) for name in self._names})

    def _checked(self, name: str, values: Sequence[Any]) -> list[Any]:
        types = set(map(type, values)) - {type(None)}
        kinds = {_KINDS[one][0] if one in _KINDS else one.__name__ for one in types}
        known = self._kinds.setdefault(name, min(kinds)) if kinds else self._kinds.get(name)
        if kinds and (kinds != {known} or not types <= set(_KINDS)):
            self._refuse(name, values)
        self._types[name] |= types
        read = [_READ[one] for one in types if one in _READ]
        if not read:
            return list(values)
        return [_READ[type(v)](v) if type(v) in _READ else v for v in values]

    def _refuse(self, name: str, values: Sequence[Any]) -> None:
        known = ""
        for index, value in enumerate(values):
            if value is None:
                continue
            entry = _KINDS.get(type(value))
            if entry is None:
                raise DataError(
                    f"{self._where}: column {name!r}, row {self._rows + index + 1:,}: a value of the type "
                    f"{type(value).__name__} is no number, text or time.",
                    remedy="Leave the column out of the query, or cast it there.",
                )
            known = known or (self._kinds[name] if self._rows and self._parts[name] else entry[0])
            if entry[0] != known:
                raise DataError(
                    f"{self._where}: column {name!r}, row {self._rows + index + 1:,}: {value!r} is a {entry[0]}, and "
                    f"the column's others are a {known}.",
                    remedy="Cast the column to one type in the query.",
                )

    def _series(self, name: str) -> pl.Series:
        values = [value for part in self._parts[name] for value in part]
        types = self._types[name]
        if not types:
            return pl.Series(name, values, dtype=pl.String)
        if types == {int} and all(v is None or abs(v) < 2**63 for v in values):
            return pl.Series(name, values, dtype=pl.Int64)
        kind = _KINDS[next(iter(types))]
        if kind[0] == "time":
            aware = [v for v in values if v is not None and v.tzinfo is not None]
            known = [v for v in values if v is not None]
            if aware and len(aware) != len(known):
                raise DataError(f"{self._where}: column {name!r} holds times with and without a zone.")
            return pl.Series(name, values, dtype=pl.Datetime("us", "UTC") if aware else pl.Datetime("us"))
        if kind[0] == "number":
            numbers = [None if v is None or not math.isfinite(v) else float(v) for v in values]
            return pl.Series(name, numbers, dtype=pl.Float64)
        return pl.Series(name, values, dtype=kind[1])
