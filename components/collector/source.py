"""What a use case's source has to keep, before anything is built on it: columns, keys, times and ranges.

A frame that breaks the contract is refused whole. A row that was lost or doubled, or that says it was known before it
could be, does harm that no metric shows: a model that learned from it looks better offline than it is.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from ninefold.errors import DataError
from ninefold.fields import Field
from ninefold.usecase import History, UseCase
from ninefold.windows.declaration import KNOWN_AT

_UTC = pl.Datetime("us", "UTC")


def check(use_case: UseCase, history: History) -> None:
    """Refuses frames that break the contract.

    Raises:
        DataError: A column or a frame is missing, a time is not UTC microseconds, a key repeats, something was known
            before it happened or before it was asked for, or a view's value is outside of its declared range.
    """
    _check_columns(use_case, history)
    for name, frame in {"truths": history.truths, **history.streams, **history.views}.items():
        if frame.schema[KNOWN_AT] != _UTC:
            raise DataError(f"{name}.{KNOWN_AT} is {frame.schema[KNOWN_AT]}, not Datetime('us', 'UTC').")
    _check_request_keys(use_case, history.requests)
    for stream in use_case.streams:
        _check_events(use_case, stream.name, history.streams[stream.name])
    if use_case.decided_at is not None:
        _check_truths(use_case, use_case.decided_at, history)
    for view in use_case.batch_views:
        _check_view(f"{use_case.name}: view {view.name}", view.key, view.columns, history.views[view.name])


def _check_columns(use_case: UseCase, history: History) -> None:
    _columns("requests", history.requests, [f.name for f in use_case.request])
    _columns("truths", history.truths, [*use_case.key, "truth", KNOWN_AT])
    for stream in use_case.streams:
        if stream.name not in history.streams:
            raise DataError(f"{use_case.name}: extract returned no events for the stream {stream.name!r}.")
        needed = [*(f.name for f in stream.fields), "event_id", "happened_at", KNOWN_AT]
        _columns(f"stream {stream.name}", history.streams[stream.name], needed)
    for view in use_case.batch_views:
        if view.name not in history.views:
            raise DataError(f"{use_case.name}: extract returned no rows for the batch view {view.name!r}.")
        _columns(f"view {view.name}", history.views[view.name], [*view.key, *(c.name for c in view.columns), KNOWN_AT])


def _columns(what: str, frame: pl.DataFrame, needed: Iterable[str]) -> None:
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise DataError(f"{what}: the columns {', '.join(missing)} are missing.", remedy="Return them from extract.")


def _check_request_keys(use_case: UseCase, requests: pl.DataFrame) -> None:
    key = list(use_case.key)
    repeated = int(requests.select(key).is_duplicated().sum())
    if repeated:
        raise DataError(
            f"{use_case.name}: {repeated:,} requests share their key ({', '.join(key)}) with another.",
            remedy="Add the field that tells them apart to the key, or keep one of them in extract.",
        )


def _check_events(use_case: UseCase, stream: str, events: pl.DataFrame) -> None:
    early = events.filter(pl.col(KNOWN_AT) < pl.col("happened_at").cast(_UTC)).height
    if early:
        raise DataError(
            f"{use_case.name}: {early:,} of {events.height:,} events of {stream} were known before they happened.",
            remedy=f"{KNOWN_AT} is when your systems learned of an event, not when what led to it began.",
        )


def _check_truths(use_case: UseCase, decided_at: str, history: History) -> None:
    key, truths = list(use_case.key), history.truths
    # The two frames may hold a key's fields in different types.
    asked = history.requests.select(*(pl.col(name).cast(truths.schema[name]) for name in key), _at=pl.col(decided_at))
    early = truths.join(asked, on=key, how="inner").filter(pl.col(KNOWN_AT) < pl.col("_at")).height
    if early:
        raise DataError(
            f"{use_case.name}: {early:,} of {truths.height:,} truths were known before {decided_at}, when they are "
            "asked for.",
            remedy=f"Correct the times that {KNOWN_AT} is made of (zones, midnights), or leave such requests out.",
        )


def _check_view(what: str, key: tuple[str, ...], columns: tuple[Field, ...], rows: pl.DataFrame) -> None:
    repeated = int(rows.select(*key, KNOWN_AT).is_duplicated().sum())
    if repeated:
        raise DataError(
            f"{what}: {repeated:,} rows share {', '.join(key)} and {KNOWN_AT} with another.",
            remedy="Keep one of them in extract; where a clock was set back, take times in UTC.",
        )
    for column in columns:
        # Not a number, which is a null that came through numpy, is greater than every number in polars.
        value = pl.col(column.name).cast(pl.Float64).fill_nan(None)
        if column.minimum is not None:
            _refuse(what, column, rows.filter(value < column.minimum), f"below {column.minimum:g}", rows.height)
        if column.maximum is not None:
            _refuse(what, column, rows.filter(value > column.maximum), f"above {column.maximum:g}", rows.height)


def _refuse(what: str, column: Field, outside: pl.DataFrame, where: str, rows: int) -> None:
    if outside.height:
        unit = f" {column.unit}" if column.unit else ""
        raise DataError(
            f"{what}: {column.name} is {where}{unit} in {outside.height:,} of {rows:,} rows, such as "
            f"{outside[column.name][0]:g}.",
            remedy="Make what can't be null in extract, or correct the unit or the declared range.",
        )
