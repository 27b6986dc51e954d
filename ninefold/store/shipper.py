"""Ships the journal into the store, behind the answers: in batches, again after a failure, never past a commit.

The cursor moves after the store has committed, so what a crash leaves between the two is shipped again, and the store
knows it by its id. What is no record, or no prediction, or can't be kept, is set aside as a file and counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog

from ninefold.errors import DataError, NinefoldError, StoreError
from ninefold.store.frames import Damage, Frame, scan
from ninefold.store.journal import (
    Cursor,
    Journal,
    cursor_of,
    keep_cursor,
    read_from,
    segment_path,
    segments,
    set_aside,
)
from ninefold.store.journalled import row_of
from ninefold.store.store import Store

log = structlog.get_logger()

SHIPPED_SECONDS = 10.0
"""How long a front end's own shipping is waited for."""

_PIECE = 4 * 2**20
_LONGEST_PAUSE = 30.0


class Shipper:
    """Moves a journal's records into a store, in a thread of its own or when asked.

    Args:
        folder: The journal's folder.
        store: The store; or what opens it, for a front end that has to start while the store is out of reach.
        ship_seconds: How often the thread looks.

    Attributes:
        shipped: Records that are new in the store.
        repeated: Records that the store had already.
        conflicts: Of those, the ones that came with another content.
        damaged: Pieces that were set aside.
        retries: Attempts that failed and were made again.
        last_error: Why the last attempt failed; None when it did not.
    """

    def __init__(self, folder: Path, store: Store | Callable[[], Store], *, ship_seconds: float = 0.5) -> None:
        self.folder = folder
        self.shipped = 0
        self.repeated = 0
        self.conflicts = 0
        self.damaged = 0
        self.retries = 0
        self.last_error: str | None = None
        self._open = store if callable(store) else None
        self._store = None if callable(store) else store
        self._ship_seconds = ship_seconds
        self._cursor: Cursor | None = None
        self._caught_up_at = time.monotonic()
        self._mutex = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def lag_bytes(self) -> int:
        """Bytes of the journal that are not in the store yet."""
        cursor = self._cursor or cursor_of(self.folder)
        lag = 0
        for number in segments(self.folder):
            if number >= cursor.segment:
                try:
                    size = segment_path(self.folder, number).stat().st_size
                except FileNotFoundError:
                    continue
                lag += max(0, size - cursor.within(number))
        return lag

    @property
    def lag_seconds(self) -> float:
        """How long ago everything was in the store; 0 while it is."""
        return time.monotonic() - self._caught_up_at if self.lag_bytes else 0.0

    def start(self) -> None:
        """Begins to ship in the background."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._work, name="journal-shipper", daemon=True)
        self._thread.start()

    def stop(self, *, timeout: float = 10.0) -> bool:
        """Ships what is left and ends; whether everything is in the store. What is not stays in the journal."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None
        drained = self.drain(timeout=timeout)
        if self._open is not None and self._store is not None:
            self._store.close()
            self._store = None
        return drained

    def drain(self, *, timeout: float = 10.0) -> bool:
        """Ships until everything that is in the journal now is in the store; whether that was done in time."""
        deadline = time.monotonic() + timeout
        pause = 0.05
        while True:
            try:
                while self.ship():
                    if time.monotonic() > deadline:
                        return False
                return True
            except (StoreError, OSError) as error:
                self._failed(error)
                if time.monotonic() + pause > deadline:
                    return False
                time.sleep(pause)
                pause *= 2

    def ship(self) -> bool:
        """Ships one piece; whether there may be more.

        Raises:
            StoreError: The store is locked or out of reach; the cursor stands where it stood.
            OSError: The journal can't be read, or its cursor can't be kept; likewise.
        """
        with self._mutex:
            # What is newer than this list may be written to while it is read; what is older is complete.
            numbers = segments(self.folder)
            cursor = self._cursor = self._cursor or cursor_of(self.folder)
            while numbers and numbers[0] < cursor.segment:
                segment_path(self.folder, numbers.pop(0)).unlink(missing_ok=True)
            if not numbers:
                self._caught_up_at = time.monotonic()
                return False
            number, complete = numbers[0], len(numbers) > 1
            start = cursor.within(number)
            found, read, at_end = self._piece(number, start)
            end = found[-1].end if found else 0
            if complete and at_end and end < read:
                found.append(Damage(end, read))
                end = read
            if found:
                self._move(number, start, found)
            after = Cursor(number, start + end)
            if complete and at_end:
                after = Cursor(numbers[1], 0)
            if after != cursor:
                keep_cursor(self.folder, after)
                self._cursor = after
            if complete and at_end:
                segment_path(self.folder, number).unlink(missing_ok=True)
            self.last_error = None
            if not complete and at_end:
                self._caught_up_at = time.monotonic()
                return False
            return True

    def _piece(self, number: int, start: int) -> tuple[list[Frame | Damage], int, bool]:
        """What stands in a segment from a place on; the bytes looked at; and whether that is all of it."""
        path, limit = segment_path(self.folder, number), _PIECE
        while True:
            data = read_from(path, start, limit)
            found = list(scan(data))
            at_end = len(data) < limit
            if found or at_end:
                return found, len(data), at_end
            limit *= 2

    def _move(self, number: int, start: int, found: Sequence[Frame | Damage]) -> None:
        records: list[tuple[int, bytes, dict[str, Any]]] = []
        for item in found:
            place = start + item.start
            if isinstance(item, Damage):
                data = read_from(segment_path(self.folder, number), place, item.end - item.start)
                self._set_aside(number, place, data, "bytes are no record")
                continue
            try:
                records.append((place, item.payload, row_of(item.payload)))
            except (NinefoldError, KeyError, TypeError, ValueError, AttributeError) as error:
                self._set_aside(number, place, item.payload, f"no prediction: {type(error).__name__}: {error}")
        self._write(number, records)

    def _write(self, number: int, records: Sequence[tuple[int, bytes, dict[str, Any]]]) -> None:
        if not records:
            return
        if self._store is None:
            if self._open is None:
                raise StoreError("The shipper has no store any more.")
            self._store = self._open()
        try:
            written = self._store.write_prediction_rows(record for _, _, record in records)
        except DataError as error:
            if len(records) == 1:
                place, payload, _ = records[0]
                self._set_aside(number, place, payload, str(error))
                return
            # One of them can't be kept; halving finds it, and the store knows the others when they come again.
            middle = len(records) // 2
            self._write(number, records[:middle])
            self._write(number, records[middle:])
            return
        self.shipped += written
        self.repeated += written.repeated
        self.conflicts += len(written.conflicts)

    def _set_aside(self, number: int, place: int, data: bytes, why: str) -> None:
        # A piece that is shipped again after a failure brings the same damage.
        if set_aside(self.folder, number, place, data):
            self.damaged += 1
            log.error("journal's record set aside", segment=number, offset=place, bytes=len(data), why=why)

    def _failed(self, error: Exception) -> None:
        self.retries += 1
        self.last_error = str(error)
        log.warning("journal not shipped; it is tried again", error=str(error), retries=self.retries)

    def _work(self) -> None:
        pause = self._ship_seconds
        while not self._stopping.wait(pause):
            try:
                while self.ship() and not self._stopping.is_set():
                    pass
                pause = self._ship_seconds
            except Exception as error:
                # The thread has to outlive whatever happens: it is the only way from the journal to the store.
                self._failed(error)
                pause = min(pause * 2, _LONGEST_PAUSE)


def ship_whole(folder: Path, store: Store) -> None:
    """Returns when all that a journal holds now is in the store.

    A journal that nobody appends to is shipped here, and its segments go; one of a front end that runs is waited for.

    Raises:
        StoreError: The front end that runs has not shipped it in time, or the store refuses.
    """
    numbers = segments(folder)
    if not numbers:
        return
    until = (numbers[-1], segment_path(folder, numbers[-1]).stat().st_size)
    try:
        journal = Journal(folder)
    except StoreError as error:
        deadline = time.monotonic() + SHIPPED_SECONDS
        while (cursor := cursor_of(folder)) and (cursor.segment, cursor.offset) < until:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"The journal {folder} holds answers that are not in the store yet, and whoever appends to it does "
                    "not ship them.",
                    remedy="See: ninefold status",
                ) from error
            time.sleep(0.05)
        return
    try:
        shipper = Shipper(folder, store)
        while shipper.ship():
            pass
    finally:
        journal.close()
