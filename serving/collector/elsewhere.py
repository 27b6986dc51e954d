"""Windows that a featurizer of its own keeps: the collector hands it nothing, and asks how far it came.

What a collector writes is lifted past what is closed in the transaction that writes it, so any number of collectors
may do so at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime

from ninefold.clock import WallClock
from ninefold.errors import Unavailable
from ninefold.online import open_online_store
from ninefold.records import Event
from ninefold.store import Store
from ninefold.usecase import UseCase
from serving.collector.keeper import Batch, Keeper, Outcome
from serving.collector.waiting import WaitingFeedback

WAIT_SECONDS = 10.0
"""How long ``?wait=windows`` waits for the featurizer."""

_LOOK_SECONDS = 0.02


class WindowsElsewhere:
    """What the keeper knows of windows that it does not keep.

    Args:
        use_case: Name of the use case.
        store: The production database.
    """

    elsewhere = True

    def __init__(self, use_case: str, store: Store) -> None:
        self._use_case = use_case
        self._store = store
        self._watermark: datetime | None = None
        self.look()

    @property
    def watermark(self) -> datetime | None:
        """The instant up to which events were closed when this was last looked up."""
        return self._watermark

    def look(self) -> None:
        """Looks up how far events are closed.

        Raises:
            StoreError: The store can't be read.
        """
        self._watermark = self._store.closed_until(self._use_case)

    def apply(self, events: Iterable[Event]) -> None:
        """The featurizer finds them in the store."""
        for _ in events:
            self.look()
            return

    def advance(self, to: datetime) -> None:
        """The featurizer has a clock of its own."""

    def flush(self) -> None:
        """The featurizer writes."""


class KeepingSession:
    """One use case's keeper over a real store, where windows are kept elsewhere. For one thread.

    Args:
        use_case: The use case.
        store: The production database; stays open.

    Raises:
        StoreError: The store can't be read.
    """

    def __init__(self, use_case: UseCase, store: Store) -> None:
        self._windows = WindowsElsewhere(use_case.name, store)
        self._keeper = Keeper(use_case.name, store, self._windows, WallClock(), "wall")
        self._waiting = WaitingFeedback(use_case.name, store)

    @property
    def watermark(self) -> datetime | None:
        """How far events are closed."""
        return self._windows.watermark

    def keep(self, batches: list[Batch]) -> list[Outcome]:
        """Keeps a group of batches."""
        return self._keeper.keep(batches)

    def flush(self) -> None:
        """There is nothing to write."""

    def tick(self) -> None:
        """Looks up how far events are closed, and joins feedback to its predictions."""
        self._windows.look()
        if (due := self._waiting.due()) is not None:
            self._keeper.keep([due])

    def close(self) -> None:
        """There is nothing to close."""


def wait_for_windows(use_case: UseCase, online_url: str, reach: datetime, *, seconds: float = WAIT_SECONDS) -> datetime:
    """Returns when windows are readable up to an instant; their watermark then.

    Args:
        use_case: Whose windows.
        online_url: Where online rows lie.
        reach: The instant.
        seconds: How long to wait.

    Raises:
        Unavailable: They are not, in this time.
        StoreError: The online rows can't be read.
    """
    views = [window.view for window in use_case.windows]
    deadline = time.monotonic() + seconds
    with closing(open_online_store(online_url)) as online:
        while True:
            marks = [mark for mark in online.watermarks(views).values() if mark is not None]
            if len(marks) == len(views) and (reached := min(marks, default=reach)) >= reach:
                return reached
            if time.monotonic() > deadline:
                raise Unavailable(
                    "Kept, but the windows are not written: the featurizer is behind.", remedy="Send it again."
                )
            time.sleep(_LOOK_SECONDS)
