"""How a table is divided into parts, and what is independent in it."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import polars as pl

from ninefold.clock import format_duration, format_instant
from ninefold.errors import UsageError
from ninefold.scaffold.answers import Answers
from ninefold.splits import NOW, HashSplit, TimeSplit

LEAST_TRAINING, LEAST_TEST = 30, 20
TRUTH, AT, KNOWN = "__truth", "__at", "__known"
"""Columns that are added to a table's. No field holds two underscores, so that these names are free."""
FRESH = timedelta(days=14)
"""A table whose newest truth is younger than this is taken to be added to."""
Clock = Literal["hour", "weekday", "month"]
Block = Literal["day", "hour"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Divided:
    """A split, and where a table's rows fall in it.

    Args:
        split: What the use case declares.
        training: Rows that guesses are made on.
        validation: Rows that they are held against.
        test: Rows that nothing is learned from; without a time nobody knows yet which.
    """

    split: TimeSplit | HashSplit
    training: pl.Series
    validation: pl.Series
    test: pl.Series

    @property
    def seen(self) -> pl.Series:
        """Rows that may be learned from."""
        return self.training | self.validation


def divide(rows: pl.DataFrame, answers: Answers, now: datetime) -> Divided:
    """Chooses the split.

    Args:
        rows: With ``AT`` and ``KNOWN`` where there is a time, in its order.
        answers: The five.
        now: The present.

    Raises:
        UsageError: Too few rows would be left in a part; the message counts them.
    """
    if answers.time is None:
        odd = pl.Series(np.random.default_rng(0).permutation(len(rows))) % 2 == 1
        return Divided(split=HashSplit(), training=~odd, validation=odd, test=odd & ~odd)
    at, known = rows[AT], rows[KNOWN]
    ends: datetime = known.max()  # type: ignore[assignment]
    fixed = ends < now - FRESH
    until = ends.replace(microsecond=0) + timedelta(seconds=1) if fixed else now
    test = _days(until - at[int(0.8 * len(at))])
    validation = _days(until - timedelta(days=test) - at[int(0.6 * len(at))])
    test_from = until - timedelta(days=test)
    validation_from = test_from - timedelta(days=validation)
    training = (known < validation_from).fill_null(value=False)
    last = (at >= test_from) & (known < until).fill_null(value=False)
    between = (at >= validation_from) & (at < test_from) & (known < test_from).fill_null(value=False)
    if training.sum() < LEAST_TRAINING or min(last.sum(), between.sum()) < LEAST_TEST:
        raise UsageError(
            f"Split by time, {int(training.sum()):,} of {len(rows):,} rows would train, {int(between.sum()):,} "
            f"validate and {int(last.sum()):,} test: the last {test} days test, the {validation} before validate, and "
            "a row counts when its truth was known before the next part begins.",
            remedy=f"Give rows over a longer time, a shorter --truth-delay than "
            f"{format_duration(answers.truth_delay)}, or --time none to divide them by chance.",
        )
    declared = TimeSplit(validation=f"{validation}d", test=f"{test}d", until=format_instant(until) if fixed else NOW)
    return Divided(split=declared, training=training, validation=between, test=last)


def block_of(rows: pl.DataFrame, test: pl.Series, answers: Answers) -> Block | str:
    """The unit of a test: a day, or an hour where too few days test, else a field of the key."""
    if answers.time is not None:
        at = rows.filter(test)[AT]
        for block, every in (("day", "1d"), ("hour", "1h")):
            if at.dt.truncate(every).n_unique() >= LEAST_TEST:
                return block
    return max(answers.key, key=lambda name: rows[name].n_unique())


def clocks_of(rows: pl.DataFrame, answers: Answers, taken: Collection[str]) -> tuple[Clock, ...]:
    """What of the decision moment can tell something: not the hour of dates, nor the month of less than a year."""
    if answers.time is None:
        return ()
    at = rows[AT]
    found: list[Clock] = ["weekday"]
    if (at != at.dt.truncate("1d")).any():
        found.append("hour")
    if at[-1] - at[0] > timedelta(days=300):
        found.append("month")
    return tuple(clock for clock in found if clock not in taken)


def _days(length: timedelta) -> int:
    return max(1, math.ceil(length / timedelta(days=1)))
