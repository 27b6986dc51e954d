"""Times and daily figures as schedules and batch jobs have them: clocks without a date, and means as of last night."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

from ninefold.windows.declaration import KNOWN_AT


def utc(column: str) -> pl.Expr:
    """Instants of a column of texts like ``2013-01-01T10:00:00Z``."""
    return pl.col(column).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")


def known_from(frame: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """Facts as rows of a batch view: numbers of one type, all known from an instant on."""
    numbers = pl.selectors.numeric().cast(pl.Float64)
    return frame.with_columns(numbers, pl.lit(at, dtype=pl.Datetime("us", "UTC")).alias(KNOWN_AT))


def with_next_on_clock(frame: pl.DataFrame, name: str, *, clock: str, after: pl.Expr, zone: str) -> pl.DataFrame:
    """Adds the first instant after another at which a local clock shows a time: what ``arrives 23:40`` means.

    A clock that repeats an hour in autumn means the first of the two.

    Args:
        frame: The rows; they come back grouped by zone.
        name: Of the column that is added.
        clock: Column of whole numbers: hours times 100 and minutes.
        after: Instants in UTC.
        zone: Column of time zones (``America/Denver``).
    """

    def one_zone(rows: pl.DataFrame) -> pl.DataFrame:
        # polars converts a column to one zone at a time, hence once for each zone.
        there = rows.item(0, zone)
        earliest = after.dt.convert_time_zone(there).dt.replace_time_zone(None)
        shown = pl.duration(hours=pl.col(clock) // 100, minutes=pl.col(clock) % 100)
        same_day = earliest.dt.truncate("1d") + shown
        local = pl.when(same_day > earliest).then(same_day).otherwise(same_day + pl.duration(days=1))
        instant = local.dt.replace_time_zone(there, ambiguous="earliest").dt.convert_time_zone("UTC")
        return rows.with_columns(instant.alias(name))

    return pl.concat([one_zone(rows) for rows in frame.partition_by(zone)])


def daily_means(
    events: pl.DataFrame, by: Sequence[str], *, value: str, at: str, days: Sequence[int], job: timedelta
) -> pl.DataFrame:
    """Mean and number of each key's events over the days before each run of a daily job, as a batch view's rows.

    A run sees what was known at its very instant. Every key has a row for each run, from the first run with an event
    of anybody to the last one, where its longest stretch holds an event.

    Args:
        events: The key's columns, ``value``, and when it became known.
        by: The key's columns.
        value: Column of whole numbers.
        at: Column of instants.
        days: Lengths of the stretches.
        job: When the job runs, after midnight UTC.

    Returns:
        The key, ``known_at``, and for each length ``mean_<days>d`` (null without events) and ``count_<days>d``.
    """
    # The run that sees an event first: the next one, or the one at that very instant.
    run = (pl.col(at) - job - timedelta(microseconds=1)).dt.truncate("1d") + timedelta(days=1) + job
    daily = events.group_by(*by, run.alias(KNOWN_AT)).agg(sum=pl.col(value).sum(), count=pl.len().cast(pl.Int64))
    runs = daily.select(pl.datetime_range(pl.col(KNOWN_AT).min(), pl.col(KNOWN_AT).max(), "1d").alias(KNOWN_AT))
    grid = daily.select(by).unique().join(runs, how="cross").sort(*by, KNOWN_AT)
    filled = grid.join(daily, on=[*by, KNOWN_AT], how="left", maintain_order="left").fill_null(0)

    def over(column: str, length: int) -> pl.Expr:
        return pl.col(column).rolling_sum(length, min_samples=1).over(by).alias(f"{column}_{length}d")

    sums = filled.select(*by, KNOWN_AT, *(over(column, length) for column in ("sum", "count") for length in days))
    means = sums.filter(pl.col(f"count_{max(days)}d") > 0).select(
        *by,
        KNOWN_AT,
        *(
            pl.when(pl.col(f"count_{length}d") > 0)
            .then(pl.col(f"sum_{length}d") / pl.col(f"count_{length}d"))
            .alias(f"mean_{length}d")
            for length in days
        ),
        *(pl.col(f"count_{length}d").cast(pl.Float64) for length in days),
    )
    return means.sort(KNOWN_AT, *by)
