"""The point-in-time join: for each entity row, what each view knew of its key at that row's instant.

Polars' as-of join does the work; around it stand the rules that Feast's own stores give: the newest row at or before
the instant, ties by the instant of creation, a time to live, every entity row kept, in its order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from ninefold.errors import DataError

_INSTANT = pl.Datetime("us", "UTC")
_AT, _CREATED, _VISIBLE, _ORDER = "__at", "__created", "__visible", "__order"


@dataclass(frozen=True, slots=True, kw_only=True)
class AsofView:
    """The rows of one view, ready to be joined.

    Args:
        name: Its name, for messages.
        rows: Key columns, ``known_at``, ``created_at`` where there is one, and the features.
        key: Column of the entity rows → column of ``rows``.
        known_at: Column with the instant from which a row holds.
        created_at: Column with the instant at which a row was made; of two rows of the same ``known_at`` the one made
            later wins. None where there is no such column: then the later in the file wins.
        columns: Column of the result → column of ``rows``.
        time_to_live: Age past which a row no longer counts; a row of exactly that age still does. None for never.
    """

    name: str
    rows: pl.DataFrame
    key: Mapping[str, str]
    known_at: str
    created_at: str | None
    columns: Mapping[str, str]
    time_to_live: timedelta | None


def asof_join(
    entities: pl.DataFrame, at: str, views: Sequence[AsofView], *, only_created_before: bool = False
) -> pl.DataFrame:
    """Adds each view's columns to the entity rows: one row out for one row in, in the same order.

    Args:
        entities: Key columns and the instant; whatever else there is stays.
        at: Column with the instant; naive is UTC.
        views: What to join.
        only_created_before: Rows made after the entity row's instant don't count, so that a back-fill can't leak.

    Raises:
        DataError: A column is missing, or a key can't be compared with the view's.
    """
    _check_columns("The entity rows", entities, [at, *(column for view in views for column in view.key)])
    instants = as_instant(entities[at])
    order = None if instants.is_sorted() else instants.arg_sort()
    keys = list(dict.fromkeys(column for view in views for column in view.key))
    left = entities.select(keys).with_columns(instants.alias(_AT))
    if order is not None:
        left = left[order]
    joined = [_join_one(left, view, only_created_before=only_created_before) for view in views]
    if order is not None:
        back = order.arg_sort()
        joined = [frame[back] for frame in joined]
    return pl.concat([entities.with_columns(instants.alias(at)), *joined], how="horizontal")


def as_instant(column: pl.Series) -> pl.Series:
    """A column of instants in UTC and microseconds; naive ones are UTC.

    Raises:
        DataError: It holds something else.
    """
    if not isinstance(column.dtype, pl.Datetime):
        raise DataError(f"Column {column.name!r} holds {column.dtype}, not instants.")
    if column.dtype.time_zone is None:
        column = column.dt.replace_time_zone("UTC")
    return column.cast(_INSTANT)


def newest_last(rows: pl.DataFrame, known_at: str, created_at: str | None) -> pl.DataFrame:
    """Rows in the order in which they hold; rows of equal instants in the order of their making, then of the file."""
    if created_at is not None:
        return rows.sort(known_at, created_at, maintain_order=True)
    return rows if rows[known_at].is_sorted() else rows.sort(known_at, maintain_order=True)


def _join_one(left: pl.DataFrame, view: AsofView, *, only_created_before: bool) -> pl.DataFrame:
    key = list(view.key)
    used = [*view.key.values(), view.known_at, *view.columns.values()] + ([view.created_at] if view.created_at else [])
    _check_columns(f"The rows of {view.name}", view.rows, used)
    right = view.rows.select(
        *(pl.col(column).alias(name) for name, column in view.key.items()),
        as_instant(view.rows[view.known_at]).alias(_AT),
        *([as_instant(view.rows[view.created_at]).alias(_CREATED)] if view.created_at else []),
        *(pl.col(column).alias(_output(name)) for name, column in view.columns.items()),
    )
    right = newest_last(right, _AT, _CREATED if view.created_at else None)
    if only_created_before and view.created_at:
        right = _visible_rows(right, key)
    try:
        asked = left.select(*(pl.col(name).cast(right.schema[name]) for name in key), _AT)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"The entity rows' key can't be compared with the key of {view.name}: {error}.") from error
    on = _VISIBLE if _VISIBLE in right.columns else _AT
    joined = asked.join_asof(
        right.with_columns(pl.col(_AT).alias(_ORDER)), left_on=_AT, right_on=on, by=key, check_sortedness=False
    )
    outputs = [pl.col(_output(name)).alias(name) for name in view.columns]
    if view.time_to_live is None:
        return joined.select(outputs)
    fresh = pl.col(_AT) - pl.col(_ORDER) <= view.time_to_live
    return joined.select(pl.when(fresh).then(output).alias(output.meta.output_name()) for output in outputs)


def _visible_rows(right: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """Rows by when they could be seen, without those that were already superseded then."""
    seen = right.with_row_index(_ORDER).with_columns(pl.max_horizontal(_AT, _CREATED).alias(_VISIBLE))
    seen = seen.sort(_VISIBLE, _ORDER)
    return seen.filter(pl.col(_ORDER) == pl.col(_ORDER).cum_max().over(key)).drop(_ORDER)


def _output(name: str) -> str:
    return f"__out__{name}"


def _check_columns(what: str, frame: pl.DataFrame, needed: Sequence[str]) -> None:
    missing = [column for column in dict.fromkeys(needed) if column not in frame.columns]
    if missing:
        raise DataError(f"{what} have no column {', '.join(missing)}.", remedy=f"They have {', '.join(frame.columns)}.")
