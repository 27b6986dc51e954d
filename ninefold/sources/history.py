"""A table as a use case's history: one row a request, with its truth where that is known."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from ninefold.errors import DataError
from ninefold.sources.source import Source, missing_columns
from ninefold.sources.values import UTC_TIME, Reading, read
from ninefold.usecase import History, UseCase
from ninefold.windows.declaration import KNOWN_AT

if TYPE_CHECKING:
    from ninefold.fields import Field

NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""When all was known, where the data have no time."""


def table_history(
    use_case: UseCase,
    source: Source,
    *,
    target: str,
    classes: Mapping[str, float] | None = None,
    known_at: str | None = None,
    zone: str = "UTC",
    time_format: str | None = None,
) -> History:
    """Requests and truths of a table that holds both.

    Args:
        use_case: Declares the request's fields, the key and the decision moment.
        source: The rows.
        target: Column with the truth; a null is a truth that is not known yet.
        classes: For two classes: the column's values, as texts, and whether each counts as 1 or 0.
        known_at: Column that says when a truth became known; None for the decision moment and the use case's
            ``truth_delay``, or from the start where there is no decision moment.
        zone: Zone of times that carry none.
        time_format: Format of times that are not ISO 8601, as ``strptime`` has it.

    Raises:
        DataError: A column is missing, a value is of another kind than its field, a key is missing or repeats, a class
            is none of those named: the message says in which row.
    """
    scan = source.scan()
    wanted = [f.name for f in use_case.request] + [target] + ([known_at] if known_at else [])
    if (error := missing_columns(source.where, wanted, scan.collect_schema().names())) is not None:
        raise error
    frame = source.collect(scan.select(list(dict.fromkeys(wanted))))
    reading = Reading(zone=zone, time_format=time_format)
    requests = pl.DataFrame([_field(source, frame, f, reading) for f in use_case.request])
    check_key(source, requests, use_case.key)
    truth = (
        _class_truth(source, frame, target, classes)
        if classes is not None
        else read(frame, target, "number", reading, where=source.where, first_row=source.first_row)
    )
    if known_at is not None:
        known = read(frame, known_at, "time", reading, where=source.where, first_row=source.first_row)
        _check_known(source, known_at, known, truth)
    elif use_case.decided_at is not None:
        known = requests[use_case.decided_at] + use_case.truth_delay
    else:
        known = pl.Series([NO_TIME], dtype=UTC_TIME).new_from_index(0, len(frame))
    truths = requests.select(use_case.key).with_columns(truth=truth.cast(pl.Float64), **{KNOWN_AT: known})
    return History(requests=requests, truths=truths.filter(pl.col("truth").is_not_null()))


def _field(source: Source, frame: pl.DataFrame, declared: Field, reading: Reading) -> pl.Series:
    values = read(frame, declared.name, declared.kind, reading, where=source.where, first_row=source.first_row)
    if not declared.nullable and values.has_nulls():
        row = source.first_row + int(values.is_null().arg_true()[0])
        raise DataError(
            f"{source.where}: column {declared.name!r}, row {row:,} is empty ({values.null_count():,} of "
            f"{len(values):,} rows are), and the field is required.",
            remedy="Fill it in, or declare the field nullable=True (a key can't be).",
        )
    return values


def _check_known(source: Source, column: str, known: pl.Series, truth: pl.Series) -> None:
    wrong = known.is_null() & truth.is_not_null()
    if wrong.any():
        row = source.first_row + int(wrong.arg_true()[0])
        raise DataError(
            f"{source.where}: row {row:,} has a truth, and {column!r} does not say when it became known "
            f"({int(wrong.sum()):,} rows).",
            remedy="Fill it in, or empty the truth until it is known.",
        )


def check_key(source: Source, frame: pl.DataFrame, key: tuple[str, ...]) -> None:
    """Refuses a key that repeats.

    Raises:
        DataError: The message counts the rows and shows two that share a key.
    """
    again = frame.select(key).is_duplicated()
    if not again.any():
        return
    first = int(again.arg_true()[0])
    values = frame.select(key).row(first)
    same = (
        frame.select(key)
        .with_row_index("__row")
        .filter(
            *(pl.col(name) == pl.lit(value, dtype=frame.schema[name]) for name, value in zip(key, values, strict=True))
        )
    )
    rows = " and ".join(f"{source.first_row + row:,}" for row in same["__row"].head(2))
    shown = ", ".join(f"{name} {value}" for name, value in zip(key, values, strict=True))
    raise DataError(
        f"{source.where}: {int(again.sum()):,} of {len(again):,} rows share their key with another, such as rows "
        f"{rows} ({shown}).",
        remedy="Add the column that tells them apart to the key (--key a,b), or keep one row of each.",
    )


def _class_truth(source: Source, frame: pl.DataFrame, target: str, classes: Mapping[str, float]) -> pl.Series:
    texts = as_texts(frame[target])
    wrong = texts.is_not_null() & ~texts.is_in(list(classes))
    if wrong.any():
        index = int(wrong.arg_true()[0])
        raise DataError(
            f"{source.where}: column {target!r}, row {source.first_row + index:,}: {texts[index]!r} is none of its "
            f"classes, {', '.join(map(repr, classes))}.",
            remedy="Correct the row, or say in etl.py whether it counts as 1 or 0.",
        )
    return texts.replace_strict(dict(classes), return_dtype=pl.Float64)


def as_texts(column: pl.Series) -> pl.Series:
    """Values as classes are named: whole numbers without a fraction, booleans as true and false."""
    if column.dtype.is_float():
        whole = bool((column.drop_nulls() == column.drop_nulls().round()).all())
        return (column.cast(pl.Int64, strict=False) if whole else column).cast(pl.String)
    return column.cast(pl.String)
