"""Values to columns and back: what ``derive`` takes, and what the model server is sent.

One request is the common case, so the columns of one type are the rows of one array: a numpy call costs more than what
it does to one value.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from ninefold.errors import ConfigurationError
from ninefold.fields import NUMERIC, Input, Kind

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INSTANT = np.dtype("datetime64[us]")
_NOT_A_TIME = int(np.datetime64("NaT").view(np.int64))


class ColumnMaker:
    """Makes the columns of named values, of the types that ``ninefold.fields`` names.

    Args:
        columns: Names and kinds, in the order of a row.
    """

    def __init__(self, columns: Sequence[tuple[str, Kind]]) -> None:
        self._numbers = _Group.of(columns, NUMERIC)
        self._strings = _Group.of(columns, frozenset({"category", "text"}))
        self._times = _Group.of(columns, frozenset({"time"}))

    def make(self, rows: Sequence[Sequence[Any]]) -> dict[str, Array]:
        """The columns of rows; None becomes NaN, NaT or None."""
        columns: dict[str, Array] = {}
        if self._numbers.names:
            self._numbers.add(columns, np.array(self._numbers.values(rows), dtype=np.float64))
        if self._strings.names:
            self._strings.add(columns, np.array(self._strings.values(rows), dtype=object))
        if self._times.names:
            since = list(map(_SINCE_EPOCH.__getitem__, self._times.values(rows)))
            self._times.add(columns, np.array(since, dtype=np.int64).view(_INSTANT))
        return columns


class _Microseconds(dict[datetime | None, int]):
    """Instants as numpy keeps them, of which a timetable has few.

    Whole microseconds are made several times faster than numpy makes them of a datetime, and found faster yet.
    """

    def __missing__(self, instant: datetime | None) -> int:
        if len(self) >= _MOST_INSTANTS:
            self.clear()
        since = self[instant] = _NOT_A_TIME if instant is None else (instant - _EPOCH) // _MICROSECOND
        return since


_MOST_INSTANTS = 4096
_SINCE_EPOCH = _Microseconds()


@dataclass(frozen=True, slots=True)
class _Group:
    """The columns of one type, and where in a row their values stand."""

    names: tuple[str, ...]
    places: tuple[int, ...]

    @classmethod
    def of(cls, columns: Sequence[tuple[str, Kind]], kinds: Set[str]) -> _Group:
        chosen = [(name, place) for place, (name, kind) in enumerate(columns) if kind in kinds]
        return cls(tuple(name for name, _ in chosen), tuple(place for _, place in chosen))

    def values(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        if len(rows) == 1:
            row = rows[0]
            return [row[place] for place in self.places]
        return [row[place] for place in self.places for row in rows]

    def add(self, columns: dict[str, Array], values: Array) -> None:
        columns.update(zip(self.names, values.reshape(len(self.names), -1), strict=True))


def to_model_rows(inputs: Sequence[Input], derived: dict[str, Array], count: int) -> list[tuple[Any, ...]]:
    """Derived columns as the positional instances of a model; a missing number is NaN, which JSON writes as null.

    Raises:
        ConfigurationError: ``derive`` left an input out, or gave it another length.
    """
    try:
        columns = [derived[item.name].tolist() for item in inputs]
    except KeyError as error:
        raise ConfigurationError(f"derive returned no column {error}, which the model needs.") from None
    rows = list(zip(*columns, strict=False))
    if len(rows) != count or any(len(column) != count for column in columns):
        raise ConfigurationError(f"derive returned columns of another length than {count}.")
    return rows
