"""Answers whose truth is known because somebody picked them to be labelled stand for more than themselves."""

from __future__ import annotations

import polars as pl

from components.labeller.label_weights import label_weights
from ninefold.store import Store
from ninefold.truths import SOURCE
from ninefold.usecase import UseCase

WEIGHT = "weight"
"""Column with what a row with a truth stands for: 1, itself; 0, nothing, as it was picked by hand, so it judges nobody;
more, where chance picked it. It is there where experts told a truth at all."""


def with_label_weights(frame: pl.DataFrame, store: Store, use_case: UseCase) -> pl.DataFrame:
    """Adds the column where experts told truths.

    Args:
        frame: From ``read_joined``.
        store: The production database.
        use_case: Whose.
    """
    weights = label_weights(store, use_case.name)
    if not weights:
        return frame
    told = pl.col(SOURCE) == "labeller"
    of_key = pl.col("key").replace_strict(weights, default=1.0, return_dtype=pl.Float64)
    return frame.with_columns(pl.when(told).then(of_key).otherwise(1.0).alias(WEIGHT))
