"""The streaming featurizer: events in, online rows out, a watermark that says how far they reach.

The rows are those of the windows' batch changelog: what the front end reads online is what training read offline. An
instant at or before the watermark is closed: nothing that comes later changes what was known then, so an event that
comes too late is lifted just past the watermark, and the log keeps it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

import structlog

from ninefold.clock import RESOLUTION
from ninefold.errors import Outdated
from ninefold.online import OnlineRow, OnlineStore, from_microseconds, to_microseconds
from ninefold.records import Event, entity_key
from ninefold.windows import Window
from ninefold.windows.stream import Row, WindowState

_REPLAYED_AT_ONCE = 5_000

log = structlog.get_logger()


class EventLog(Protocol):
    """Where all events of a use case are kept (``Store.events_known``)."""

    def __call__(self, stream: str, *, since: datetime | None) -> Iterable[Event]:
        """A stream's events by ``known_at``, oldest first; from ``since`` on, or all."""
        ...


def lift(events: Sequence[Event], watermark: datetime | None) -> list[Event]:
    """The events, with those that come too late lifted just past the watermark."""
    if watermark is None:
        return list(events)
    first = watermark + RESOLUTION
    return [event if event.known_at >= first else replace(event, known_at=first) for event in events]


class StreamingFeaturizer:
    """Keeps the windows of one use case up to date online. For one thread, and one instance a use case.

    What can't be written online stays until it can: ``flush`` tries again, and the watermark waits with it.

    Args:
        windows: View name → window, exact (``open_windows``).
        online: Where rows and watermarks go.
        log: Where events are read again after a restart, and for a new window.
    """

    elsewhere = False

    def __init__(self, windows: Mapping[str, Window], online: OnlineStore, log: EventLog) -> None:
        self._online = online
        self._log = log
        self._states = {view: WindowState(window) for view, window in windows.items()}
        self._unwritten: dict[str, dict[str, Row]] = {view: {} for view in windows}
        self._watermark: datetime | None = None
        self._written: datetime | None = None
        self._marks: dict[str, datetime | None] = {}

    @property
    def watermark(self) -> datetime | None:
        """The instant up to which windows are computed; None before the first."""
        return self._watermark

    @property
    def views(self) -> frozenset[str]:
        """Names of the views that are kept up to date."""
        return frozenset(self._states)

    def restore(self, until: datetime | None = None) -> None:
        """Computes the windows anew from the log and writes what the online store lacks.

        Args:
            until: The instant to catch up to. None goes to the newest watermark online or, where there is none, to the
                newest event of the log. Later events wait for the watermark.

        Raises:
            StoreError: The log can't be read, or rows can't be written.
        """
        reached = self._marks = self._online.watermarks(self._states)
        known = [mark for mark in (*reached.values(), until) if mark is not None]
        self._watermark = max(known, default=None)
        self._replay(self._states, reached)
        self._written = self._watermark

    def use(self, windows: Mapping[str, Window]) -> None:
        """Keeps exactly these windows: fills new ones from the log up to the watermark, and forgets the others' rows.

        A new window has a watermark online once it is filled, the same as the others.

        Raises:
            StoreError: The log can't be read, or rows can't be written; the windows stay as they were.
        """
        added = {view: WindowState(window) for view, window in windows.items() if view not in self._states}
        if self._watermark is None:
            # No time has passed yet, so there is nothing to write; what is logged waits in all of them.
            self._take_waiting(added)
        else:
            self._marks |= self._online.watermarks(added)
            self._replay(added, dict.fromkeys(added))
        self._states |= added
        self._unwritten |= {view: {} for view in added}
        for view in self.views - set(windows):
            self._online.forget(view)
            del self._states[view], self._unwritten[view]
            self._marks.pop(view, None)

    def apply(self, events: Iterable[Event]) -> None:
        """Takes accepted events, which count once the watermark reaches them.

        Raises:
            DataError: An event is not after the watermark (``lift``), or its value can't be summed.
        """
        for event in events:
            self._add(event, self._states.values())

    def advance(self, to: datetime) -> None:
        """Moves the watermark of every window, whether anything happened or not; ``flush`` writes what changed."""
        if self._watermark is not None and to <= self._watermark:
            return
        self._watermark = to
        _move(self._states, to, self._unwritten)

    def flush(self) -> None:
        """Writes the newest row of every key that changed, then the watermarks.

        An online store that is not as it was left (it was restarted and lost rows, or somebody else wrote) gets the
        windows anew, computed from the log.

        Raises:
            StoreError: The online store refuses; what is unwritten is kept for the next call.
        """
        if self._watermark is None or self._watermark == self._written:
            return
        try:
            self._write(self._unwritten, self._watermark)
        except Outdated as error:
            log.warning("windows are computed anew", error=str(error))
            self._states = {view: WindowState(state.window) for view, state in self._states.items()}
            self._unwritten = {view: {} for view in self._states}
            self.restore(self._watermark)
        self._written = self._watermark

    def _add(self, event: Event, states: Iterable[WindowState]) -> None:
        known_at = to_microseconds(event.known_at)
        keys: dict[tuple[str, ...], str | None] = {}
        for state in states:
            window = state.window
            if window.stream != event.stream:
                continue
            if window.key not in keys:
                values = [event.values.get(name) for name in window.key]
                keys[window.key] = None if None in values else entity_key(values)
            key = keys[window.key]
            if key is not None:
                state.add(key, event.values.get(window.value), known_at)

    def _take_waiting(self, states: Mapping[str, WindowState]) -> None:
        for stream in {state.window.stream for state in states.values()}:
            for event in self._log(stream, since=None):
                self._add(event, states.values())

    def _replay(self, states: Mapping[str, WindowState], reached: Mapping[str, datetime | None]) -> None:
        """Fills new states from the log up to the watermark, and writes the newest row of each key.

        Without a watermark yet (a first start), the rows reach as far as the log does.
        """
        newest: dict[str, dict[str, Row]] = {view: {} for view in states}
        by_stream: dict[str, dict[str, WindowState]] = {}
        for view, state in states.items():
            by_stream.setdefault(state.window.stream, {})[view] = state
        last = until = self._watermark
        for stream, mine in by_stream.items():
            # Rows up to a view's watermark are online. What changes after it are events that were inside then.
            starts = [_inside_since(reached[view], state.window) for view, state in mine.items()]
            since = None if None in starts else min(start for start in starts if start is not None)
            for number, event in enumerate(self._log(stream, since=since), start=1):
                self._add(event, mine.values())
                if until is None:
                    last = event.known_at if last is None else max(last, event.known_at)
                if number % _REPLAYED_AT_ONCE == 0:
                    before = event.known_at - RESOLUTION
                    _move(mine, before if until is None else min(before, until), newest)
        if last is not None:
            self._watermark = last
            _move(states, last, newest)
            self._write(newest, last)

    def _write(self, rows: Mapping[str, dict[str, Row]], watermark: datetime) -> None:
        self._online.write_views(
            {
                view: [OnlineRow(key, from_microseconds(known_at), values) for key, known_at, values in mine.values()]
                for view, mine in rows.items()
            },
            watermark,
            after={view: self._marks.get(view) for view in rows},
        )
        for view, mine in rows.items():
            mine.clear()
            self._marks[view] = watermark


def _move(states: Mapping[str, WindowState], to: datetime, newest: Mapping[str, dict[str, Row]]) -> None:
    until = to_microseconds(to)
    for view, state in states.items():
        for row in state.advance(until):
            newest[view][row[0]] = row


def _inside_since(watermark: datetime | None, window: Window) -> datetime | None:
    """Known_at of the oldest event that can still leave the window after the watermark; None for all events."""
    return None if watermark is None else watermark - window.length
