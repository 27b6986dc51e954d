"""Users' truths in the training part: with little weight, whatever their number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninefold.truths import SOURCE, FeedbackPolicy, training_weights

if TYPE_CHECKING:
    import polars as pl


def told_by_user(frame: pl.DataFrame) -> int:
    """Rows whose truth a user alone told."""
    return int((frame[SOURCE] == "user").sum()) if SOURCE in frame.columns else 0


def weighted(training: pl.DataFrame, policy: FeedbackPolicy) -> pl.DataFrame:
    """The training part with the weights that the policy gives its rows.

    Args:
        training: With ``weight`` and ``truth_source``.
        policy: The use case's.
    """
    import numpy as np
    import polars as pl

    source = np.array(training[SOURCE].fill_null("system").to_list(), dtype=object)
    return training.with_columns(
        weight=pl.Series(training_weights(source, training["weight"].to_numpy(), policy), dtype=pl.Float64)
    )


def share_of_users(training: pl.DataFrame) -> float:
    """Share of the training part's weight that users' truths have, 0–1."""
    weight, users = training["weight"].to_numpy(), (training[SOURCE] == "user").fill_null(value=False).to_numpy()
    return round(float(weight[users].sum() / weight.sum()), 4)
