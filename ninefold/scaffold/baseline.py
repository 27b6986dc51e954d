"""A first baseline: what a person would say who knows one thing about a row, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from ninefold.scaffold.dividing import TRUTH, Divided
from ninefold.usecase import Problem

LEAST_ROWS = 20
"""A value that fewer rows have says nothing."""
MOST_VALUES, SHOWN_VALUES = 50, 16
_GAIN = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The usual truth, and what is usual for the values of one column.

    Args:
        usual: Median of the truths, or the rate of the class that counts as 1.
        column: The category whose values tell most; None where none tells anything.
        values: Its commonest values → what is usual with them.
    """

    usual: float
    column: str | None = None
    values: Mapping[str, float] = field(default_factory=dict)


def find_baseline(rows: pl.DataFrame, divided: Divided, categories: Sequence[str], problem: Problem) -> Baseline:
    """The category that says most about rows that it was not counted on, counted on all that may be learned from.

    Args:
        rows: Columns ``TRUTH`` and the categories.
        divided: Categories are counted on the training part and compared on the validation part.
        categories: Columns to choose from.
        problem: Rates for ``binary``, medians for ``regression``.
    """
    training, validation, seen = (rows.filter(p) for p in (divided.training, divided.validation, divided.seen))
    usual = _usual(training[TRUTH], problem)
    chosen, least = None, _loss(pl.lit(usual), validation, problem) * (1.0 - _GAIN)
    for name in categories:
        if not 2 <= training[name].n_unique() <= MOST_VALUES:
            continue
        values = _usual_with(training, name, problem)
        if not values:
            continue
        guess = pl.col(name).replace_strict(values, default=usual, return_dtype=pl.Float64)
        if (loss := _loss(guess, validation, problem)) < least:
            chosen, least = name, loss
    values = {} if chosen is None else _usual_with(seen, chosen, problem)
    return Baseline(usual=_usual(seen[TRUTH], problem), column=chosen, values=values)


def _usual_with(rows: pl.DataFrame, name: str, problem: Problem) -> dict[str, float]:
    truth = pl.col(TRUTH)
    told = (
        rows.filter(pl.col(name).is_not_null())
        .group_by(name)
        .agg(pl.len().alias("__rows"), (truth.mean() if problem == "binary" else truth.median()).alias("__usual"))
        .filter(pl.col("__rows") >= LEAST_ROWS)
        .sort("__rows", name, descending=[True, False])
        .head(SHOWN_VALUES)
    )
    return {value: rounded(found) for value, _, found in told.iter_rows()}


def _usual(truth: pl.Series, problem: Problem) -> float:
    found = truth.mean() if problem == "binary" else truth.median()
    return rounded(found)


def rounded(value: Any) -> float:
    """A number in four digits: what a person would write down."""
    return float(f"{float(value):.4g}")


def _loss(guess: pl.Expr, frame: pl.DataFrame, problem: Problem) -> float:
    error = guess - pl.col(TRUTH)
    found = frame.select((error**2 if problem == "binary" else error.abs()).mean()).item()
    return float("inf") if found is None else float(found)
