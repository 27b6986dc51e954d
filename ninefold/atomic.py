"""Replacing a file in one step: a reader sees the old content or the new one, whole, whatever happens meanwhile."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def replace_file(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Writes beside the file and renames over it; readable and writable by its owner alone (mode 0600).

    Args:
        path: The file; its folder exists.
        content: What it holds from now on.
        sync: Whether the content is on the disk before it takes the file's place.

    Raises:
        OSError: It can't be written, as on a full disk. The old file stands, and nothing lies beside it.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside the file for somebody else to write to, as a library that writes Parquet; then it is renamed.

    Args:
        path: The file; its folder exists.

    Raises:
        OSError: It can't be renamed. The old file stands, and nothing lies beside it, whatever went wrong.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Waits until nobody else, in whatever process, is alone with the same file or folder, which has to be there."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
