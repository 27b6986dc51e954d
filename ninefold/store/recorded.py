"""What passed through the system: predictions, truths and events, written once and read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Select

from ninefold.records import Event, Prediction, Truth
from ninefold.store.database import Database
from ninefold.store.rows import (
    EVENTS,
    PREDICTIONS,
    TRUTHS,
    Conflict,
    Joined,
    Kind,
    from_micros,
    to_micros,
    truth_from,
)  # fmt: skip
from ninefold.store.tables import conflicts, events, predictions, truths
from ninefold.store.writing import Preparing, Written, write, write_rows
from ninefold.truths import RANK

if TYPE_CHECKING:
    import pyarrow as pa

RecordKind = Literal["predictions", "truths", "events"]

_FETCH = 2_000

_T = TypeVar("_T", Prediction, Truth, Event)


class Records(Database):
    """Predictions, truths and events. A record is kept once, as it was first; ``Written`` tells what came anew."""

    def write_predictions(self, records: Iterable[Prediction]) -> Written:
        """Keeps the predictions that are not kept yet; how many those were.

        Raises:
            StoreError: The database refuses; what was written before it did is kept, and the call can be repeated.
            DataError: A record can't be kept (a value is not finite, a time is naive).
        """
        return write(self, PREDICTIONS, records)

    def write_prediction_rows(self, rows: Iterable[dict[str, Any]]) -> Written:
        """As ``write_predictions``, of rows that ``journalled.row_of`` made."""
        return write_rows(self, PREDICTIONS, rows)

    def write_truths(self, records: Iterable[Truth]) -> Written:
        """Keeps the truths that are not kept yet, all of a key's; how many those were. Raises as above."""
        return write(self, TRUTHS, records)

    def write_events(self, records: Iterable[Event], prepare: Preparing | None = None) -> Written:
        """Keeps the events that are not kept yet, in the given order; how many those were. Raises as above.

        Args:
            records: The events.
            prepare: What becomes of their rows in their transaction (``tailing.lifted_past_closed``).
        """
        return write(self, EVENTS, records, prepare)

    def predictions(
        self,
        use_case: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        version: int | None = None,
        key: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Prediction]:
        """Predictions by decision moment, oldest first.

        Args:
            use_case: Name of the use case.
            since: Least decision moment.
            until: Decision moment that lies just past the last one.
            version: Only those that this version answered.
            key: Only those of this key.
            limit: At most so many.
        """
        where = [predictions.c.use_case == use_case, *_between(predictions.c.decided_at_us, since, until)]
        if version is not None:
            where.append(predictions.c.version == version)
        if key is not None:
            where.append(predictions.c.key == key)
        query = sa.select(predictions).where(*where)
        yield from self._records(
            PREDICTIONS, query.order_by(predictions.c.decided_at_us, predictions.c.prediction_id).limit(limit)
        )

    def prediction(self, prediction_id: str) -> Prediction | None:
        """One prediction; None when there is none of that id."""
        query = sa.select(predictions).where(predictions.c.prediction_id == prediction_id)
        with self.reading() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else PREDICTIONS.from_row(row)

    def truths(self, use_case: str, *, known_until: datetime | None = None) -> Iterator[Truth]:
        """Of each key the truth that counts (``truths.precedence``), by key.

        Args:
            use_case: Name of the use case.
            known_until: What was known at this instant; None for all that is known.
        """
        rank = sa.func.row_number().over(partition_by=truths.c.key, order_by=_standing_first(truths))
        ranked = (
            sa.select(truths, rank.label("rank")).where(truths.c.use_case == use_case, *_known(known_until)).subquery()
        )
        yield from self._records(TRUTHS, sa.select(ranked).where(ranked.c.rank == 1).order_by(ranked.c.key))

    def truth_history(self, use_case: str, key: str) -> list[Truth]:
        """Every truth of a key, the one that counts first."""
        of_key = (truths.c.use_case == use_case, truths.c.key == key)
        query = sa.select(truths).where(*of_key).order_by(*_standing_first(truths))
        return list(self._records(TRUTHS, query))

    def joined(
        self,
        use_case: str,
        since: datetime | None = None,
        until: datetime | None = None,
        known_until: datetime | None = None,
    ) -> Iterator[Joined]:
        """Predictions with the truth that counts of their key, by decision moment, streaming.

        Args:
            use_case: Name of the use case.
            since: Least decision moment.
            until: Decision moment that lies just past the last one.
            known_until: Truths as they were known at this instant; None for all that is known.
        """
        inner = truths.alias()
        newest = (
            sa.select(inner.c.truth_id)
            .where(inner.c.use_case == predictions.c.use_case, inner.c.key == predictions.c.key)
            .where(*_known(known_until, inner))
            .order_by(*_standing_first(inner))
            .limit(1)
            .correlate(predictions)
            .scalar_subquery()
        )
        query = (
            sa.select(predictions, *(column.label(f"truth_{column.name}") for column in truths.c))
            .select_from(predictions.outerjoin(truths, truths.c.truth_id == newest))
            .where(predictions.c.use_case == use_case, *_between(predictions.c.decided_at_us, since, until))
            .order_by(predictions.c.decided_at_us, predictions.c.prediction_id)
        )
        for row in self._rows(query):
            truth = None if row.truth_truth_id is None else truth_from(row, prefix="truth_")
            yield Joined(prediction=PREDICTIONS.from_row(row), truth=truth)

    def events(
        self, use_case: str, stream: str | None = None, *, after_cursor: int = 0, limit: int = 1_000
    ) -> tuple[list[Event], int]:
        """The next events after a cursor, in the order in which they were committed: none slips past.

        Args:
            use_case: Name of the use case.
            stream: Only this stream.
            after_cursor: What the last call returned; 0 for the first.
            limit: At most so many.

        Returns:
            The events, and the cursor to go on from.
        """
        where = [events.c.use_case == use_case, events.c.cursor > after_cursor]
        if stream is not None:
            where.append(events.c.stream == stream)
        with self.reading() as connection:
            rows = connection.execute(sa.select(events).where(*where).order_by(events.c.cursor).limit(limit)).all()
        return [EVENTS.from_row(row) for row in rows], rows[-1].cursor if rows else after_cursor

    def events_known(
        self,
        use_case: str,
        stream: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        up_to_cursor: int | None = None,
    ) -> Iterator[Event]:
        """Events of a stream by when they were known, oldest first: the log that a new window is filled from.

        Args:
            use_case: Name of the use case.
            stream: Name of the stream.
            since: Least ``known_at``.
            until: ``known_at`` that lies just past the last one.
            up_to_cursor: Only events up to this cursor: what somebody who tails has seen.
        """
        where = [
            events.c.use_case == use_case,
            events.c.stream == stream,
            *_between(events.c.known_at_us, since, until),
        ]
        if up_to_cursor is not None:
            where.append(events.c.cursor <= up_to_cursor)
        query = sa.select(events).where(*where).order_by(events.c.known_at_us, events.c.cursor)
        yield from self._records(EVENTS, query)

    def conflicts(self, *, limit: int = 1_000) -> list[Conflict]:
        """Records that came under an id which another content holds, newest first."""
        query = sa.select(conflicts).order_by(conflicts.c.seen_at_us.desc(), conflicts.c.conflict_id).limit(limit)
        return [
            Conflict(
                kind=row.kind,
                use_case=row.use_case,
                record_id=row.record_id,
                content=row.content,
                seen_at=from_micros(row.seen_at_us),
            )
            for row in self._rows(query)
        ]

    def arrow(
        self, kind: RecordKind, use_case: str, since: datetime | None = None, until: datetime | None = None
    ) -> pa.Table:
        """Records in bulk, by time, as an Arrow table: times in UTC microseconds, documents as JSON text.

        Args:
            kind: ``predictions`` (by ``decided_at``), ``truths`` (all history) or ``events`` (by ``known_at``).
            use_case: Name of the use case.
            since: Least instant.
            until: Instant that lies just past the last one.
        """
        from ninefold.store.arrow import arrow_query, to_arrow

        kinds: dict[str, Kind[Any]] = {"predictions": PREDICTIONS, "truths": TRUTHS, "events": EVENTS}
        of = kinds[kind]
        time = of.table.c[of.time]
        query = arrow_query(of.table).where(of.table.c.use_case == use_case, *_between(time, since, until))
        with self.reading() as connection:
            result = connection.execution_options(yield_per=20_000).execute(
                query.order_by(time, of.table.c[of.identity])
            )
            return to_arrow(of.table, (chunk for chunk in result.partitions()))

    def _records(self, kind: Kind[_T], query: Select[Any]) -> Iterator[_T]:
        return map(kind.from_row, self._rows(query))

    def _rows(self, query: Select[Any]) -> Iterator[Any]:
        # Both are closed when a reader stops half-way.
        with self.reading() as connection, connection.execution_options(yield_per=_FETCH).execute(query) as result:
            yield from result


def _standing_first(table: Any) -> tuple[ColumnElement[Any], ...]:
    """``truths.precedence`` in SQL, the greatest first."""
    rank = sa.case(RANK, value=table.c.source, else_=-1)
    return rank.desc(), table.c.known_at_us.desc(), table.c.received_at_us.desc(), table.c.truth_id.desc()


def _between(time: ColumnElement[int], since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    bounds = []
    if since is not None:
        bounds.append(time >= to_micros(since))
    if until is not None:
        bounds.append(time < to_micros(until))
    return bounds


def _known(until: datetime | None, table: Any = truths) -> list[ColumnElement[bool]]:
    return [] if until is None else [table.c.known_at_us <= to_micros(until)]
