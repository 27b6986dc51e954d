"""Keeping what came in: records out of inputs, into the store, into the windows. One thread, no HTTP.

Several requests are kept as one group, so that they share a commit. Order matters: an event is in the log before a
window counts it, and a window is online before its watermark is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Protocol

import orjson

from ninefold.clock import RESOLUTION, Clock, EventClock, format_instant
from ninefold.records import Event, Truth, derived_id
from ninefold.store import Store, Written
from ninefold.store.tailing import lifted_past_closed
from ninefold.truths import standing
from serving.collector.inputs import EventInput, TruthInput
from serving.collector.lookup import kept_truths, last_written, predicted_keys
from serving.featurizer import lift

_Teller = tuple[str, str, str | None]
"""Key, source and annotator of a truth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one request brings.

    Args:
        truths: Checked truths.
        events: Checked events.
        advance_to: Where it moves the watermark, in event time.
        waiting: Of its events, feedback that waits for its prediction.
    """

    truths: Sequence[TruthInput] = ()
    events: Sequence[EventInput] = ()
    advance_to: datetime | None = None
    waiting: int = 0

    def __len__(self) -> int:
        return len(self.truths) + len(self.events)


@dataclass(slots=True)
class Outcome:
    """What became of one batch.

    Args:
        accepted: Records that it held; all are kept.
        new: Those that were not kept yet.
        repeated: Those that were.
        conflicting: Of the repeated ones, those whose id holds another content. That one stands; this is kept aside.
        late: New events that came after the watermark had passed them, and were lifted past it.
        unmatched: Truths of keys that nothing was predicted for, yet.
        waiting: Feedback whose prediction is not known, yet.
        watermark: How far the windows reach.
        reach: Where they have to come to hold what the batch brought, where another process keeps them.
    """

    accepted: int = 0
    new: int = 0
    repeated: int = 0
    conflicting: int = 0
    late: int = 0
    unmatched: int = 0
    waiting: int = 0
    watermark: datetime | None = None
    reach: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """The answer to the client."""
        return {
            "accepted": self.accepted,
            "new": self.new,
            "repeated": self.repeated,
            "conflicting": self.conflicting,
            "late": self.late,
            "unmatched": self.unmatched,
            "waiting": self.waiting,
            "watermark": None if self.watermark is None else format_instant(self.watermark),
        }


@dataclass(slots=True)
class _Plan:
    """A batch's records, as they are to be written."""

    outcome: Outcome
    new_events: list[Event] = field(default_factory=list)
    truths: list[Truth] = field(default_factory=list)

    def count(self, *, new: int, repeated: Sequence[str], written: Written) -> None:
        """Adds what was written of one kind to the outcome."""
        self.outcome.new += new
        self.outcome.repeated += len(repeated)
        self.outcome.conflicting += len(set(repeated) & set(written.conflicts))


class Windows(Protocol):
    """What keeps the windows: the streaming featurizer, or another process."""

    @property
    def elsewhere(self) -> bool:
        """Whether another process keeps them, and closes instants in the store."""
        ...

    @property
    def watermark(self) -> datetime | None:
        """How far they reach."""
        ...

    def apply(self, events: Iterable[Event]) -> None:
        """Takes accepted events."""
        ...

    def advance(self, to: datetime) -> None:
        """Moves the watermark."""
        ...

    def flush(self) -> None:
        """Writes what changed."""
        ...


class Keeper:
    """Keeps batches of one use case. For one thread.

    Where it keeps the windows too, one instance a use case: it alone knows the watermark. Where another process does,
    any number of them.

    Args:
        use_case: Name of the use case.
        store: The production database.
        windows: The streaming featurizer, restored; or what stands for another process.
        clock: The wall clock; or an event clock, which stands where the watermark stands.
        mode: Which of the two.
    """

    def __init__(
        self, use_case: str, store: Store, windows: Windows, clock: Clock, mode: Literal["wall", "event"]
    ) -> None:
        self._use_case = use_case
        self._store = store
        self._windows = windows
        self._clock = clock
        self._mode = mode
        self._stamped: datetime | None = None
        self._follow()

    def keep(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Writes a group of batches and counts their events; ``flush`` then writes the windows.

        Raises:
            StoreError: The store refuses. Part may be kept; nothing is acknowledged, and a retry is idempotent.
            DataError: A record can't be kept; likewise.
        """
        plans = [_Plan(Outcome(accepted=len(batch), waiting=batch.waiting)) for batch in batches]
        now = self._clock.now()
        if any(batch.events for batch in batches):
            self._log_events(batches, plans, now)
        self._count_events(batches, plans, now)
        if any(batch.truths for batch in batches):
            self._keep_truths(batches, plans, now)
        return [plan.outcome for plan in plans]

    def tick(self) -> None:
        """Lets time pass, where the wall clock is the watermark's."""
        if self._mode == "wall":
            self._windows.advance(self._clock.now())

    def flush(self) -> None:
        """Writes the windows that changed, and their watermark.

        Raises:
            StoreError: The online store refuses; the next call tries again.
        """
        self._windows.flush()

    @property
    def watermark(self) -> datetime | None:
        """How far the windows reach."""
        return self._windows.watermark

    def _log_events(self, batches: Sequence[Batch], plans: Sequence[_Plan], now: datetime) -> None:
        """Writes the events at the instants at which windows will count them, and finds out which are new."""
        elsewhere = self._windows.elsewhere
        # The store alone knows then how far events are closed.
        mark = None if elsewhere else self._windows.watermark
        received: list[list[Event]] = []
        lifted: list[list[Event]] = []
        for batch in batches:
            received.append([self._event(given, now) for given in batch.events])
            lifted.append(lift(received[-1], mark))
            if batch.advance_to is not None:
                mark = batch.advance_to if mark is None else max(mark, batch.advance_to)
        written = self._store.write_events(
            (event for mine in lifted for event in mine), lifted_past_closed if elsewhere else None
        )
        new = {event.event_id for mine in lifted for event in mine}
        if written.repeated:
            new = last_written(self._store, new, int(written))
        for plan, came, kept in zip(plans, received, lifted, strict=True):
            repeated: list[str] = []
            for as_it_came, event in zip(came, kept, strict=True):
                if event.event_id not in new:
                    repeated.append(event.event_id)
                    continue
                # The same event once more in the group is a repetition.
                new.remove(event.event_id)
                plan.new_events.append(event)
                plan.outcome.late += event.known_at > as_it_came.known_at
            plan.count(new=len(plan.new_events), repeated=repeated, written=written)

    def _count_events(self, batches: Sequence[Batch], plans: Sequence[_Plan], now: datetime) -> None:
        for batch, plan in zip(batches, plans, strict=True):
            self._windows.apply(plan.new_events)
            if batch.advance_to is not None:
                self._windows.advance(batch.advance_to)
        if self._mode == "wall":
            # Lifted events can lie a little ahead of the clock.
            self._windows.advance(max([now, *(event.known_at for plan in plans for event in plan.new_events)]))
        mark = self._windows.watermark
        for plan in plans:
            plan.outcome.watermark = mark
            if self._windows.elsewhere:
                plan.outcome.reach = now if mark is None else max(now, mark + RESOLUTION)
        self._follow()

    def _keep_truths(self, batches: Sequence[Batch], plans: Sequence[_Plan], now: datetime) -> None:
        known = kept_truths(self._store, {_truth_id(self._use_case, t) for batch in batches for t in batch.truths})
        said: dict[_Teller, float] = {}
        repeated: list[list[str]] = []
        for batch, plan in zip(batches, plans, strict=True):
            again = []
            for given in batch.truths:
                truth = self._truth(given, now)
                if truth.truth_id in known and self._says_something_else(given, said):
                    # Back to what was said before: another truth, though it reads the same.
                    truth = replace(truth, truth_id=derived_id(truth.truth_id, format_instant(truth.known_at)))
                if truth.truth_id in known:
                    again.append(truth.truth_id)
                    if given.known_at is None:
                        truth = replace(truth, known_at=known[truth.truth_id])
                known.setdefault(truth.truth_id, truth.known_at)
                if given.known_at is None:
                    said[_teller(given)] = truth.value
                plan.truths.append(truth)
            repeated.append(again)
        written = self._store.write_truths(truth for plan in plans for truth in plan.truths)
        predicted = predicted_keys(self._store, self._use_case, {t.key for plan in plans for t in plan.truths})
        for plan, again in zip(plans, repeated, strict=True):
            plan.count(new=len(plan.truths) - len(again), repeated=again, written=written)
            plan.outcome.unmatched = sum(truth.key not in predicted for truth in plan.truths)

    def _says_something_else(self, given: TruthInput, said: dict[_Teller, float]) -> bool:
        """Whether a truth that came without id and time differs from what the same teller last said of its key."""
        if given.id is not None or given.known_at is not None:
            return False
        if (teller := _teller(given)) in said:
            return said[teller] != given.value
        history = self._store.truth_history(self._use_case, given.key)
        last = standing(t for t in history if (t.source, t.annotator) == (given.source, given.annotator))
        return last is not None and last.value != given.value

    def _event(self, given: EventInput, now: datetime) -> Event:
        known_at = now if self._mode == "wall" else given.known_at or given.happened_at
        return Event(
            event_id=given.id or _event_id(self._use_case, given),
            use_case=self._use_case,
            stream=given.stream,
            happened_at=given.happened_at,
            known_at=known_at,
            received_at=max(known_at, now),
            values=given.values,
        )

    def _truth(self, given: TruthInput, now: datetime) -> Truth:
        known_at = given.known_at or self._stamp(now if given.earliest is None else max(now, given.earliest))
        return Truth(
            truth_id=_truth_id(self._use_case, given),
            use_case=self._use_case,
            key=given.key,
            value=given.value,
            known_at=known_at,
            received_at=now if self._mode == "wall" else max(known_at, now),
            source=given.source,
            annotator=given.annotator,
            note=given.note,
        )

    def _stamp(self, at_least: datetime) -> datetime:
        """An instant later than all that were given before, so that of two truths the one that came later wins."""
        self._stamped = at_least if self._stamped is None else max(at_least, self._stamped + RESOLUTION)
        return self._stamped

    def _follow(self) -> None:
        """Sets an event clock to the watermark."""
        if isinstance(self._clock, EventClock) and self._windows.watermark is not None:
            self._clock.advance(self._windows.watermark)


def _teller(given: TruthInput) -> _Teller:
    return given.key, given.source, given.annotator


def _event_id(use_case: str, given: EventInput) -> str:
    """An id out of the content: the same event sent again is the same."""
    values = orjson.dumps(given.values, option=orjson.OPT_SORT_KEYS).decode()
    known_at = "" if given.known_at is None else format_instant(given.known_at)
    return derived_id("event", use_case, given.stream, format_instant(given.happened_at), known_at, values)


def _truth_id(use_case: str, given: TruthInput) -> str:
    """The producer's id; else one out of the content."""
    known_at = "" if given.known_at is None else format_instant(given.known_at)
    return given.id or derived_id(
        "truth", use_case, given.key, repr(given.value), given.source, given.annotator or "", given.note or "", known_at
    )
