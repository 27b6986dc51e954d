"""Nothing slips past who follows events, and nothing is known before what is closed."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from ninefold.errors import Outdated
from ninefold.records import Event
from ninefold.store import Store, open_store
from ninefold.store.leases import Lease
from ninefold.store.rows import EVENTS
from ninefold.store.tailing import EventNotices, lifted_past_closed
from ninefold.store.writing import EVENTS_LOCK

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def event(name: str, known_at: datetime = NOON, use_case: str = "rides") -> Event:
    return Event(
        event_id=name, use_case=use_case, stream="arrived", happened_at=NOON, known_at=known_at,
        received_at=known_at, values={"late": 1.0},
    )  # fmt: skip


@pytest.fixture
def lease(store: Store) -> Lease:
    lease = store.take_lease("featurizer/rides", "me", timedelta(minutes=5))
    assert lease is not None
    return lease


def names(events) -> list[str]:
    return [found.event_id for found in events]


def close(store: Store, lease: Lease, until: datetime, after: int = 0, **options):
    return store.close_events("rides", until, after_cursor=after, lease=lease, **options)


def test_closing_gives_the_events_before_it_and_never_goes_back(store: Store, lease: Lease) -> None:
    assert store.closed_until("rides") is None
    store.write_events([event("a"), event("other", use_case="flights"), event("b")])
    closing = close(store, lease, NOON)
    assert (names(closing.events), closing.until) == (["a", "b"], NOON)
    again = close(store, lease, NOON - SECOND, closing.cursor)
    assert (again.events, again.cursor, again.until) == ([], closing.cursor, NOON)
    assert store.closed_until("rides") == NOON
    assert store.closed_until("flights") is None


def test_while_there_is_more_to_take_nothing_is_closed(store: Store, lease: Lease) -> None:
    store.write_events([event(str(n)) for n in range(5)])
    first = close(store, lease, NOON, limit=3)
    assert (names(first.events), first.until) == (["0", "1", "2"], None)
    assert store.closed_until("rides") is None
    second = close(store, lease, NOON, first.cursor, limit=3)
    assert (names(second.events), second.until) == (["3", "4"], NOON)


def test_what_is_written_behind_a_closing_is_lifted_past_it(store: Store, lease: Lease) -> None:
    closing = close(store, lease, NOON)
    written = [event("late", NOON - SECOND), event("same", NOON), event("after", NOON + SECOND)]
    assert store.write_events([*written, event("late", NOON, "flights")], lifted_past_closed) == 3
    found = close(store, lease, NOON, closing.cursor).events
    first = NOON + timedelta(microseconds=1)
    assert [(e.event_id, e.known_at) for e in found] == [("late", first), ("same", first), ("after", NOON + SECOND)]
    assert all(e.received_at >= e.known_at for e in found)
    again = store.write_events(written, lifted_past_closed)
    assert (int(again), again.repeated, again.conflicts) == (0, 3, ())


def test_two_transactions_that_commit_out_of_order_hide_nothing(store: Store, lease: Lease, url: str) -> None:
    """The first one has its numbers and hangs; the second one, and who follows, wait for it and not past it."""
    began, go = threading.Event(), threading.Event()

    def slow() -> None:
        with open_store(url, migrating=False) as other, other.writing(alone=EVENTS_LOCK) as connection:
            connection.execute(sa.insert(EVENTS.table), [EVENTS.to_row(event("slow"))])
            began.set()
            go.wait(20)

    def quick() -> None:
        with open_store(url, migrating=False) as other:
            other.write_events([event("quick")])

    seen: list[str] = []
    ending = threading.Event()

    def follow() -> None:
        cursor = 0
        with open_store(url, migrating=False, busy_seconds=30) as other:
            while not ending.is_set():
                closing = other.close_events("rides", NOON, after_cursor=cursor, lease=lease)
                cursor = closing.cursor
                seen.extend(names(closing.events))
                time.sleep(0.01)

    threads = [threading.Thread(target=work) for work in (slow, quick, follow)]
    threads[0].start()
    assert began.wait(20)
    threads[1].start()
    threads[2].start()
    # Reading alone waits for nobody, and shows neither: the later number may not show before the earlier one.
    time.sleep(0.3)
    assert store.events("rides")[0] == []
    go.set()
    threads[0].join()
    threads[1].join()
    deadline = time.monotonic() + 20
    while len(seen) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    ending.set()
    threads[2].join()
    assert seen == ["slow", "quick"]


def test_a_writer_that_came_before_a_closing_and_commits_after_it_began_is_seen_by_it(
    store: Store, lease: Lease, url: str
) -> None:
    began, go = threading.Event(), threading.Event()

    def slow() -> None:
        with open_store(url, migrating=False) as other, other.writing(alone=EVENTS_LOCK) as connection:
            connection.execute(sa.insert(EVENTS.table), [EVENTS.to_row(event("slow", NOON - SECOND))])
            began.set()
            go.wait(20)

    thread = threading.Thread(target=slow)
    thread.start()
    assert began.wait(20)
    threading.Timer(0.2, go.set).start()
    closing = close(store, lease, NOON)
    thread.join()
    assert (names(closing.events), closing.until) == (["slow"], NOON)


def test_who_lost_the_lease_closes_nothing(store: Store, lease: Lease) -> None:
    close(store, lease, NOON)
    store.release_lease(lease)
    newer = store.take_lease(lease.name, "another", timedelta(minutes=5))
    assert newer is not None
    for old in (lease, replace(newer, token=newer.token + 1)):
        with pytest.raises(Outdated, match="another has it"):
            close(store, old, NOON + SECOND)
    assert store.closed_until("rides") == NOON
    assert close(store, newer, NOON + SECOND).until == NOON + SECOND


def test_who_waits_is_told_soon_and_others_events_do_not_matter_much(store: Store) -> None:
    notices, ending = EventNotices(store, "rides"), threading.Event()
    notices.wait(0.1, after_cursor=0, ending=ending)
    began = time.monotonic()
    threading.Timer(0.2, lambda: store.write_events([event("a")])).start()
    notices.wait(20, after_cursor=0, ending=ending)
    assert time.monotonic() - began < 10
    notices.close()


def test_without_notices_one_waits_and_looks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    if not store.is_postgresql:
        pytest.skip("SQLite has no notices at all")
    notices = EventNotices(store, "rides")
    monkeypatch.setattr("ninefold.store.tailing._LISTEN", "NO SUCH STATEMENT")
    notices.wait(0.05, after_cursor=0, ending=threading.Event())
    store.write_events([event("a")])
    assert names(store.events("rides")[0]) == ["a"]


def test_the_log_can_be_read_up_to_a_cursor(store: Store) -> None:
    store.write_events([event("b", NOON + SECOND), event("a", NOON)])
    cursor = store.last_cursor("rides")
    store.write_events([event("c", NOON)])
    assert names(store.events_known("rides", "arrived", up_to_cursor=cursor)) == ["a", "b"]
    assert store.last_cursor("nothing") == 0
