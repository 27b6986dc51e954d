"""Keeps answers in the journal before they leave; nothing is answered that is not kept.

Without ``fsync`` an append is one write to the operating system and is made in place. With it an append waits for the
disk, so it is made in a thread, and requests that come meanwhile share the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ninefold.errors import StoreError, Unavailable
from ninefold.store.journal import Journal
from serving.front_end.metrics import Metrics


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
        self._waiting: list[tuple[Sequence[bytes], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def keep(self, records: Sequence[bytes]) -> None:
        """Keeps records, all of them or none.

        Raises:
            Unavailable: The journal can't be written.
        """
        try:
            if self._fsync:
                await self._share(records)
            else:
                self._journal.append_many(records)
        except StoreError as error:
            self._metrics.journal_failures += 1
            raise Unavailable(f"No answer is given that is not kept. {error}") from error

    async def _share(self, records: Sequence[bytes]) -> None:
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((records, kept))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await kept

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                together = [record for records, _ in batch for record in records]
                failure: StoreError | None = None
                try:
                    await asyncio.to_thread(self._journal.append_many, together)
                except StoreError as error:
                    failure = error
                for _, kept in batch:
                    if kept.done():
                        continue
                    if failure is None:
                        kept.set_result(None)
                    else:
                        kept.set_exception(failure)
        finally:
            self._writing = None
