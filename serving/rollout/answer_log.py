"""What was answered while a rollout is open, as columns, kept up to date from the store at little cost.

Only answers that name the rollout are looked at: the front end names it as soon as it goes by it, and an answer from
before has no counterpart to be compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from ninefold.clock import parse_instant
from ninefold.cohorts import CohortRules, cohort_of
from ninefold.errors import DataError, InvalidInput
from ninefold.records import entity_key
from ninefold.store.tables import predictions
from ninefold.usecase import UseCase
from serving.front_end.columns import ColumnMaker
from serving.rollout.hours import Hours
from serving.rollout.null_counter import NullCounter
from serving.rollout.truth_log import Codes

log = structlog.get_logger()

Array = np.ndarray[Any, Any]

COHORTS = ("live", "candidate", "shadow")
LIVE, CANDIDATE, SHADOW = range(3)
_ERRORS = frozenset({"model_unreachable", "model_slow", "model_error"})
ANSWERED, ERROR, FALLBACK = range(3)
"""Of an answer: the version's own; none that it could give; given in its place, without asking it."""

_KINDS: Mapping[str, Any] = {
    "key": np.int64, "block": np.int64, "cohort": np.int8, "version": np.int64, "outcome": np.int8, "value": float,
    "decided": np.int64, "received": np.int64, "latency_ms": float, "revision": np.int64, "drawn": bool,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AnswerColumns:
    """Answers, one a row.

    Args:
        key: Number of the key.
        block: Number of the block's label.
        cohort: ``LIVE``, ``CANDIDATE`` or ``SHADOW``.
        version: The version that answered.
        outcome: ``ANSWERED``, ``ERROR`` or ``FALLBACK``.
        value: The prediction.
        decided: Decision moment, microseconds since 1970.
        received: When it was asked, likewise.
        latency_ms: How long it took.
        revision: Revision of the rollout that it was answered under; 0 where it names none.
        drawn: Whether chance decided the cohort; not so for who is listed, or outside of the audience.
    """

    key: Array
    block: Array
    cohort: Array
    version: Array
    outcome: Array
    value: Array
    decided: Array
    received: Array
    latency_ms: Array
    revision: Array
    drawn: Array

    def __len__(self) -> int:
        return len(self.key)


@dataclass(frozen=True, slots=True)
class _Part:
    """One hour."""

    columns: tuple[Array, ...]
    nulls: Array
    asked: int
    live_nulls: Array


class AnswerLog:
    """The answers of one rollout.

    Args:
        use_case: Whose.
        rollout_id: Id of the rollout.
        rules: Its cohorts, at the share 1: who is then in it was drawn by chance.
        since: Least decision moment that is looked for, in microseconds.
        nulls: Counts the nulls of what the candidate was asked; None counts none.
        live_nulls: Counts the nulls of what the incumbent was asked meanwhile; None counts none.
        keys: Numbers of keys; new ones are added.
    """

    def __init__(
        self, use_case: UseCase, rollout_id: str, rules: CohortRules, since: int, nulls: NullCounter | None,
        live_nulls: NullCounter | None, keys: Codes,
    ) -> None:  # fmt: skip
        self._use_case = use_case
        self._rules = rules
        self._counter = nulls
        self._live_counter = live_nulls
        self._keys = keys
        self._blocks = Codes()
        names = [field.name for field in use_case.request]
        self._names = names
        self._key = [names.index(name) for name in rules.audience.unit or use_case.key]
        self._columns = ColumnMaker([(field.name, field.kind) for field in use_case.request])
        self._times = [place for place, field in enumerate(use_case.request) if field.kind == "time"]
        table = predictions.c
        asked = table.cohort.in_(COHORTS if live_nulls is not None else COHORTS[1:])
        self._query = (
            sa.select(
                table.key, table.cohort, table.version, table.fallback, table.value, table.decided_at_us,
                table.received_at_us, table.latency_ms, table.rollout_revision, table.request,
                sa.case((asked, table.features)).label("features"),
            )
            .where(
                table.use_case == use_case.name, table.rollout_id == rollout_id, table.cohort.in_(COHORTS),
                table.decided_at_us >= sa.bindparam("since"), table.decided_at_us < sa.bindparam("until"),
            )
            .order_by(table.decided_at_us, table.prediction_id)
        )  # fmt: skip
        where = (predictions.c.use_case == use_case.name, predictions.c.decided_at_us >= since)
        self._hours = Hours(predictions.c.decided_at_us, where, self._read)
        self.columns = AnswerColumns(*(np.empty(0, dtype=kind) for kind in _KINDS.values()))
        """All answers, by decision moment."""
        self.nulls: Array | None = None if nulls is None else nulls.count([], [])
        """Nulls of each of the candidate's inputs in ``asked`` answers; NaN where unknown, None where nobody counts."""
        self.asked = 0
        """Answers that the candidate gave or was to give."""
        self.live_nulls: Array | None = None if live_nulls is None else live_nulls.count([], [])
        """As ``nulls``, of the incumbent's inputs in all other answers."""

    @property
    def labels(self) -> list[str]:
        """Labels of blocks by their numbers."""
        return list(self._blocks)

    def look(self, connection: Connection) -> None:
        """Reads what came since the last look.

        Raises:
            DataError: The use case's own code fails on what was answered.
        """
        if not self._hours.look(connection):
            return
        parts = self._hours.parts
        self.columns = AnswerColumns(
            *(
                np.concatenate([part.columns[n] for part in parts] or [np.empty(0, dtype=kind)])
                for n, kind in enumerate(_KINDS.values())
            )
        )
        self.asked = sum(part.asked for part in parts)
        if self._counter is not None:
            self.nulls = sum((part.nulls for part in parts), self._counter.count([], []))
        if self._live_counter is not None:
            self.live_nulls = sum((part.live_nulls for part in parts), self._live_counter.count([], []))

    def _read(self, connection: Connection, since: int, until: int) -> _Part:
        rows = connection.execute(self._query, {"since": since, "until": until}).all()
        if not rows:
            nulls, live_nulls = (self._nulls_of(of, [], []) for of in (self._counter, self._live_counter))
            return _Part(tuple(np.empty(0, dtype=kind) for kind in _KINDS.values()), nulls, 0, live_nulls)
        requests, blocks = self._labelled([row.request for row in rows])
        listed = (
            [self._keys[row.key] for row in rows],
            blocks,
            [COHORTS.index(row.cohort) for row in rows],
            [row.version for row in rows],
            [ANSWERED if r.fallback is None else ERROR if r.fallback in _ERRORS else FALLBACK for r in rows],
            [row.value for row in rows],
            [row.decided_at_us for row in rows],
            [row.received_at_us for row in rows],
            [row.latency_ms for row in rows],
            [row.rollout_revision or 0 for row in rows],
            [self._is_drawn(request) for request in requests],
        )
        columns = tuple(np.array(c, dtype=kind) for c, kind in zip(listed, _KINDS.values(), strict=True))
        live = [row.cohort == "live" for row in rows]
        nulls, live_nulls = (
            self._nulls_of(counter, list(compress(rows, chosen)), list(compress(requests, chosen)))
            for counter, chosen in ((self._counter, [not is_live for is_live in live]), (self._live_counter, live))
        )
        return _Part(columns, nulls, len(rows) - sum(live), live_nulls)

    def _labelled(self, requests: list[Mapping[str, Any]]) -> tuple[list[list[Any]], list[int]]:
        """The values of requests, and the numbers of their blocks."""
        try:
            # What the front end has checked needs nothing but its times to be read.
            values = [self._plain(request) for request in requests]
            columns = self._columns.make(values)
        except (KeyError, TypeError, ValueError, InvalidInput):
            values = [self._checked(request) for request in requests]
            columns = self._columns.make(values)
        try:
            labels = self._use_case.block(columns)
        except Exception as error:
            # The use case's own code may raise anything.
            raise DataError(f"The block of {self._use_case.name} can't be told of its requests: {error!r}.") from error
        return values, [self._blocks[str(label)] for label in labels.tolist()]

    def _plain(self, request: Mapping[str, Any]) -> list[Any]:
        values = [request[name] for name in self._names]
        for place in self._times:
            if values[place] is not None:
                values[place] = parse_instant(values[place])
        return values

    def _checked(self, request: Mapping[str, Any]) -> list[Any]:
        """The same of a request from when the use case was declared otherwise: what does not fit is missing."""
        values = []
        for field in self._use_case.request:
            value = request.get(field.name)
            try:
                values.append(None if value is None else field.check(value))
            except InvalidInput:
                values.append(None)
        return values

    def _nulls_of(self, counter: NullCounter | None, rows: list[Any], requests: list[list[Any]]) -> Array:
        if counter is None:
            return np.empty(0)
        try:
            return counter.count(requests, [row.features or {} for row in rows])
        except Exception as error:
            # The use case's own code may raise anything; what nobody could count is unknown, and not a null.
            log.error("nulls can't be counted", use_case=self._use_case.name, error=repr(error))
            return counter.count([], []) * np.nan

    def _is_drawn(self, request: list[Any]) -> bool:
        if self._rules.is_simple:
            return True
        unit = entity_key([request[place] for place in self._key])
        if unit in self._rules.audience.listed:
            return False
        return cohort_of(self._rules, dict(zip(self._names, request, strict=True)), unit) == "candidate"
