from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ninefold.errors import ConfigurationError, Outdated, StoreError
from ninefold.online import OnlineRow, OnlineStore, from_microseconds, open_online_store, to_microseconds

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)

values = st.lists(
    st.none() | st.floats(allow_nan=False) | st.text(max_size=8) | st.booleans() | st.integers(-(2**63), 2**63 - 1),
    max_size=6,
).map(tuple)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'feast' / 'online.db'}"


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    """An online store without rows: what is said of one kind holds for the other."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def sqlite_store(sqlite_url: str):
    opened = open_online_store(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def store(url: str):
    opened = open_online_store(url)
    yield opened
    opened.close()


def row(key: str, known_at: datetime, *columns: object) -> OnlineRow:
    return OnlineRow(key, known_at, columns)  # type: ignore[arg-type]


def test_reads_rows_in_the_order_asked_and_none_where_there_is_none(store: OnlineStore) -> None:
    store.write("route", [row("UA|EWR", NOON, 1.5, None), row("AA|JFK", NOON, -2.0, "x")])
    store.write("plane", [row("N1", NOON + SECOND, 7.0)])
    asked = [("plane", "N1"), ("route", "AA|JFK"), ("route", "N1"), ("plane", "N1"), ("nowhere", "N1")]
    plane = row("N1", NOON + SECOND, 7.0)
    assert store.read_many(asked) == [plane, row("AA|JFK", NOON, -2.0, "x"), None, plane, None]
    assert store.read_many([]) == []


def test_reads_more_rows_than_one_statement_holds(store: OnlineStore) -> None:
    written = [row(f"k{i}", NOON + i * SECOND, float(i)) for i in range(1_000)]
    assert store.write("view", written) == 1_000
    assert store.read_many([("view", f"k{i}") for i in range(1_010)]) == [*written, *[None] * 10]


@given(st.lists(st.tuples(st.integers(0, 3), values), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_newest_row_stays_whatever_the_order_of_writes(url: str, written) -> None:
    store = open_online_store(url)
    store.forget("v")
    try:
        newest: tuple[int, tuple] | None = None
        for second, columns in written:
            changed = store.write("v", [row("k", NOON + second * SECOND, *columns)])
            # Compared by representation: 1 == 1.0 == True in Python, and 0.0 == -0.0.
            expected = (
                newest is None or second > newest[0] or (second == newest[0] and repr(columns) != repr(newest[1]))
            )
            assert changed == expected
            if expected:
                newest = (second, columns)
            (kept,) = store.read_many([("v", "k")])
            assert repr(kept) == repr(row("k", NOON + newest[0] * SECOND, *newest[1]))
    finally:
        store.close()


def test_an_older_row_in_the_same_batch_loses_too(store: OnlineStore) -> None:
    assert store.write("v", [row("k", NOON, 2.0), row("k", NOON - SECOND, 1.0)]) == 1
    assert store.read_many([("v", "k")]) == [row("k", NOON, 2.0)]


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))
def test_instants_round_trip_to_the_microsecond(naive: datetime) -> None:
    assert from_microseconds(to_microseconds(naive.replace(tzinfo=UTC))) == naive.replace(tzinfo=UTC)


def test_an_instant_of_another_zone_is_the_same_instant(store: OnlineStore) -> None:
    there = NOON.astimezone(timezone(timedelta(hours=-4)))
    store.write("v", [row("k", there, 1.0)])
    (kept,) = store.read_many([("v", "k")])
    assert kept is not None
    assert (kept.known_at, kept.known_at.tzinfo) == (NOON, UTC)
    with pytest.raises(TypeError):
        store.write("v", [row("k", NOON.replace(tzinfo=None), 1.0)])


def test_watermarks_only_move_forward(store: OnlineStore) -> None:
    assert store.watermark("v") is None
    store.advance_watermark("v", NOON)
    store.advance_watermark("v", NOON - SECOND)
    store.advance_watermark("w", NOON + SECOND)
    assert store.watermark("v") == NOON
    assert store.watermarks(["w", "v", "x"]) == {"w": NOON + SECOND, "v": NOON, "x": None}


def test_forgets_one_view_alone(store: OnlineStore) -> None:
    for view in ("v", "w"):
        store.write(view, [row("k", NOON, 1.0), row("l", NOON, 1.0)])
        store.advance_watermark(view, NOON)
    assert store.forget("v") == 2
    assert store.read_many([("v", "k"), ("w", "k")]) == [None, row("k", NOON, 1.0)]
    assert store.watermarks(["v", "w"]) == {"v": None, "w": NOON}


def test_a_reader_sees_what_another_connection_just_committed(store: OnlineStore, url: str) -> None:
    reader = open_online_store(url)
    try:
        for second in range(3):
            store.write("v", [row("k", NOON + second * SECOND, float(second))])
            assert reader.read_many([("v", "k")]) == [row("k", NOON + second * SECOND, float(second))]
    finally:
        reader.close()


def test_what_is_kept_in_memory_is_never_older_than_a_commit(store: OnlineStore, url: str) -> None:
    pairs = [("view", "a"), ("view", "b"), ("view", "a")]
    other = open_online_store(url)
    for place, writer in enumerate((store, other, store, other, other)):
        writer.write("view", [row("a", NOON + place * SECOND, float(place))])
        written = row("a", NOON + place * SECOND, float(place))
        for _ in range(2):
            assert store.read_many(pairs) == [written, None, written]
    other.write("view", [row("b", NOON, 7.0)])
    assert store.read_many(pairs)[1] == row("b", NOON, 7.0)
    assert other.forget("view") == 2
    assert store.read_many(pairs) == [None, None, None]
    other.close()


def test_rows_of_one_read_are_of_one_state(store: OnlineStore, url: str) -> None:
    ending = threading.Event()

    def write() -> None:
        other = open_online_store(url)
        number = 0
        while not ending.is_set():
            number += 1
            other.write("view", [row(key, NOON + number * SECOND, float(number)) for key in "abc"])
        other.close()

    writer = threading.Thread(target=write)
    writer.start()
    deadline = time.monotonic() + 0.5
    try:
        while time.monotonic() < deadline:
            store.read_many([("view", "a")])
            assert len({found and found.values for found in store.read_many([("view", key) for key in "abc"])}) == 1
    finally:
        ending.set()
        writer.join()


def test_memory_holds_no_more_rows_than_its_bound(sqlite_store: OnlineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store = sqlite_store
    monkeypatch.setattr("ninefold.online.sqlite._MOST_CACHED", 3)
    store.write("view", [row(str(n), NOON, float(n)) for n in range(9)])
    for wanted in ("012", "234", "012345678", "8"):
        found = store.read_many([("view", key) for key in wanted])
        assert [r.key for r in found if r is not None] == list(wanted)


def test_a_batch_that_fails_midway_writes_nothing(store: OnlineStore) -> None:
    with pytest.raises(TypeError):
        store.write("v", [row("k", NOON, 1.0), row("l", NOON, object())])
    assert store.read_many([("v", "k")]) == [None]


WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from ninefold.online import OnlineRow, open_online_store

store = open_online_store(sys.argv[1])
for second in range(100):
    known_at = datetime(2013, 7, 1, 12, tzinfo=UTC) + timedelta(seconds=second)
    store.write(sys.argv[2], [OnlineRow("own", known_at, (float(second),))])
    store.write("shared", [OnlineRow("k", known_at, (float(second),))])
"""


def test_several_processes_make_the_file_and_write_at_once(url: str) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, url, f"v{i}"]) for i in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    store = open_online_store(url)
    last = NOON + 99 * SECOND
    rows = store.read_many([("v0", "own"), ("v1", "own"), ("v2", "own"), ("shared", "k")])
    assert [r and (r.known_at, r.values) for r in rows] == [(last, (99.0,))] * 4
    store.close()


def test_one_instance_is_of_one_thread(store: OnlineStore) -> None:
    raised: list[BaseException] = []

    def read() -> None:
        try:
            store.read_many([("v", "k")])
        except StoreError as error:
            raised.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert "thread" in str(raised[0])
    assert "damaged" not in str(raised[0])


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    path.write_bytes(b"not a database at all " * 1_000)
    with pytest.raises(StoreError, match=r"online\.db are damaged.*Move the file away"):
        open_online_store(f"sqlite:///{path}")


def test_a_damaged_row_is_named(sqlite_store: OnlineStore, tmp_path: Path) -> None:
    store = sqlite_store
    store.write("v", [row("k", NOON, 1.0)])
    with sqlite3.connect(tmp_path / "feast" / "online.db") as other:
        other.execute("UPDATE rows SET columns = x'c1'")
    other.close()
    with pytest.raises(StoreError, match="damaged"):
        store.read_many([("v", "k")])


@pytest.mark.usefixtures("sqlite_store")
def test_another_schema_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "feast" / "online.db")
    other.execute("PRAGMA user_version = 7")
    other.close()
    with pytest.raises(StoreError, match="schema 7"):
        open_online_store(sqlite_url)


def test_a_lock_that_is_held_too_long_is_named_and_readers_go_on(
    sqlite_store: OnlineStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_store.write("v", [row("k", NOON, 1.0)])
    monkeypatch.setattr("ninefold.online.sqlite._BUSY_SECONDS", 0.1)
    hasty = open_online_store(f"sqlite:///{tmp_path / 'feast' / 'online.db'}")
    other = sqlite3.connect(tmp_path / "feast" / "online.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        started = time.monotonic()
        with pytest.raises(StoreError, match="locked"):
            hasty.write("v", [row("k", NOON + SECOND, 2.0)])
        assert time.monotonic() - started < 3
        assert hasty.read_many([("v", "k")]) == [row("k", NOON, 1.0)]
    finally:
        other.close()
        hasty.close()


def test_an_unknown_scheme_and_a_folder_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="memcached"):
        open_online_store("memcached://localhost")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't be opened"):
        open_online_store(f"sqlite:///{tmp_path / 'file' / 'online.db'}")


def test_several_views_and_their_watermarks_are_written_at_once(store: OnlineStore) -> None:
    store.write("a", [row("k", NOON + SECOND, 1.0)])
    assert store.write_views({"a": [row("k", NOON, 0.0)], "b": [row("k", NOON, 2.0)], "c": []}, NOON) == 1
    assert store.read_many([("a", "k"), ("b", "k")]) == [row("k", NOON + SECOND, 1.0), row("k", NOON, 2.0)]
    assert store.watermarks(["a", "b", "c"]) == {"a": NOON, "b": NOON, "c": NOON}
    store.write_views({"a": []}, NOON - SECOND)
    assert store.watermark("a") == NOON
    with pytest.raises(TypeError):
        store.write_views({"a": [row("k", NOON + 2 * SECOND, 3.0)], "b": [row("k", NOON, object())]}, NOON + SECOND)
    assert store.watermark("a") == NOON


def test_a_writer_that_goes_by_another_watermark_writes_nothing(store: OnlineStore) -> None:
    store.write_views({"a": [row("k", NOON, 1.0)], "b": []}, NOON, after={"a": None, "b": None})
    later = NOON + SECOND
    for wrong in ({"a": None, "b": NOON}, {"a": NOON, "b": NOON - SECOND}, {"b": later}):
        with pytest.raises(Outdated, match=r"somebody else wrote it, or rows were lost.*computes the rows anew"):
            store.write_views({"a": [row("k", later, 2.0)], "b": [row("k", later, 2.0)]}, later, after=wrong)
    assert store.read_many([("a", "k"), ("b", "k")]) == [row("k", NOON, 1.0), None]
    assert store.watermarks(["a", "b"]) == {"a": NOON, "b": NOON}
    assert store.write_views({"a": [row("k", later, 2.0)], "b": []}, later, after={"a": NOON}) == 1
    assert store.watermarks(["a", "b"]) == {"a": later, "b": later}


def test_a_key_that_is_removed_is_gone_and_others_stay(store: OnlineStore) -> None:
    store.write("v", [row("k", NOON, 1.0), row("l", NOON, 1.0)])
    store.write("w", [row("k", NOON, 1.0)])
    assert store.remove([("v", "k"), ("w", "k"), ("w", "never"), ("nowhere", "k")]) == 2
    assert store.read_many([("v", "k"), ("w", "k"), ("v", "l")]) == [None, None, row("l", NOON, 1.0)]
    assert store.remove([]) == 0
    assert store.write("v", [row("k", NOON - SECOND, 3.0)]) == 1


@pytest.mark.parametrize(
    "instant", [datetime(1900, 1, 1, tzinfo=UTC), datetime(2999, 12, 31, 23, 59, 59, 999_999, UTC)]
)
def test_instants_a_microsecond_apart_are_told_apart_in_every_year(store: OnlineStore, instant: datetime) -> None:
    before = instant - timedelta(microseconds=1)
    store.write("v", [row("k", instant, 1.0)])
    assert store.write("v", [row("k", before, 2.0)]) == 0
    store.advance_watermark("v", instant)
    store.advance_watermark("v", before)
    assert store.read_many([("v", "k")]) == [row("k", instant, 1.0)]
    assert store.watermark("v") == instant


def test_keys_and_values_may_hold_any_text(store: OnlineStore) -> None:
    key = "New\r\nYork|\x00|Zürich $1 '"
    store.write("v", [row(key, NOON, "a\r\n$-1\r\n", "", None)])
    assert store.read_many([("v", key), ("v", "New")]) == [row(key, NOON, "a\r\n$-1\r\n", "", None), None]
