"""The journal: what was answered, on disk before the answer leaves; shipped to the store behind it (shipper.py).

One process appends to a folder; a lock file holds off a second. Files are numbered segments of frames (frames.py),
``00000001.journal`` and on; a new process begins a new one. Levels of safety: what ``append`` returned from survives
the death of the process, because the operating system has it; with ``fsync`` it survives the death of the machine.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from ninefold.atomic import replace_file
from ninefold.errors import StoreError
from ninefold.store.frames import MAX_PAYLOAD, frame, scan

log = structlog.get_logger()

_SUFFIX = ".journal"
DAMAGED = "damaged"
"""Folder, inside of the journal's, of bytes that are no records."""


class Journal:
    """An append-only journal in a folder. Threads may share it; processes may not.

    Args:
        folder: Where it lies; made when it is missing.
        segment_bytes: Size past which a new segment begins.
        fsync: Whether an append waits for the disk.

    Attributes:
        appended: Records since the start.
        torn_bytes: Bytes of an unfinished record that the last process left; it was never acknowledged.

    Raises:
        StoreError: Another process appends there, or the folder can't be written.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = 64 * 2**20, fsync: bool = False) -> None:
        self.folder = folder
        self.appended = 0
        self.torn_bytes = 0
        self._segment_bytes = segment_bytes
        self._fsync = fsync
        self._mutex = threading.Lock()
        self._file = -1
        self._lock_file = -1
        self._is_cut = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock_file = _lock(folder)
            self._cut_torn_end()
            last = max([cursor_of(folder).segment, *segments(folder)])
            self._begin(last + 1)
        except OSError as error:
            self._release()
            raise _refused(folder, error) from error
        except BaseException:
            self._release()
            raise

    def append(self, payload: bytes) -> None:
        """Appends one record; when it returns, the record survives the death of the process.

        Raises:
            StoreError: The disk is full or fails, or the record is too long; nothing of it is kept.
        """
        self._write(frame(payload), len(payload), 1)

    def append_many(self, payloads: Iterable[bytes]) -> None:
        """Appends records in one write; all of them or none.

        Raises:
            StoreError: As ``append``.
        """
        frames = [frame(payload) for payload in payloads]
        if frames:
            self._write(b"".join(frames), max(map(len, frames)), len(frames))

    def close(self) -> None:
        """Lets another process append. What was appended stays."""
        with self._mutex:
            self._release()

    def _write(self, data: bytes, longest: int, records: int) -> None:
        if longest > MAX_PAYLOAD:
            raise StoreError(f"A record of {longest:,} bytes is too long for the journal.")
        with self._mutex:
            if self._file < 0:
                raise StoreError(f"The journal {self.folder} is closed.")
            written = 0
            try:
                if self._size >= self._segment_bytes or self._is_cut:
                    self._begin(self._number + 1)
                written = os.write(self._file, data)
                # A disk that fills takes a part of it and tells at the next write.
                while written < len(data):
                    written += os.write(self._file, data[written:])
                if self._fsync:
                    os.fdatasync(self._file)
            except OSError as error:
                # Half a record in the middle would be damage; cutting it off needs no space.
                with suppress(OSError):
                    os.ftruncate(self._file, self._size)
                # It may be shipped already; what came in its place would be taken for shipped.
                self._is_cut = self._is_cut or written > 0
                raise _refused(self.folder, error) from error
            self._size += len(data)
            self.appended += records

    def _begin(self, number: int) -> None:
        opened = os.open(
            segment_path(self.folder, number), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640
        )
        if self._file >= 0:
            os.close(self._file)
        self._file, self._number, self._size = opened, number, os.fstat(opened).st_size
        self._is_cut = False
        if self._fsync:
            _sync_folder(self.folder)

    def _cut_torn_end(self) -> None:
        numbers = segments(self.folder)
        if not numbers:
            return
        path = segment_path(self.folder, numbers[-1])
        start = cursor_of(self.folder).within(numbers[-1])
        data = read_from(path, start)
        whole = max((found.end for found in scan(data)), default=0)
        if whole < len(data):
            self.torn_bytes = len(data) - whole
            set_aside(self.folder, numbers[-1], start + whole, data[whole:])
            os.truncate(path, start + whole)
            log.warning("journal ended in an unfinished record", segment=path.name, bytes=self.torn_bytes)

    def _release(self) -> None:
        for handle in (self._file, self._lock_file):
            if handle >= 0:
                os.close(handle)
        self._file = self._lock_file = -1


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to where a journal is in the store.

    Args:
        segment: Number of the segment.
        offset: Bytes of it.
    """

    segment: int = 0
    offset: int = 0

    def within(self, segment: int) -> int:
        """Bytes of a segment that are in the store, of one at or past the cursor."""
        return self.offset if segment == self.segment else 0


def cursor_of(folder: Path) -> Cursor:
    """The cursor that is kept in a folder; the beginning when there is none, or no readable one."""
    try:
        document = json.loads((folder / "cursor").read_bytes())
        return Cursor(int(document["segment"]), int(document["offset"]))
    except FileNotFoundError:
        return Cursor()
    except (ValueError, KeyError, TypeError) as error:
        # What the store has already, it knows by its id.
        log.warning("journal's cursor is damaged; it is shipped from the beginning", error=str(error))
        return Cursor()


def keep_cursor(folder: Path, cursor: Cursor) -> None:
    """Replaces the cursor in one step."""
    replace_file(folder / "cursor", json.dumps({"segment": cursor.segment, "offset": cursor.offset}).encode())


def segments(folder: Path) -> list[int]:
    """Numbers of the segments in a folder, oldest first."""
    return sorted(int(path.stem) for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdigit())


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"{number:08d}{_SUFFIX}"


def read_from(path: Path, start: int, limit: int = -1) -> bytes:
    """A file's bytes from a place on."""
    with path.open("rb") as file:
        file.seek(start)
        return file.read(limit)


def set_aside(folder: Path, segment: int, offset: int, data: bytes) -> bool:
    """Keeps bytes that can't be shipped, under a name that says where they stood; whether they were not kept yet."""
    (folder / DAMAGED).mkdir(exist_ok=True)
    path = folder / DAMAGED / f"{segment:08d}-{offset}.bin"
    new = not path.exists()
    path.write_bytes(data)
    return new


def _lock(folder: Path) -> int:
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise StoreError(
            f"The journal {folder} belongs to a process that runs.", remedy="Stop it, or give this one another folder."
        ) from error
    return handle


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refused(folder: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"The disk of the journal {folder} is full.", remedy="Free some space.")
    return StoreError(f"The journal {folder} can't be written: {error.strerror}.")
