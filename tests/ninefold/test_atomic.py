import errno
import os
from pathlib import Path

import pytest

from ninefold.atomic import replace_file, replacing


def test_the_file_is_replaced_whole_and_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("old and longer")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_on_a_full_disk_the_old_file_stands_and_nothing_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "keys.json"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new", sync=True)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_who_writes_for_itself_replaces_the_file_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        write_half()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
