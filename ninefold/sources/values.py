"""What a column's values are, and reading them as a kind of field; the first row that is another is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from ninefold.errors import DataError
from ninefold.fields import Kind, quote

UTC_TIME = pl.Datetime("us", "UTC")
NULLS = ("", "NA", "N/A", "NaN", "nan", "NULL", "null")
"""Texts of a CSV file that stand for a missing value."""

MOST_EXACT = 2**53
"""Greatest whole number of which a float64, as requests have it, tells each from the next."""
INTEGER = r"^[+-]?\d{1,15}(\.0+)?$"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
BOOLEAN = r"(?i)^(true|false)$"
INSTANT = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?( ?(Z|[+-]\d{2}:?\d{2}))?)?$"
ZONED = r"\d{2}:\d{2}.*(Z|[+-]\d{2}:?\d{2})$"
_WANTED: dict[Kind, str] = {
    "integer": "a whole number", "number": "a number", "boolean": "true or false", "time": "a time",
    "category": "a text", "text": "a text",
}  # fmt: skip
_REMEDY: dict[Kind, str] = {
    "integer": "Correct the value, leave the cell empty where it is not known, or declare the field a category.",
    "number": "Correct the value, leave the cell empty where it is not known, or declare the field a category.",
    "boolean": "Write true or false, or declare the field a category.",
    "time": "Write times as 2025-03-03T10:00:00Z, with a zone or Z.",
    "category": "Write it as a text.",
    "text": "Write it as a text.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How times without a zone are read.

    Args:
        zone: Name of the zone that they are in.
        time_format: Format of times that are not ISO 8601, as ``strptime`` has it; None for ISO 8601.
    """

    zone: str = "UTC"
    time_format: str | None = None


def typed(name: str, dtype: pl.DataType, kind: Kind, reading: Reading) -> pl.Expr:
    """A column as the values of a kind; what can't be read as one is null.

    Args:
        name: The column.
        dtype: What it is now.
        kind: What it should be.
        reading: How times are read.
    """
    column = pl.col(name)
    is_text = dtype == pl.String
    match kind:
        case "integer":
            if is_text:
                whole = column.str.contains(INTEGER)
                return pl.when(whole).then(column.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)).alias(name)
            number = column.cast(pl.Float64)
            exact = (number == number.round()) & (number.abs() <= MOST_EXACT)
            return pl.when(exact).then(number).cast(pl.Int64, strict=False).alias(name)
        case "number":
            number = column.cast(pl.Float64, strict=False)
            return pl.when(number.is_finite()).then(number).alias(name)
        case "boolean":
            if is_text:
                return pl.when(column.str.contains(BOOLEAN)).then(column.str.to_lowercase() == "true").alias(name)
            if dtype == pl.Boolean:
                return column
            return pl.when(column.is_in([0, 1])).then(column == 1).alias(name)
        case "time":
            return _instant(column, dtype, reading).alias(name)
        case "category" | "text":
            return column.cast(pl.String)


def _instant(column: pl.Expr, dtype: pl.DataType, reading: Reading) -> pl.Expr:
    if dtype == pl.String:
        if reading.time_format is not None:
            read = column.str.to_datetime(reading.time_format, time_unit="us", strict=False)
            return read.dt.convert_time_zone("UTC") if "%z" in reading.time_format else _in_zone(read, reading.zone)
        text: pl.Expr = pl.when(column.str.contains(INSTANT)).then(column)
        for pattern, better in (
            (r"^(\S{10}) ", "${1}T"), (r"^(\S{10})$", "${1}T00:00:00"), (r" ?Z$", "+00:00"),
            (r" ([+-]\d{2}:?\d{2})$", "${1}"), (r"T(\d{2}:\d{2})($|[+-])", "T${1}:00${2}"),
        ):  # fmt: skip
            text = text.str.replace(pattern, better)
        zoned = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", strict=False)
        naive = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
        return pl.coalesce(zoned.cast(UTC_TIME), _in_zone(naive, reading.zone))
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return column.dt.convert_time_zone("UTC").cast(UTC_TIME)
    if isinstance(dtype, (pl.Datetime, pl.Date)):
        return _in_zone(column.cast(pl.Datetime("us")), reading.zone)
    return pl.lit(None, dtype=UTC_TIME)


def _in_zone(column: pl.Expr, zone: str) -> pl.Expr:
    if zone == "UTC":
        return column.dt.replace_time_zone("UTC")
    # An hour that a clock skips is no time; one that it repeats means the first.
    return column.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")


def read(frame: pl.DataFrame, name: str, kind: Kind, reading: Reading, *, where: str, first_row: int) -> pl.Series:
    """A column's values as a kind.

    Args:
        frame: Holds the column.
        name: The column.
        kind: What its values have to be.
        reading: How times are read.
        where: What is read, for messages.
        first_row: Number of the frame's first row, for messages.

    Raises:
        DataError: A value is of another kind; the first one is shown with its row.
    """
    raw = frame[name]
    values = frame.select(typed(name, raw.dtype, kind, reading)).to_series()
    wrong = values.is_null() & ~_is_missing(raw)
    if wrong.any():
        index = int(wrong.arg_true()[0])
        raise mixed(where, name, kind, first_row + index, raw[index], count=int(wrong.sum()), rows=len(raw))
    return values


def mixed(
    where: str, column: str, kind: Kind, row: int, value: Any, *, count: int, rows: int,
    like: str = "the column's others are",
) -> DataError:  # fmt: skip
    """A value that is not of the kind of its column."""
    more = "" if count == 1 else f"; {count:,} of {rows:,} rows hold such"
    return DataError(
        f"{where}: column {column!r}, row {row:,}: {quote(value)} is not {_WANTED[kind]}, as {like}{more}.",
        remedy=_REMEDY[kind],
    )


def _is_missing(column: pl.Series) -> pl.Series:
    return column.is_null() | column.is_nan() if column.dtype.is_float() else column.is_null()
