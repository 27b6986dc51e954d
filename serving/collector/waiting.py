"""Feedback on predictions that the store does not have yet: joined when they come, however late.

A prediction is in its front end's journal before the answer leaves, and in the store a moment later; after the death
of a machine, days later. Until then what was said of it lies in a stream of its own. Each collector follows that
stream; what two of them join is the same record, and kept once.
"""

from __future__ import annotations

from ninefold.records import WAITING_STREAM, Event
from ninefold.store import Store
from serving.collector.feedback import joined
from serving.collector.inputs import EventInput, TruthInput
from serving.collector.keeper import Batch
from serving.collector.lookup import predictions_of

MOST = 10_000
"""Feedback that is remembered; past it the oldest is looked for again when a collector starts."""

_READ = 1_000
_SELDOM = 30


class WaitingFeedback:
    """What waits, of one use case. For one thread.

    Args:
        use_case: Name of the use case.
        store: The production database.
    """

    def __init__(self, use_case: str, store: Store) -> None:
        self._use_case = use_case
        self._store = store
        self._cursor = 0
        self._waiting: dict[str, Event] = {}
        self._new: set[str] = set()
        self._looks = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def due(self) -> Batch | None:
        """What can be joined now; None where nothing can.

        What came since the last look is looked for at every look for a while, the rest at every thirtieth.

        Raises:
            StoreError: The store can't be read.
        """
        self._follow()
        self._looks += 1
        if seldom := self._looks % _SELDOM == 0:
            self._new.clear()
        asked = self._waiting if seldom else self._new & self._waiting.keys()
        if not asked:
            return None
        ids = {str(self._waiting[event_id].values["prediction_id"]) for event_id in asked}
        found = predictions_of(self._store, self._use_case, ids)
        truths: list[TruthInput] = []
        events: list[EventInput] = []
        for event_id in list(asked):
            event = self._waiting[event_id]
            prediction = found.get(str(event.values["prediction_id"]))
            if prediction is None:
                continue
            made = joined(event, *prediction)
            if isinstance(made, TruthInput):
                truths.append(made)
            else:
                events.append(made)
            del self._waiting[event_id]
        return Batch(truths=truths, events=events) if truths or events else None

    def _follow(self) -> None:
        while True:
            events, self._cursor = self._store.events(
                self._use_case, WAITING_STREAM, after_cursor=self._cursor, limit=_READ
            )
            for event in events:
                self._waiting[event.event_id] = event
                self._new.add(event.event_id)
            if len(events) < _READ:
                break
        for event_id in list(self._waiting)[: max(0, len(self._waiting) - MOST)]:
            del self._waiting[event_id]
