"""What the collector asks the production database beside writing to it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa

from ninefold.store import Store
from ninefold.store.rows import from_micros
from ninefold.store.tables import events, predictions, truths

_CHUNK = 5_000

_EVENTS = sa.select(events.c.event_id, events.c.cursor).where(
    events.c.event_id.in_(sa.bindparam("ids", expanding=True))
)
_TRUTHS = sa.select(truths.c.truth_id, truths.c.known_at_us).where(
    truths.c.truth_id.in_(sa.bindparam("ids", expanding=True))
)
_KEYS = (
    sa.select(predictions.c.key)
    .distinct()
    .where(
        predictions.c.use_case == sa.bindparam("use_case"), predictions.c.key.in_(sa.bindparam("ids", expanding=True))
    )
)
_PREDICTIONS = sa.select(predictions.c.prediction_id, predictions.c.key, predictions.c.decided_at_us).where(
    predictions.c.use_case == sa.bindparam("use_case"),
    predictions.c.prediction_id.in_(sa.bindparam("ids", expanding=True)),
)


def last_written(store: Store, ids: Collection[str], count: int) -> set[str]:
    """Those of the ids whose events were written last, so many of them: a log's cursor only grows."""
    rows = sorted(_rows(store, _EVENTS, ids), key=lambda row: row.cursor, reverse=True)
    return {row.event_id for row in rows[:count]}


def kept_truths(store: Store, ids: Collection[str]) -> dict[str, datetime]:
    """Those of the ids that truths have already, with the truths' ``known_at``."""
    return {row.truth_id: from_micros(row.known_at_us) for row in _rows(store, _TRUTHS, ids)}


def predicted_keys(store: Store, use_case: str, keys: Collection[str]) -> set[str]:
    """Those of the keys that something was predicted for."""
    return {row.key for row in _rows(store, _KEYS, keys, use_case=use_case)}


def predictions_of(store: Store, use_case: str, ids: Collection[str]) -> dict[str, tuple[str, datetime]]:
    """Prediction id → its key and decision moment, of those that there are."""
    return {
        row.prediction_id: (row.key, from_micros(row.decided_at_us))
        for row in _rows(store, _PREDICTIONS, ids, use_case=use_case)
    }


def _rows(store: Store, query: sa.Select[Any], ids: Collection[str], **bound: str) -> Iterator[Any]:
    remaining = iter(ids)
    while chunk := list(islice(remaining, _CHUNK)):
        with store.reading() as connection:
            yield from connection.execute(query, {"ids": chunk, **bound})
