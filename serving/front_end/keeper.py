"""Keeps answers in the journal before they leave; nothing is answered that is not kept.

Answers of one turn of the event loop share one write. With ``fsync`` a write waits for the disk, so it is made in a
thread, and answers that come meanwhile share the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ninefold.errors import StoreError, Unavailable
from ninefold.store.journal import Journal
from serving.front_end.metrics import Metrics

Kept = Callable[[Unavailable | None], None]
"""Told that records are kept, or why they are not."""

_Waiting = list[tuple[Sequence[bytes], Kept]]


class Keeper:
    """Appends records to a journal.

    Args:
        journal: The journal.
        fsync: Whether it waits for the disk.
        metrics: Where refusals are counted.
    """

    def __init__(self, journal: Journal, *, fsync: bool, metrics: Metrics) -> None:
        self._journal = journal
        self._fsync = fsync
        self._metrics = metrics
        self._waiting: _Waiting = []
        self._syncing: asyncio.Task[None] | None = None

    def keep(self, records: Sequence[bytes], then: Kept) -> None:
        """Keeps records, all of them or none, and calls ``then`` from the event loop."""
        if self._fsync:
            if self._syncing is None:
                self._syncing = asyncio.get_running_loop().create_task(self._sync())
        elif not self._waiting:
            asyncio.get_running_loop().call_soon(self._write)
        self._waiting.append((records, then))

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._tell(waiting, self._append(waiting))

    async def _sync(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                self._tell(waiting, await asyncio.to_thread(self._append, waiting))
        finally:
            self._syncing = None

    def _append(self, waiting: _Waiting) -> StoreError | None:
        try:
            self._journal.append_many([record for records, _ in waiting for record in records])
        except StoreError as error:
            return error
        return None

    def _tell(self, waiting: _Waiting, failure: StoreError | None) -> None:
        refused: Unavailable | None = None
        if failure is not None:
            refused = Unavailable(f"No answer is given that is not kept. {failure}")
            refused.__cause__ = failure
            self._metrics.journal_failures += len(waiting)
        for _, then in waiting:
            then(refused)
