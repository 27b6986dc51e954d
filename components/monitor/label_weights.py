"""Answers whose truth is known because somebody picked them to be labelled stand for more than themselves."""

from __future__ import annotations

from typing import Any

import polars as pl

from components.labeller.sampling.weights import weights_of
from ninefold.store import Store
from ninefold.truths import SOURCE
from ninefold.usecase import UseCase

WEIGHT = "weight"
"""Column with what a row with a truth stands for: 1, itself; 0, nothing, as it was picked by hand, so it judges nobody;
more, where chance picked it. It is there where experts were asked at all."""


def with_label_weights(frame: pl.DataFrame, store: Store, use_case: UseCase) -> pl.DataFrame:
    """Adds the column where experts were asked.

    Args:
        frame: From ``read_joined``.
        store: The production database.
        use_case: Whose.
    """
    tasks = store.label_tasks(use_case.name)
    if not tasks:
        return frame
    first = frame.group_by("key").agg(pl.col("received_at").min())
    asked_at: dict[str, Any] = dict(first.iter_rows())
    weights = weights_of(tasks, store.labellers_truths(use_case.name), asked_at)
    told = pl.col(SOURCE) == "labeller"
    of_key = pl.col("key").replace_strict(weights, default=1.0, return_dtype=pl.Float64)
    return frame.with_columns(pl.when(told).then(of_key).otherwise(1.0).alias(WEIGHT))
