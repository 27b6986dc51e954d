"""How a table is divided into parts, and what is independent in it."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import polars as pl

from ninefold.clock import format_duration, format_instant
from ninefold.errors import UsageError
from ninefold.scaffold.answers import Answers
from ninefold.usecase import NOW, HashSplit, TimeSplit

LEAST_TRAINING, LEAST_TEST = 30, 20
FRESH = timedelta(days=14)
"""A table whose newest truth is younger than this is taken to be added to."""
Clock = Literal["hour", "weekday", "month"]
Block = Literal["day", "hour"]


def divide(rows: pl.DataFrame, answers: Answers, now: datetime) -> tuple[TimeSplit | HashSplit, pl.Series, pl.Series]:
    """Chooses the split.

    Args:
        rows: With ``_at`` and ``_known`` where there is a time, in its order.
        answers: The five.
        now: The present.

    Returns:
        The split; which rows guesses are made on; and which they are held against.

    Raises:
        UsageError: Too few rows would be left in a part; the message counts them.
    """
    if answers.time is None:
        shuffled = pl.Series(np.random.default_rng(0).permutation(len(rows)))
        return HashSplit(salt=""), shuffled % 2 == 0, shuffled % 2 == 1
    at, known = rows["_at"], rows["_known"]
    ends: datetime = known.max()  # type: ignore[assignment]
    fixed = ends < now - FRESH
    until = ends.replace(microsecond=0) + timedelta(seconds=1) if fixed else now
    test = _days(until - at[int(0.8 * len(at))])
    validation = _days(until - timedelta(days=test) - at[int(0.6 * len(at))])
    test_from = until - timedelta(days=test)
    validation_from = test_from - timedelta(days=validation)
    learned = (known < validation_from).fill_null(value=False)
    held_out = (at >= test_from) & (known < until).fill_null(value=False)
    between = (at >= validation_from) & (at < test_from) & (known < test_from).fill_null(value=False)
    if learned.sum() < LEAST_TRAINING or min(held_out.sum(), between.sum()) < LEAST_TEST:
        raise UsageError(
            f"Split by time, {int(learned.sum()):,} of {len(rows):,} rows would train, {int(between.sum()):,} validate "
            f"and {int(held_out.sum()):,} test: the last {test} days test, the {validation} before validate, and a "
            "row counts when its truth was known before the next part begins.",
            remedy=f"Give rows over a longer time, a shorter --truth-delay than "
            f"{format_duration(answers.truth_delay)}, or --time none to divide them by chance.",
        )
    declared = TimeSplit(validation=f"{validation}d", test=f"{test}d", until=format_instant(until) if fixed else NOW)
    return declared, learned, held_out


def block_of(rows: pl.DataFrame, held_out: pl.Series, answers: Answers) -> Block | str:
    """The unit of a test: a day, or an hour where there are too few days to hold out, else a field of the key."""
    if answers.time is not None:
        at = rows.filter(held_out)["_at"]
        for block, every in (("day", "1d"), ("hour", "1h")):
            if at.dt.truncate(every).n_unique() >= LEAST_TEST:
                return block
    return max(answers.key, key=lambda name: rows[name].n_unique())


def clocks_of(rows: pl.DataFrame, answers: Answers, taken: Collection[str]) -> tuple[Clock, ...]:
    """What of the decision moment can tell something: not the hour of dates, nor the month of less than a year."""
    if answers.time is None:
        return ()
    at = rows["_at"]
    found: list[Clock] = ["weekday"]
    if (at != at.dt.truncate("1d")).any():
        found.append("hour")
    if at[-1] - at[0] > timedelta(days=300):
        found.append("month")
    return tuple(clock for clock in found if clock not in taken)


def _days(length: timedelta) -> int:
    return max(1, math.ceil(length / timedelta(days=1)))
