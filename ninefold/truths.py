"""Which truth of a key counts where several were told, and with what weight. The one place of these rules.

Sources are trusted in an order: what the organisation's own systems say stands above what a labeller says, and that
above what a user says, whenever each of them spoke. Of one source the newest *known* counts: a correction is a truth
like any other. What users say teaches, with little weight, and is shown; it is no evidence: no model is promoted,
released, chosen or rolled back by it.

Records, frames and arrays each have a function here; the store's SQL is built from the same order of sources.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from ninefold.errors import ConfigurationError
from ninefold.records import Event, Truth, TruthSource

if TYPE_CHECKING:
    import polars as pl

    Array = np.ndarray[Any, Any]

SOURCES: tuple[TruthSource, ...] = ("user", "labeller", "system")
"""Who tells truths, the least trusted first: one further on stands above all before it."""

EVIDENCE: tuple[TruthSource, ...] = ("labeller", "system")
"""Whose truths decide: gates, rollouts, alerts about losses, and the choice between models."""

SAID: tuple[TruthSource, ...] = ("user",)
"""Whose truths are shown beside those that decide."""

SOURCE = "truth_source"
"""Column of examples and data sets that says who told a row's truth; null where there is no truth."""

RANK: dict[str, int] = {source: place for place, source in enumerate(SOURCES)}
"""Source → its place in the order of trust."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackPolicy:
    """With what weight users' truths enter training. In validation and test they have none.

    Args:
        weight: Of a user's truth, where one by the organisation's systems or by a labeller has 1.
        most: Greatest share of the training part's weight that all users' truths have together, however many come.

    Raises:
        ConfigurationError: The weight is not 0 to 1, or the share not from 0 to below 1.
    """

    weight: float = 0.25
    most: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight <= 1.0:
            raise ConfigurationError(f"feedback.weight={self.weight:g} is no weight from 0 to 1.")
        if not 0.0 <= self.most < 1.0:
            raise ConfigurationError(
                f"feedback.most={self.most:g} is no share from 0 to below 1.",
                remedy="Users' truths alone never make a model.",
            )


def precedence(truth: Truth) -> tuple[int, datetime, datetime, str]:
    """What truths of one key are ordered by: the greatest stands.

    Trust first, then when it was known; of two known at the same instant the one received later, then the one with the
    greater id, so that every reader picks the same one.
    """
    return RANK[truth.source], truth.known_at, truth.received_at, truth.truth_id


def standing(truths: Iterable[Truth], sources: Collection[TruthSource] = SOURCES) -> Truth | None:
    """The truth that counts, of all that were told of one key; None where no source among these spoke.

    Args:
        truths: Of one key, in any order.
        sources: Whose truths are asked for.
    """
    return max((truth for truth in truths if truth.source in sources), key=precedence, default=None)


def standing_rows(frame: pl.DataFrame, by: Sequence[str], sources: Collection[TruthSource] = SOURCES) -> pl.DataFrame:
    """Of a frame of truths the row that counts for each key, by when each was known.

    Args:
        frame: ``known_at``, the key's columns, and where there are any ``source``, ``received_at`` and ``truth_id``.
            Without ``source`` all are the organisation's own. Of what ties in all of them the last row stands.
        by: The key's columns.
        sources: Whose truths are asked for.
    """
    import polars as pl

    given = frame if "source" in frame.columns else frame.with_columns(source=pl.lit("system"))
    rank = pl.col("source").replace_strict(RANK, return_dtype=pl.Int8)
    order = [rank, *(pl.col(name) for name in ("known_at", "received_at", "truth_id") if name in frame.columns)]
    return (
        given.filter(pl.col("source").is_in(list(sources)))
        .sort(order, maintain_order=True)
        .unique(list(by), keep="last", maintain_order=True)
    )


def standing_values(keys: Array, values: Array, ranks: Array, count: int) -> Array:
    """The value that counts for each key; NaN where nothing was told.

    Args:
        keys: [truths], number of each truth's key, in the order in which the truths were known.
        values: [truths].
        ranks: [truths], of their sources.
        count: How many keys there are.

    Returns:
        [keys].
    """
    order = np.argsort(ranks, kind="stable")
    found = np.full(count, np.nan)
    # Of those that name a key again, the last one stays.
    found[keys[order]] = values[order]
    return found


def training_weights(source: Array, weight: Array, policy: FeedbackPolicy) -> Array:
    """Weights of training rows, with users' truths at the policy's.

    However many users' truths there are, together they have at most the policy's share of all weight; where nobody
    else told a truth, none.

    Args:
        source: [rows], who told each row's truth.
        weight: [rows], before.
        policy: The use case's.

    Returns:
        [rows].
    """
    users = source == "user"
    given: Array = np.where(users, weight * policy.weight, weight).astype(float)
    trusted, told = float(given[~users].sum()), float(given[users].sum())
    most = policy.most / (1.0 - policy.most) * trusted
    if told > most:
        given[users] *= most / told
    return given


def standing_remarks(remarks: Iterable[Event]) -> list[Event]:
    """What users say now of predictions, without naming the right value: of each user and prediction the newest.

    Args:
        remarks: Events of ``FEEDBACK_STREAM``, in any order.

    Returns:
        By when they were known, the oldest first. A remark without a user's name is taken for one of a single user.
    """
    ordered = sorted(remarks, key=lambda event: (event.known_at, event.received_at, event.event_id))
    newest = {(event.values.get("prediction_id"), event.values.get("user")): event for event in ordered}
    kept = {event.event_id for event in newest.values()}
    return [event for event in ordered if event.event_id in kept]
