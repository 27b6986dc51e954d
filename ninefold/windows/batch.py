"""Windows over history, in polars: a changelog that an as-of join reads at any instant.

An event is two changes of its key's running sums, one when it becomes known and one when it leaves. Changes at the same
instant are merged, because an as-of join could otherwise read half of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ninefold.errors import DataError
from ninefold.windows.declaration import KNOWN_AT, Window, out_of_bounds

if TYPE_CHECKING:
    import polars as pl

_ENTITY, _VALUE, _COUNT, _UNITS = "__entity", "__value", "__count", "__units"
# No field holds two underscores, so that these names are free.


def changelog(events: pl.DataFrame, window: Window) -> pl.DataFrame:
    """The window's values from every instant at which they change until the next such instant of the key.

    Args:
        events: The key's columns, ``known_at`` and the value; in any order. Other columns are ignored.
        window: What is computed.

    Returns:
        The key's columns, ``known_at`` (Datetime, us, UTC), and one column an aggregate (``mean`` and ``sum`` float64,
        ``count`` int64), sorted by key and ``known_at``, which are unique together.

    Raises:
        DataError: A column is missing, a ``known_at`` is null, or a value is infinite or too large to be summed.
    """
    import polars as pl

    counted = _counted(events, window).with_columns(pl.struct(window.key).rank("dense").alias(_ENTITY))
    one = pl.Series(_COUNT, np.ones(len(counted), np.int64))
    units = pl.Series(_UNITS, _units(counted[_VALUE].to_numpy(), window))
    enters = counted.select(_ENTITY, KNOWN_AT, one, units)
    leaves = counted.select(_ENTITY, pl.col(KNOWN_AT) + window.length, -one, -units)
    changes = (
        pl.concat([enters, leaves])
        .group_by(_ENTITY, KNOWN_AT)
        .agg(pl.col(_COUNT).sum(), pl.col(_UNITS).sum())
        .sort(_ENTITY, KNOWN_AT)
        # Everything that enters also leaves, so a key's changes add up to nothing, and one running sum over all
        # keys is the running sum of each.
        .with_columns(pl.col(_COUNT).cum_sum(), pl.col(_UNITS).cum_sum())
    )
    keys = counted.unique(_ENTITY).sort(_ENTITY).select(window.key)
    rows = keys[changes[_ENTITY] - 1] if len(keys) else keys
    return rows.with_columns(changes[KNOWN_AT], *_aggregates(changes, window))


def values_at(rows: pl.DataFrame, requests: pl.DataFrame, window: Window, *, at: str) -> pl.DataFrame:
    """The window's values that requests would have read: of the newest row at or before each request's instant.

    Args:
        rows: The window's changelog.
        requests: The key's columns and ``at``.
        window: The window.
        at: Column of ``requests`` with the instant to look at.

    Returns:
        One row a request, in the order of ``requests``: a column for each of ``window.features``, null where the key
        had no row yet.
    """
    import polars as pl

    wanted = requests.select(*window.key, pl.col(at).cast(pl.Datetime("us", "UTC")).alias("at")).with_row_index("place")
    joined = wanted.sort("at").join_asof(
        rows.sort(KNOWN_AT),
        left_on="at",
        right_on=KNOWN_AT,
        by=list(window.key),
        strategy="backward",
        check_sortedness=False,
    )
    return joined.sort("place").select(
        pl.col(aggregate).alias(feature) for aggregate, feature in zip(window.aggregates, window.features, strict=True)
    )


def _counted(events: pl.DataFrame, window: Window) -> pl.DataFrame:
    """The events that count, with the columns that matter, in their types."""
    import polars as pl

    missing = [name for name in (*window.key, window.value, KNOWN_AT) if name not in events.columns]
    if missing:
        raise DataError(f"Window {window.name!r}: the events have no column {', '.join(missing)}.")
    if events[KNOWN_AT].null_count():
        raise DataError(f"Window {window.name!r}: {events[KNOWN_AT].null_count()} events have no {KNOWN_AT}.")
    known_at = pl.col(KNOWN_AT)
    if getattr(events.schema[KNOWN_AT], "time_zone", None) is None:
        known_at = known_at.dt.replace_time_zone("UTC")
    return events.select(
        *window.key,
        known_at.dt.convert_time_zone("UTC").dt.cast_time_unit("us"),
        pl.col(window.value).cast(pl.Float64).fill_nan(None).alias(_VALUE),
    ).drop_nulls()


def _units(values: np.ndarray[Any, Any], window: Window) -> np.ndarray[Any, Any]:
    # In numpy, because polars divides a column by a number as it multiplies with the reciprocal: other last bits.
    wrong = ~(np.abs(values) <= window.max_value)
    if wrong.any():
        raise out_of_bounds(window, float(values[wrong][0]))
    return np.rint(values / window.resolution).astype(np.int64)


def _aggregates(changes: pl.DataFrame, window: Window) -> list[pl.Series]:
    """The declared columns out of the running sums, by the arithmetic that the declaration states."""
    import polars as pl

    count = changes[_COUNT].to_numpy()
    total = changes[_UNITS].to_numpy().astype(np.float64) * window.resolution
    columns = []
    for aggregate in window.aggregates:
        if aggregate == "count":
            columns.append(pl.Series(aggregate, count))
        elif aggregate == "sum":
            columns.append(pl.Series(aggregate, total))
        else:
            mean = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
            columns.append(pl.Series(aggregate, mean).fill_nan(None))
    return columns
