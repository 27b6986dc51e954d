"""The truth that counts of every key, as it was known at a moment, kept up to date from the store at little cost.

What users say is no evidence, and is not read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ninefold.store.tables import truths
from ninefold.truths import EVIDENCE, RANK, standing_values
from serving.rollout.hours import Hours

Array = np.ndarray[Any, Any]


class Codes(dict[str, int]):
    """Text → a number of its own, from 0 on: what is compared often is compared as numbers."""

    def __missing__(self, text: str) -> int:
        number = self[text] = len(self)
        return number


class _Truths(NamedTuple):
    """Truths of one hour, by when they were known; of the same instant as the store orders them."""

    key: Array
    value: Array
    known: Array
    received: Array
    rank: Array


class TruthLog:
    """All truths of a use case from an instant on that are evidence.

    Args:
        use_case: Name of the use case.
        since: Least ``known_at``, in microseconds.
        keys: Numbers of keys; those of truths are added.
    """

    def __init__(self, use_case: str, since: int, keys: Codes) -> None:
        self._keys = keys
        self._query = (
            sa.select(truths.c.key, truths.c.value, truths.c.known_at_us, truths.c.received_at_us, truths.c.source)
            .where(
                truths.c.use_case == use_case, truths.c.source.in_(EVIDENCE),
                truths.c.known_at_us >= sa.bindparam("since"), truths.c.known_at_us < sa.bindparam("until"),
            )
            .order_by(truths.c.known_at_us, truths.c.received_at_us, truths.c.truth_id)
        )  # fmt: skip
        where = (truths.c.use_case == use_case, truths.c.known_at_us >= since)
        self._hours = Hours(truths.c.known_at_us, where, self._read)
        self._all = _Truths(*(np.empty(0, dtype=kind) for kind in (np.int64, float, np.int64, np.int64, np.int8)))

    def look(self, connection: Connection) -> None:
        """Reads what came since the last look."""
        if self._hours.look(connection):
            parts = self._hours.parts
            columns = range(len(_Truths._fields))
            self._all = _Truths(*(np.concatenate([part[n] for part in parts] or [self._all[n][:0]]) for n in columns))

    def newest(self, at: int) -> Array:
        """By the number of the key: the truth that counted at an instant; NaN where none was known."""
        known = self._all.known <= at
        of = self._all
        return standing_values(of.key[known], of.value[known], of.rank[known], len(self._keys))

    def received_until(self, at: int) -> int | None:
        """When the newest truth that was known at an instant came in; None where there is none."""
        received = self._all.received[self._all.known <= at]
        return int(received.max()) if len(received) else None

    def _read(self, connection: Connection, since: int, until: int) -> _Truths:
        rows = connection.execute(self._query, {"since": since, "until": until}).all()
        key, value, known, received, source = zip(*rows, strict=True) if rows else ((), (), (), (), ())
        return _Truths(
            np.array([self._keys[text] for text in key], dtype=np.int64),
            np.array(value, dtype=float),
            np.array(known, dtype=np.int64),
            np.array(received, dtype=np.int64),
            np.array([RANK[name] for name in source], dtype=np.int8),
        )
