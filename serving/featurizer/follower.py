"""Windows kept from the store's log, by a process of their own: one turn after the other, under a lease.

A turn takes the events that were committed since the last one and closes an instant behind them, in the store and under
the lease. Then it counts them, moves the windows to that instant, and writes the rows that changed with their
watermark. So a follower that lost its lease closes nothing more, what it still writes is right as far as it goes, and
the one after it finds the watermark elsewhere than it was and computes anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime

import structlog

from ninefold.clock import Clock
from ninefold.online import open_online_store
from ninefold.records import Event
from ninefold.store import Store
from ninefold.store.leases import Lease
from ninefold.usecase import UseCase
from serving.featurizer.engine import StreamingFeaturizer
from serving.featurizer.wanted import WantedWindows

VERSIONS_SECONDS = 2.0
"""How often the windows that versions need are looked up."""

AT_ONCE = 1_000
"""Events a turn; who has more to catch up with takes several before it closes anything."""

log = structlog.get_logger()


def lease_name(use_case: str) -> str:
    """Name of the lease under which a use case's windows are kept."""
    return f"featurizer/{use_case}"


class Follower:
    """One use case's windows, computed anew from the log when it is made. Made, used and closed in one thread.

    Args:
        use_case: The use case.
        store: The production database; stays open.
        online_url: Where online rows lie.
        clock: The wall clock.
        lease: Under which it acts.
        on_windows: Told, for each event, the seconds from its arrival to its windows being written.

    Raises:
        Outdated: The lease is over.
        StoreError: The log can't be read, or the online rows can't be written.
        ConfigurationError: The live version needs a window that is no longer declared.
    """

    def __init__(
        self,
        use_case: UseCase,
        store: Store,
        online_url: str,
        clock: Clock,
        lease: Lease,
        on_windows: Callable[[float], None],
    ) -> None:
        self._use_case = use_case
        self._store = store
        self._clock = clock
        self._lease = lease
        self._on_windows = on_windows
        self._wanted = WantedWindows(use_case, store)
        self._unwritten: list[datetime] = []
        # What was there before the first closing is read from the log; only what follows is taken by turns.
        self.cursor = store.last_cursor(use_case.name)
        self._online = open_online_store(online_url)
        try:
            self._windows = StreamingFeaturizer(self._wanted.look(), self._online, self._log)
            self._restore()
        except BaseException:
            self._online.close()
            raise
        self._looked_up = time.monotonic()

    @property
    def watermark(self) -> datetime | None:
        """How far the windows reach."""
        return self._windows.watermark

    def turn(self, lease: Lease) -> bool:
        """Takes the next events and writes the windows; whether there are more events at once.

        Args:
            lease: The lease as it was last renewed.

        Raises:
            Outdated: The lease is over.
            StoreError: The store or the online rows are out of reach; what is unwritten is kept for the next turn.
        """
        self._lease = lease
        # Windows that were computed anew may have come further than the clock.
        until = max(self._clock.now(), self._windows.watermark or self._clock.now())
        closing = self._store.close_events(
            self._use_case.name, until, after_cursor=self.cursor, lease=lease, limit=AT_ONCE
        )
        self._windows.apply(closing.events)
        self.cursor = closing.cursor
        self._unwritten += [event.received_at for event in closing.events]
        if closing.until is None:
            return True
        self._windows.advance(closing.until)
        if time.monotonic() - self._looked_up >= VERSIONS_SECONDS:
            self._looked_up = time.monotonic()
            self._take_up_windows()
        self._windows.flush()
        now = self._clock.now()
        for received_at in self._unwritten:
            self._on_windows(max(0.0, (now - received_at).total_seconds()))
        self._unwritten.clear()
        return False

    def close(self) -> None:
        """Ends the connection to the online rows."""
        self._online.close()

    def _restore(self) -> None:
        marks = [mark for mark in self._online.watermarks(self._windows.views).values() if mark is not None]
        until = max([self._clock.now(), *marks])
        while True:
            closing = self._store.close_events(
                self._use_case.name, until, after_cursor=self.cursor, lease=self._lease, limit=AT_ONCE
            )
            self.cursor = closing.cursor
            if closing.until is not None:
                break
        self._windows.restore(closing.until)
        log.info("windows restored", use_case=self._use_case.name, until=str(closing.until), cursor=self.cursor)

    def _take_up_windows(self) -> None:
        windows = self._wanted.look()
        if set(windows) != self._windows.views:
            self._windows.use(windows)
            log.info("windows changed", use_case=self._use_case.name, windows=sorted(windows))

    def _log(self, stream: str, *, since: datetime | None) -> Iterator[Event]:
        # Later ones are taken by the next turns, and would count twice.
        return self._store.events_known(self._use_case.name, stream, since=since, up_to_cursor=self.cursor)
