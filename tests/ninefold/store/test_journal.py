"""The journal keeps what it acknowledged, and hands it on whole."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.errors import StoreError
from ninefold.store.frames import MARK, Damage, Frame, frame, scan
from ninefold.store.journal import Journal, read_from, segment_path, segments


def _payloads(folder: Path) -> list[bytes]:
    found = []
    for number in segments(folder):
        found += [f.payload for f in scan(read_from(segment_path(folder, number), 0)) if isinstance(f, Frame)]
    return found


@given(st.lists(st.binary(max_size=60)))
def test_what_is_framed_is_found(payloads: list[bytes]) -> None:
    found = list(scan(b"".join(map(frame, payloads))))
    assert [f.payload for f in found if isinstance(f, Frame)] == payloads
    assert not any(isinstance(f, Damage) for f in found)


@given(st.lists(st.text(max_size=60).map(str.encode), min_size=1), st.data())
def test_one_changed_byte_costs_one_record(payloads: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(b"".join(map(frame, payloads)))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    hit = 0
    while sum(len(frame(p)) for p in payloads[: hit + 1]) <= place:
        hit += 1
    found = [f.payload for f in scan(bytes(whole)) if isinstance(f, Frame)]
    assert found == payloads[:hit] + payloads[hit + 1 :]


@given(st.lists(st.text(max_size=60).map(str.encode), min_size=1), st.data())
def test_a_torn_end_costs_the_unfinished_record_alone(payloads: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(map(frame, payloads))
    torn = whole[: len(whole) - data.draw(st.integers(1, len(frame(payloads[-1]))))]
    assert [f.payload for f in scan(torn) if isinstance(f, Frame)] == payloads[:-1]


def test_records_come_back_in_order_over_segments(tmp_path: Path) -> None:
    with_many = Journal(tmp_path / "j", segment_bytes=100)
    payloads = [b'{"n": %d}' % n for n in range(40)]
    with_many.append_many(payloads[:7])
    for payload in payloads[7:]:
        with_many.append(payload)
    with_many.close()
    assert _payloads(tmp_path / "j") == payloads
    assert with_many.appended == 40
    assert len(segments(tmp_path / "j")) > 3


def test_a_second_process_is_held_off(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    with pytest.raises(StoreError, match="belongs to a process that runs"):
        Journal(tmp_path)
    first.close()
    Journal(tmp_path).close()


def test_a_torn_end_is_cut_and_counted_at_the_start(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(b"whole")
    journal.close()
    path = segment_path(tmp_path, segments(tmp_path)[-1])
    with path.open("ab") as file:
        file.write(frame(b"unfinished")[:-3])
    again = Journal(tmp_path)
    again.append(b"after")
    again.close()
    assert again.torn_bytes == len(frame(b"unfinished")) - 3
    assert _payloads(tmp_path) == [b"whole", b"after"]


_WRITER = """
import sys
from pathlib import Path
from ninefold.store.journal import Journal
journal = Journal(Path(sys.argv[1]), segment_bytes=50_000)
n = 0
while True:
    journal.append(b'{"n": %d, "pad": "%s"}' % (n, b"x" * 300))
    # The acknowledgement: by now it has to survive.
    sys.stdout.write(f"{n}\\n")
    sys.stdout.flush()
    n += 1
"""


def test_sigkill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = -1
    deadline = time.monotonic() + 20
    while acknowledged < 500 and time.monotonic() < deadline:
        acknowledged = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    acknowledged = max([acknowledged, *(int(line) for line in process.stdout.read().split("\n")[:-1] if line)])
    process.wait()
    process.stdout.close()
    Journal(tmp_path).close()
    found = _payloads(tmp_path)
    assert len(found) >= acknowledged + 1 > 500
    assert all(payload.startswith(b'{"n": %d,' % n) for n, payload in enumerate(found))


def test_a_full_disk_is_one_clear_error_and_no_damage(tmp_path: Path) -> None:
    """The file may grow to 10,000 bytes: the write that crosses it is taken in part, then refused."""
    program = """
import resource, sys
from pathlib import Path
from ninefold.errors import StoreError
from ninefold.store.journal import Journal
journal = Journal(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
kept = 0
try:
    while True:
        journal.append(b"x" * 700)
        kept += 1
except StoreError as error:
    print(error)
journal.append(b"small")
print(kept)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    message, kept = done.stdout.strip().split("\n")
    assert "can't be written" in message
    path = segment_path(tmp_path, segments(tmp_path)[-1])
    assert _payloads(tmp_path) == [b"x" * 700] * int(kept) + [b"small"]
    assert not any(isinstance(f, Damage) for f in scan(read_from(path, 0)))


def test_no_space_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)

    def full(_file: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StoreError, match=r"disk of the journal .* is full") as caught:
            journal.append(b"x")
    assert caught.value.http_status == 503
    journal.append(b"y")
    journal.close()
    assert _payloads(tmp_path) == [b"y"]


def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.close()
    with pytest.raises(StoreError, match="is closed"):
        journal.append(b"x")


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't be written"):
        Journal(tmp_path / "file" / "journal")


def test_fsync_keeps_the_same_records(tmp_path: Path) -> None:
    journal = Journal(tmp_path, fsync=True, segment_bytes=30)
    for n in range(5):
        journal.append(b"%d" % n)
    journal.close()
    assert _payloads(tmp_path) == [b"0", b"1", b"2", b"3", b"4"]


def test_the_mark_is_in_no_text() -> None:
    with pytest.raises(UnicodeDecodeError):
        MARK.decode()
