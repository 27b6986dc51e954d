"""A first baseline: what a person would say who knows one thing about a row, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

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


def find_baseline(
    learned: pl.DataFrame, held_out: pl.DataFrame, categories: Sequence[str], problem: Problem
) -> Baseline:
    """The category that says most about rows that it was not counted on.

    Args:
        learned: Columns ``truth`` and the categories: what is counted.
        held_out: Likewise: what the categories are compared on.
        categories: Columns to choose from.
        problem: Rates for ``binary``, medians for ``regression``.
    """
    usual = _usual(learned["truth"], problem)
    best, least = Baseline(usual=usual), _loss(pl.lit(usual), held_out, problem) * (1.0 - _GAIN)
    for name in categories:
        if not 2 <= learned[name].n_unique() <= MOST_VALUES:
            continue
        truth = pl.col("truth")
        told = (
            learned.filter(pl.col(name).is_not_null())
            .group_by(name)
            .agg(pl.len(), usual=truth.mean() if problem == "binary" else truth.median())
            .filter(pl.col("len") >= LEAST_ROWS)
            .sort("len", name, descending=[True, False])
            .head(SHOWN_VALUES)
        )
        if told.is_empty():
            continue
        values = {value: rounded(found) for value, _, found in told.iter_rows()}
        loss = _loss(pl.col(name).replace_strict(values, default=usual, return_dtype=pl.Float64), held_out, problem)
        if loss < least:
            best, least = Baseline(usual=usual, column=name, values=values), loss
    return best


def _usual(truth: pl.Series, problem: Problem) -> float:
    found = truth.mean() if problem == "binary" else truth.median()
    return rounded(found)


def rounded(value: Any) -> float:
    """A number in four digits: what a person would write down."""
    return float(f"{float(value):.4g}")


def _loss(guess: pl.Expr, frame: pl.DataFrame, problem: Problem) -> float:
    error = guess - pl.col("truth")
    found = frame.select((error**2 if problem == "binary" else error.abs()).mean()).item()
    return float("inf") if found is None else float(found)
