"""Removes records past their cut-off: in batches, each a transaction that also records what it removed.

So services go on writing between batches, and a pruning that is killed has recorded exactly what it did.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from ninefold.settings import Retention
from ninefold.store.retention import (
    Cutoff,
    cutoff,
    events_cutoff,
    predictions_cutoff,
    truths_cutoff,
)  # fmt: skip
from ninefold.store.rollout_rows import ENDED
from ninefold.store.rows import from_micros, to_micros
from ninefold.store.store import Store
from ninefold.store.tables import (
    conflicts,
    events,
    label_annotations,
    label_tasks,
    metrics,
    predictions,
    prunings,
    rollouts,
    runs,
    truths,
)  # fmt: skip

BATCH = 1_000
"""Records a transaction: it holds SQLite's lock for some hundredths of a second."""

_LONGEST_PAUSE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """What a pruning removes of one kind.

    Args:
        kind: ``predictions``, ``packages``, …
        use_case: Name of the use case; empty for what belongs to none.
        removed: How many; in a dry run, how many would go.
        kept: How many stay.
        cutoff: What was older went; None where age doesn't decide.
        held_by: What kept the cut-off from being later, or the kind from being pruned.
    """

    kind: str
    use_case: str
    removed: int
    kept: int
    cutoff: datetime | None
    held_by: str = ""


@dataclass(frozen=True, slots=True)
class _Part:
    """Records of one kind that go."""

    kind: str
    use_case: str
    table: Table
    time: ColumnElement[int]
    where: tuple[ColumnElement[bool], ...]
    cutoff: Cutoff


def newest_instant(store: Store) -> datetime | None:
    """The newest instant that a record carries: "now" where event time is the clock. None for an empty store."""
    columns = (predictions.c.decided_at_us, truths.c.known_at_us, events.c.known_at_us)
    with store.reading() as connection:
        found = [connection.execute(sa.select(sa.func.max(column))).scalar() for column in columns]
    newest = max((micros for micros in found if micros is not None), default=None)
    return None if newest is None else from_micros(newest)


def use_cases_with_records(store: Store) -> list[str]:
    """Names of the use cases that have records."""
    with store.reading() as connection:
        names = {
            name
            for table in (predictions, truths, label_tasks, label_annotations, events, metrics, runs, conflicts)
            for name in connection.execute(sa.select(table.c.use_case).distinct()).scalars()
        }
    return sorted(names)


def version_lengths(store: Store, use_case: str) -> list[Mapping[str, str]]:
    """Window lengths of every version of a use case."""
    return [version.lengths for version in store.versions(use_case)]


def prune_records(
    store: Store,
    policy: Retention,
    windows: Mapping[str, timedelta | None],
    *,
    now: datetime,
    actor: str,
    dry_run: bool = False,
    batch: int = BATCH,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Pruning]:
    """Removes the records that are past their cut-off, kind by kind.

    Args:
        store: The production database.
        policy: How long each kind is kept.
        windows: Use case → its longest window; None where nobody can say, which keeps its events.
        now: The instant that ages are counted to.
        actor: Who prunes.
        dry_run: Count, and remove nothing.
        batch: Records a transaction.
        pause: Waits between transactions, so that others get their turn.
    """
    for use_case, longest in windows.items():
        for part in _parts(store, policy, use_case, longest, now):
            if isinstance(part, Pruning):
                yield part
                continue
            total = _count(store, part.table, [part.where[0]])
            if dry_run:
                removed = _count(store, part.table, [*part.where, part.time < to_micros(part.cutoff.before)])
            else:
                removed = _prune(store, part, now, actor, batch, pause)
            yield Pruning(
                kind=part.kind,
                use_case=use_case,
                removed=removed,
                kept=max(0, total - removed),
                cutoff=part.cutoff.before,
                held_by=part.cutoff.held_by,
            )


def record_pruning(
    connection: Connection,
    kind: str,
    removed: int,
    *,
    at: datetime,
    actor: str,
    use_case: str = "",
    cutoff: datetime | None = None,
    pruning_id: str | None = None,
) -> str:
    """Notes what was removed; under an id that is known already, adds to it. Returns the id."""
    pruning_id = pruning_id or uuid.uuid4().hex
    insert = (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(prunings)
    noting = insert.values(
        pruning_id=pruning_id,
        kind=kind,
        use_case=use_case,
        removed=removed,
        cutoff_us=None if cutoff is None else to_micros(cutoff),
        at_us=to_micros(at),
        actor=actor,
    )
    connection.execute(
        noting.on_conflict_do_update(
            index_elements=[prunings.c.pruning_id], set_={"removed": prunings.c.removed + removed}
        )
    )
    return pruning_id


def _parts(
    store: Store, policy: Retention, use_case: str, longest: timedelta | None, now: datetime
) -> Iterator[_Part | Pruning]:
    """The kinds of a use case that have a cut-off, in the order in which one frees the next."""
    of_predictions = predictions_cutoff(policy, now, _rollout_since(store, use_case))
    if of_predictions is not None:
        mine = (predictions.c.use_case == use_case, predictions.c.received_at_us < to_micros(of_predictions.before))
        yield _Part("predictions", use_case, predictions, predictions.c.decided_at_us, mine, of_predictions)
        yield _aside("predictions", use_case, of_predictions)
    if (of_truths := truths_cutoff(policy, now, of_predictions)) is not None:
        # Labels are what truths were made of, and no annotation is collected whose task is gone.
        for table, known, came in (
            (truths, truths.c.known_at_us, truths.c.received_at_us),
            (label_tasks, label_tasks.c.sent_at_us, label_tasks.c.sent_at_us),
            (label_annotations, label_annotations.c.said_at_us, label_annotations.c.received_at_us),
        ):
            kept = _kept_prediction(table, of_predictions)
            old = (table.c.use_case == use_case, came < to_micros(of_truths.before), ~kept.exists())
            yield _Part(table.name, use_case, table, known, old, of_truths)
            yield _aside(table.name, use_case, of_truths)
    yield from _event_parts(store, policy, use_case, longest, now, of_predictions)
    if (of_metrics := cutoff(policy.metrics_days, now)) is not None:
        yield _Part("metrics", use_case, metrics, metrics.c.at_us, (metrics.c.use_case == use_case,), of_metrics)
    if (of_runs := cutoff(policy.runs_days, now)) is not None:
        ended = (runs.c.use_case == use_case, runs.c.state.in_(("succeeded", "failed")))
        # A run that ended without an instant can't be told to be old.
        yield _Part("runs", use_case, runs, runs.c.ended_at_us, ended, of_runs)


def _kept_prediction(table: Table, of_predictions: Cutoff | None) -> sa.Select[int]:
    """Of a row's key, the predictions that are kept."""
    kept = sa.select(sa.literal(1)).where(predictions.c.use_case == table.c.use_case, predictions.c.key == table.c.key)
    if of_predictions is None:
        return kept
    before = to_micros(of_predictions.before)
    return kept.where(sa.or_(predictions.c.decided_at_us >= before, predictions.c.received_at_us >= before))


def _event_parts(
    store: Store,
    policy: Retention,
    use_case: str,
    longest: timedelta | None,
    now: datetime,
    of_predictions: Cutoff | None,
) -> Iterator[_Part | Pruning]:
    if policy.events_days is None:
        return
    if longest is None:
        total = _count(store, events, [events.c.use_case == use_case])
        why = "its windows are not known: name it by import path with --use-case"
        yield Pruning(kind="events", use_case=use_case, removed=0, kept=total, cutoff=None, held_by=why)
        return
    of_events = events_cutoff(policy, now, longest, _oldest_kept(store, use_case, of_predictions))
    if of_events is None:
        return
    with store.reading() as connection:
        names = connection.execute(sa.select(events.c.stream).distinct().where(events.c.use_case == use_case))
        streams = sorted(names.scalars())
    for stream in streams:
        # The index by time begins with the stream.
        mine = (
            sa.and_(events.c.use_case == use_case, events.c.stream == stream),
            events.c.received_at_us < to_micros(of_events.before),
        )
        yield _Part(f"events of {stream}", use_case, events, events.c.known_at_us, mine, of_events)
    yield _aside("events", use_case, of_events)


def _aside(kind: str, use_case: str, until: Cutoff) -> _Part:
    """What was turned away of a kind is kept no longer than the kind."""
    mine = (sa.and_(conflicts.c.use_case == use_case, conflicts.c.kind == kind),)
    return _Part(f"conflicts of {kind}", use_case, conflicts, conflicts.c.seen_at_us, mine, until)


def _rollout_since(store: Store, use_case: str) -> datetime | None:
    opened = sa.select(sa.func.min(rollouts.c.opened_at_us)).where(
        rollouts.c.use_case == use_case, rollouts.c.state.not_in(ENDED)
    )
    with store.reading() as connection:
        micros = connection.execute(opened).scalar()
    return None if micros is None else from_micros(micros)


def _oldest_kept(store: Store, use_case: str, of_predictions: Cutoff | None) -> datetime | None:
    oldest = sa.select(sa.func.min(predictions.c.decided_at_us)).where(predictions.c.use_case == use_case)
    if of_predictions is not None:
        before = to_micros(of_predictions.before)
        oldest = oldest.where(sa.or_(predictions.c.decided_at_us >= before, predictions.c.received_at_us >= before))
    with store.reading() as connection:
        micros = connection.execute(oldest).scalar()
    return None if micros is None else from_micros(micros)


def _count(store: Store, table: Table, where: Sequence[ColumnElement[bool]]) -> int:
    with store.reading() as connection:
        found: int = connection.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one()
        return found


def _prune(store: Store, part: _Part, now: datetime, actor: str, batch: int, pause: Callable[[float], None]) -> int:
    """Walks the kind in slices of its time, so that what has to stay in one is looked at once, not in every batch."""
    pruning_id, removed = uuid.uuid4().hex, 0
    identity: sa.Tuple = sa.tuple_(*part.table.primary_key.columns)
    until = to_micros(part.cutoff.before)
    for low, high in _slices(store, part, until, batch):
        while True:
            began = time.monotonic()
            gone = (
                sa.select(*part.table.primary_key.columns)
                .where(*part.where, part.time >= low, part.time < high)
                .limit(batch)
            )
            with store.writing() as connection:
                count = connection.execute(part.table.delete().where(identity.in_(gone))).rowcount
                if count:
                    record_pruning(
                        connection, part.kind, count, at=now, actor=actor, use_case=part.use_case,
                        cutoff=part.cutoff.before, pruning_id=pruning_id,
                    )  # fmt: skip
            removed += count
            if count:
                pause(min(time.monotonic() - began, _LONGEST_PAUSE))
            if count < batch:
                break
    return removed


def _slices(store: Store, part: _Part, until: int, batch: int) -> Iterator[tuple[int, int]]:
    """Spans of time before ``until`` of about a batch each, those without a record left out."""
    low: int | None = None
    while True:
        after = [part.where[0], part.time < until] + ([part.time >= low] if low is not None else [])
        ordered = sa.select(part.time).where(*after).order_by(part.time)
        with store.reading() as connection:
            first = connection.execute(ordered.limit(1)).scalar()
            if first is None:
                return
            next_slice = connection.execute(ordered.offset(batch).limit(1)).scalar()
        high = until if next_slice is None else max(next_slice, first + 1)
        yield first, high
        low = high
