"""What production answered, and what turned out: predictions in bulk, joined to their truths by key."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from ninefold.clock import parse_instant
from ninefold.dataset import FEATURE, REQUEST
from ninefold.errors import DataError
from ninefold.fields import NUMERIC, Kind
from ninefold.store import Store
from ninefold.truths import EVIDENCE, SAID, SOURCE, standing_rows
from ninefold.usecase import UseCase

SHADOW = "shadow"
"""Cohort of answers that no client got."""

_TIME = pl.Datetime("us", "UTC")


def read_joined(
    store: Store, use_case: UseCase, since: datetime, until: datetime, known_until: datetime | None = None
) -> pl.DataFrame:
    """Predictions for decision moments in [since, until) with what is known of their truths.

    A truth joins every prediction of its key; of several one counts by ``ninefold.truths``, and the delay is that of
    the first. ``truth`` is never a user's: feedback raises no alert about losses and asks for no training. What users
    say of a key stands beside it, in ``said``.

    Args:
        store: The production database.
        use_case: Whose.
        since: First decision moment.
        until: Just past the last one.
        known_until: Truths as they were known then; None for all that is known.

    Returns:
        ``prediction_id, key, decided_at, received_at, version, cohort, value, fallback, latency_ms``, ``flags`` (list),
        ``truth``, ``truth_source``, ``first_known_at``, ``said`` (null while unknown), ``request.<field>`` and
        ``feature.<logical name>``; by decision moment.
    """
    frame = pl.DataFrame(pl.from_arrow(store.arrow("predictions", use_case.name, since, until)))
    frame = frame.with_columns(pl.col("decided_at", "received_at").cast(_TIME))
    # Where requests are decided when they arrive, a truth may be older than the question.
    known_since = since if use_case.decided_at is not None else None
    past_last = None if known_until is None else known_until + timedelta(microseconds=1)
    truths = pl.DataFrame(pl.from_arrow(store.arrow("truths", use_case.name, known_since, past_last)))
    told = truths.filter(pl.col("source").is_in(EVIDENCE))
    first = told.group_by("key").agg(first_known_at=pl.col("known_at").min().cast(_TIME))
    counting = standing_rows(told, ["key"]).select("key", pl.col("source").alias(SOURCE), truth="value")
    said = standing_rows(truths, ["key"], SAID).select("key", said="value")
    kinds: dict[str, Kind] = {
        feature: kind
        for view in use_case.feature_views()
        for feature, kind in zip(view.features, view.kinds, strict=True)
    }
    return (
        frame.join(counting, on="key", how="left", maintain_order="left")
        .join(first, on="key", how="left", maintain_order="left")
        .join(said, on="key", how="left", maintain_order="left")
        .with_columns(_documents(frame["flags"], pl.List(pl.String)).alias("flags"))
        .drop("request", "features", "use_case", "request_id")
        .hstack(_fields(frame["request"], {f.name: f.kind for f in use_case.request}, REQUEST))
        .hstack(_fields(frame["features"], kinds, FEATURE))
    )


def _documents(texts: pl.Series, dtype: Any) -> pl.Series:
    try:
        return texts.str.json_decode(dtype)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"The store's {texts.name} of predictions are not what is declared: {error}.") from error


def _fields(texts: pl.Series, kinds: Mapping[str, Kind], prefix: str) -> pl.DataFrame:
    """JSON objects as columns of the kinds' types; what an object does not hold is null."""
    if not kinds:
        return pl.DataFrame(height=len(texts))
    dtypes = {
        name: pl.Boolean if kind == "boolean" else pl.Float64 if kind in NUMERIC else pl.String
        for name, kind in kinds.items()
    }
    decoded = _documents(texts, pl.Struct(dtypes)).struct.unnest()
    return pl.DataFrame([_typed(decoded[name], kind).alias(prefix + name) for name, kind in kinds.items()])


def _typed(column: pl.Series, kind: Kind) -> pl.Series:
    if kind == "time":
        instants = column.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
        if instants.null_count() > column.null_count():
            # Somebody sends times in a form that only Python reads: one by one.
            values = [None if text is None else parse_instant(text, field=column.name) for text in column]
            instants = pl.Series(column.name, values, dtype=_TIME)
        return instants
    return column.cast(pl.Float64) if kind in NUMERIC else column


def counted(use_case: UseCase, frame: pl.DataFrame) -> pl.DataFrame:
    """One row per key and version: the last prediction before its decision moment, of those that may be judged.

    Who asks again when the truth is out already learns nothing about the model: where a use case has a decision moment,
    a prediction whose decision moment is not before its truth was known does not count.

    Args:
        use_case: Whose.
        frame: From ``read_joined``.
    """
    if use_case.decided_at is not None:
        frame = frame.filter(pl.col("first_known_at").is_null() | (pl.col("decided_at") < pl.col("first_known_at")))
    order = ("decided_at", "received_at", "prediction_id")
    return frame.sort(order).unique(["key", "version"], keep="last", maintain_order=True)


def answers(frame: pl.DataFrame) -> pl.DataFrame:
    """What clients got: no shadow."""
    return frame.filter(pl.col("cohort") != SHADOW)
