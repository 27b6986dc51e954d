"""What the writer's thread works with: the store, the online rows, the windows, and which of them versions need."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa
import structlog

from ninefold.clock import Clock, EventClock, WallClock
from ninefold.errors import ConfigurationError
from ninefold.online import open_online_store
from ninefold.records import Event
from ninefold.store import Store
from ninefold.usecase import UseCase
from serving.collector.keeper import Batch, Keeper, Outcome
from serving.collector.waiting import WaitingFeedback
from serving.featurizer import StreamingFeaturizer
from serving.featurizer.follower import lease_name
from serving.featurizer.wanted import WantedWindows

VERSIONS_SECONDS = 2.0
"""How often the windows that versions need are looked up."""

log = structlog.get_logger()


def make_durable(store: Store) -> None:
    """Makes SQLite write to the disk before a commit returns; PostgreSQL does by itself."""
    if store.is_postgresql:
        return

    @sa.event.listens_for(store.engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous=FULL")

    store.engine.dispose()


class CollectorSession:
    """One use case's keeper over real stores, its windows restored. Made, used and closed in one thread.

    Args:
        use_case: The use case.
        store: The production database; stays open.
        online_url: Where online rows lie.
        mode: ``wall`` or ``event``.

    Raises:
        StoreError: The log can't be read, or the online rows can't be written.
        ConfigurationError: The live version needs a window that is no longer declared, or a featurizer keeps them.
    """

    def __init__(self, use_case: UseCase, store: Store, online_url: str, mode: Literal["wall", "event"]) -> None:
        self._use_case = use_case
        self._store = store
        # An event clock begins before all events: the first ones move it.
        clock: Clock = WallClock() if mode == "wall" else EventClock(datetime.min.replace(tzinfo=UTC))
        _refuse_two_keepers(use_case.name, store)
        self._wanted = WantedWindows(use_case, store)
        self._online = open_online_store(online_url)
        try:
            self._windows = StreamingFeaturizer(self._wanted.look(), self._online, self._log)
            self._windows.restore(_present(clock, store.closed_until(use_case.name)) if mode == "wall" else None)
        except BaseException:
            self._online.close()
            raise
        self._keeper = Keeper(use_case.name, store, self._windows, clock, mode)
        self._waiting = WaitingFeedback(use_case.name, store)
        self._looked_up = time.monotonic()

    @property
    def watermark(self) -> datetime | None:
        """How far the windows reach."""
        return self._keeper.watermark

    def keep(self, batches: list[Batch]) -> list[Outcome]:
        """Keeps a group of batches."""
        return self._keeper.keep(batches)

    def flush(self) -> None:
        """Writes the windows that changed."""
        self._keeper.flush()

    def tick(self) -> None:
        """Lets time pass, joins feedback to its predictions, and fills the windows that new versions need."""
        self._keeper.tick()
        if (due := self._waiting.due()) is not None:
            self._keeper.keep([due])
        if time.monotonic() - self._looked_up >= VERSIONS_SECONDS:
            self._looked_up = time.monotonic()
            windows = self._wanted.look()
            if set(windows) != self._windows.views:
                self._windows.use(windows)
                log.info("windows changed", use_case=self._use_case.name, windows=sorted(windows))

    def close(self) -> None:
        """Ends the connection to the online rows."""
        self._online.close()

    def _log(self, stream: str, *, since: datetime | None) -> Iterator[Event]:
        return self._store.events_known(self._use_case.name, stream, since=since)


def _present(clock: Clock, closed: datetime | None) -> datetime:
    """The clock's instant, or the one that a featurizer closed before, by a clock that went ahead."""
    return clock.now() if closed is None else max(clock.now(), closed)


def _refuse_two_keepers(use_case: str, store: Store) -> None:
    lease = store.lease(lease_name(use_case))
    if lease is not None and store.holds_lease(lease):
        raise ConfigurationError(
            f"A featurizer keeps the windows of {use_case} already: {lease.holder}.",
            remedy="Stop it, or set NINEFOLD_SERVING__WINDOWS=service for the collector.",
        )
