"""What is in the journal comes into the store: all of it, once, through failures."""

from __future__ import annotations

import errno
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from ninefold.errors import StoreError
from ninefold.records import Prediction
from ninefold.store import Store, open_store
from ninefold.store.frames import frame
from ninefold.store.journal import DAMAGED, Journal, cursor_of, segment_path, segments
from ninefold.store.shipper import Shipper

_START = datetime(2013, 7, 1, tzinfo=UTC)


def _prediction(number: int, value: float = 1.5, key: str = "k") -> Prediction:
    return Prediction(
        prediction_id=f"p{number:06d}",
        use_case="arrivals",
        request_id=None,
        key=key,
        decided_at=_START + timedelta(seconds=number),
        received_at=_START,
        version=1,
        cohort="live",
        request={"carrier": "UA"},
        features={"weather__wind": None},
        value=value,
    )


def _encoded(number: int, **changes: object) -> bytes:
    return orjson.dumps(_prediction(number).to_json() | changes)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal", segment_bytes=20_000)
    yield journal
    journal.close()


def test_what_is_appended_after_a_failed_write_that_was_shipped_is_shipped_too(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal", fsync=True)
    shipper = Shipper(journal.folder, store)
    journal.append(_encoded(0))

    def failing(_: int) -> None:
        # The shipper looks while the disk is waited for.
        assert shipper.drain()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing)
        with pytest.raises(StoreError):
            journal.append(_encoded(1))
    for n in (2, 3):
        journal.append(_encoded(n))
    journal.close()
    assert shipper.drain()
    assert {p.prediction_id for p in store.predictions("arrivals")} >= {"p000002", "p000003"}
    assert shipper.damaged == 0


def test_a_key_too_long_for_an_index_holds_up_nothing(store: Store, journal: Journal) -> None:
    drawn = random.Random(1)
    key = "".join(chr(drawn.randrange(0x10000, 0x110000)) for _ in range(768))
    journal.append_many([_encoded(0), _encoded(1, key=key), _encoded(2)])
    shipper = Shipper(journal.folder, store)
    assert shipper.drain(timeout=5)
    assert shipper.damaged == (1 if store.is_postgresql else 0)
    assert {p.prediction_id for p in store.predictions("arrivals", key="k")} == {"p000000", "p000002"}


def test_everything_arrives_and_shipped_segments_go(store: Store, journal: Journal) -> None:
    journal.append_many(_encoded(n) for n in range(50))
    for n in range(50, 200):
        journal.append(_encoded(n))
    shipper = Shipper(journal.folder, store)
    assert shipper.lag_bytes > 0
    assert shipper.drain()
    assert [p.prediction_id for p in store.predictions("arrivals")] == [f"p{n:06d}" for n in range(200)]
    assert next(store.predictions("arrivals")) == _prediction(0)
    assert (shipper.shipped, shipper.repeated, shipper.damaged, shipper.lag_bytes) == (200, 0, 0, 0)
    assert shipper.lag_seconds == 0.0
    assert len(segments(journal.folder)) == 1


def test_the_thread_ships_while_the_journal_grows(store: Store, journal: Journal) -> None:
    shipper = Shipper(journal.folder, store, ship_seconds=0.01)
    shipper.start()
    for n in range(300):
        journal.append(_encoded(n))
        if n % 50 == 0:
            time.sleep(0.02)
    assert shipper.stop()
    assert store.counts()["predictions"] == 300
    assert shipper.retries == 0


def test_a_crash_between_commit_and_cursor_ships_again_and_changes_nothing(store: Store, journal: Journal) -> None:
    journal.append_many(_encoded(n) for n in range(20))
    Shipper(journal.folder, store).drain()
    (journal.folder / "cursor").unlink()
    again = Shipper(journal.folder, store)
    assert again.drain()
    assert (again.shipped, again.repeated, again.conflicts) == (0, 20, 0)


@pytest.mark.parametrize("cursor", ["", "{", '{"segment": "x"}', "[]"])
def test_a_damaged_cursor_ships_from_the_beginning(tmp_path: Path, journal: Journal, cursor: str) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    journal.append_many(_encoded(n) for n in range(5))
    (journal.folder / "cursor").write_text(cursor)
    assert Shipper(journal.folder, store).drain()
    assert store.counts()["predictions"] == 5
    store.close()


def test_records_of_a_process_that_died_are_shipped_by_the_next(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    dead = Journal(folder)
    dead.append_many(_encoded(n) for n in range(10))
    dead.close()
    with segment_path(folder, 1).open("ab") as file:
        file.write(frame(_encoded(10))[:50])
    journal = Journal(folder)
    journal.append(_encoded(11))
    assert journal.torn_bytes == 50
    assert Shipper(folder, store).drain()
    assert [p.prediction_id for p in store.predictions("arrivals")] == [f"p{n:06d}" for n in [*range(10), 11]]
    assert segments(folder) == [2]
    journal.close()


@pytest.mark.parametrize("old", [True, False], ids=["in an old segment", "in the one that is written"])
def test_damage_in_the_middle_is_set_aside_and_later_records_ship(store: Store, tmp_path: Path, old: bool) -> None:
    folder = tmp_path / "journal"
    journal = Journal(folder)
    journal.append_many(_encoded(n) for n in range(10))
    path = segment_path(folder, 1)
    data = bytearray(path.read_bytes())
    data[len(frame(_encoded(0))) * 4 + 100] ^= 0xFF
    path.write_bytes(data)
    if old:
        journal.close()
        journal = Journal(folder)
    shipper = Shipper(folder, store)
    assert shipper.drain()
    assert [p.prediction_id for p in store.predictions("arrivals")] == [f"p{n:06d}" for n in range(10) if n != 4]
    assert shipper.damaged == 1
    aside = list((folder / DAMAGED).iterdir())
    assert [file.stat().st_size for file in aside] == [len(frame(_encoded(4)))]
    journal.close()


def test_damage_at_the_end_of_an_old_segment_is_set_aside(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal = Journal(folder, segment_bytes=1)
    for n in range(3):
        journal.append(_encoded(n))
    path = segment_path(folder, 1)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        shipper = Shipper(folder, store)
        assert shipper.drain()
        assert [p.prediction_id for p in store.predictions("arrivals")] == ["p000001", "p000002"]
    assert shipper.damaged == len(list((folder / DAMAGED).iterdir())) == 1
    journal.close()


def test_what_is_no_prediction_is_set_aside_and_holds_nothing_up(store: Store, journal: Journal) -> None:
    wrong = [
        b"", b"{", b"[]", b"null", b'{"prediction_id": "x"}', b"\xff\xfe", _encoded(1, value=None),
        _encoded(1, value="fast"), _encoded(1, decided_at="yesterday"), _encoded(1, version=None),
        _encoded(1, request=3), _encoded(1, prediction_id=None),
    ]  # fmt: skip
    journal.append_many([_encoded(0), *wrong, _encoded(2)])
    shipper = Shipper(journal.folder, store)
    assert shipper.drain()
    assert [p.prediction_id for p in store.predictions("arrivals")] == ["p000000", "p000002"]
    assert shipper.damaged == len(wrong)
    assert sorted(file.read_bytes() for file in (journal.folder / DAMAGED).iterdir()) == sorted(wrong)


@pytest.mark.postgres
def test_a_record_that_postgresql_refuses_is_found_among_the_others(postgresql_url: str, journal: Journal) -> None:
    store = open_store(postgresql_url)
    journal.append_many(_encoded(n, **({"key": "a\0b"} if n == 13 else {})) for n in range(40))
    shipper = Shipper(journal.folder, store)
    assert shipper.drain()
    assert store.counts()["predictions"] == 39
    assert shipper.damaged == 1
    store.close()


def test_a_locked_store_is_waited_for_and_nothing_is_lost(tmp_path: Path, journal: Journal) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}", busy_seconds=0.05)
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    journal.append_many(_encoded(n) for n in range(30))
    shipper = Shipper(journal.folder, store, ship_seconds=0.01)
    shipper.start()
    deadline = time.monotonic() + 5
    while shipper.retries < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert shipper.last_error is not None
    assert "locked by another process" in shipper.last_error
    assert shipper.lag_seconds > 0
    assert not cursor_of(journal.folder).offset
    threading.Timer(0.2, lambda: other.execute("ROLLBACK")).start()
    assert shipper.stop()
    assert shipper.shipped == store.counts()["predictions"] == 30
    assert shipper.last_error is None
    other.close()
    store.close()


def test_a_store_that_is_away_at_the_start_is_opened_when_it_comes(tmp_path: Path, journal: Journal) -> None:
    attempts = []

    def opening() -> Store:
        attempts.append(1)
        if len(attempts) < 3:
            raise StoreError("The store does not answer.")
        return open_store(f"sqlite:///{tmp_path / 'store.db'}")

    journal.append(_encoded(0))
    shipper = Shipper(journal.folder, opening)
    assert shipper.drain()
    assert (shipper.retries, shipper.shipped) == (2, 1)
    assert shipper.stop()


def test_a_store_that_stays_away_leaves_the_journal_whole(journal: Journal) -> None:
    def away() -> Store:
        raise StoreError("The store does not answer.")

    journal.append(_encoded(0))
    shipper = Shipper(journal.folder, away)
    assert not shipper.drain(timeout=0.2)
    assert shipper.lag_bytes == len(frame(_encoded(0)))


def test_the_same_answer_again_is_one_and_another_one_is_a_conflict(store: Store, journal: Journal) -> None:
    journal.append_many([_encoded(0), _encoded(0), _encoded(0, value=9.0)])
    shipper = Shipper(journal.folder, store)
    assert shipper.drain()
    assert (shipper.shipped, shipper.repeated, shipper.conflicts) == (1, 2, 1)
    assert [p.value for p in store.predictions("arrivals")] == [1.5]
