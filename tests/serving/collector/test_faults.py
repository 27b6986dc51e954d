"""Stores that refuse: nothing is acknowledged that is not kept, nothing is counted twice, and it goes on by itself."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ninefold.errors import DataError, InvalidInput, Unavailable
from ninefold.online import OnlineRow
from serving.collector.keeper import Batch, Outcome
from serving.collector.writer import Writer


def event(minute: int) -> dict[str, Any]:
    return {
        "stream": "arrived",
        "happened_at": f"2013-07-01T12:{minute:02}:00Z",
        "values": {"city": "Rome", "late": 1.0},
    }


def batch(minute: int) -> dict[str, Any]:
    return {"events": [event(minute)], "advance_to": f"2013-07-01T12:{minute:02}:00Z"}


WAIT = {"params": {"wait": "windows"}}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


async def test_a_locked_store_is_a_503_that_says_when_to_come_back_and_the_retry_counts_once(
    collector: Any,
) -> None:
    async with collector(clock="event", busy_seconds=0.1) as running:
        await running.post("/v1/events", batch(0), **WAIT)
        with locked(running.settings.home / "store.db"):
            answer = await running.http.post("/v1/events", json=batch(1), **WAIT)
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "1"
            assert "locked" in answer.json()["error"]
        answer = await running.post("/v1/events", batch(1), **WAIT)
        assert answer["new"] == 1
        assert running.row("busy_10m") is not None
        assert running.row("busy_10m").values == (2,)
        assert (await running.http.get("/readyz")).status_code == 200


async def test_when_the_online_rows_are_locked_events_are_kept_and_their_windows_follow(
    collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ninefold.online.sqlite._BUSY_SECONDS", 0.1)
    async with collector(clock="event") as running:
        await running.post("/v1/events", batch(0), **WAIT)
        with locked(Path(running.settings.online_url.removeprefix("sqlite:///"))):
            answer = await running.http.post("/v1/events", json=batch(1), **WAIT)
            assert answer.status_code == 503
            assert answer.json()["error"].startswith("Kept, but")
            assert (await running.post("/v1/events", event(2)))["new"] == 1
        answer = await running.post("/v1/events", batch(1), **WAIT)
        assert (answer["new"], answer["repeated"]) == (0, 1)
        assert running.row("busy_10m").values == (2,)
        await running.post("/v1/events", {"advance_to": "2013-07-01T12:02:00Z"}, **WAIT)
        assert running.row("busy_10m").values == (3,)


async def test_many_at_once_share_commits_and_none_is_lost(collector: Any) -> None:
    async with collector(clock="wall") as running:
        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(running.post("/v1/events", {**event(1), "id": str(number)}, **WAIT))
        assert isinstance(running.row("busy_10m"), OnlineRow)
        assert running.row("busy_10m").values == (100,)


async def test_a_request_that_ends_before_it_is_whole_is_the_senders_matter(
    collector: Any,
) -> None:
    async with collector() as running:
        app = running.http._transport.app
        scope = {
            "type": "http", "method": "POST", "path": "/v1/events", "query_string": b"", "root_path": "",
            "headers": [(b"x-apikey", running.key.encode())],
        }  # fmt: skip
        coming = [{"type": "http.request", "body": b'{"events":[', "more_body": True}, {"type": "http.disconnect"}]
        said: list[Any] = []

        async def receive() -> Any:
            return coming.pop(0)

        async def send(message: Any) -> None:
            said.append(message)

        await app(scope, receive, send)
        assert said[0]["status"] == 400
        assert b"ended before it was whole" in said[1]["body"]


class Scripted:
    """A session that does what it is told, to meet faults that real stores rarely have."""

    watermark = None

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.go = threading.Event()
        self.go.set()

    def keep(self, batches: list[Batch]) -> list[Outcome]:
        self.go.wait(5)
        self.groups.append(len(batches))
        if any(batch.events == ("poison",) for batch in batches):
            raise DataError("This can't be kept.")
        return [Outcome(accepted=len(batch)) for batch in batches]

    def flush(self) -> None:
        pass

    def tick(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[tuple[Scripted, Writer]]:
    session = Scripted()
    writer = Writer(lambda: session, max_waiting=10, on_windows=lambda seconds: None)
    writer.start()
    yield session, writer
    session.go.set()
    writer.stop()


def of(*events: str) -> Batch:
    return Batch(events=events)  # type: ignore[arg-type]


def test_a_full_queue_refuses_at_once_and_takes_more_when_it_has_emptied(scripted: tuple[Scripted, Writer]) -> None:
    session, writer = scripted
    session.go.clear()
    first = writer.submit(of(*"abcdefgh"), wait_for_windows=False)
    with pytest.raises(Unavailable, match="8 records wait"):
        writer.submit(of("x", "y", "z"), wait_for_windows=False)
    session.go.set()
    assert first.result(5).accepted == 8
    assert writer.submit(of(*"abcdefghijklmnop"), wait_for_windows=True).result(5).accepted == 16
    assert writer.waiting == 0


def test_one_bad_request_does_not_fail_those_that_share_its_commit(scripted: tuple[Scripted, Writer]) -> None:
    session, writer = scripted
    session.go.clear()
    writer.submit(of("before"), wait_for_windows=False)
    shared = [writer.submit(of(name), wait_for_windows=False) for name in ("a", "poison", "b")]
    session.go.set()
    assert shared[0].result(5).accepted == 1
    assert shared[2].result(5).accepted == 1
    with pytest.raises(InvalidInput, match="can't be kept"):
        shared[1].result(5)


async def test_who_stops_waiting_does_not_end_the_writer(scripted: tuple[Scripted, Writer]) -> None:
    session, writer = scripted
    session.go.clear()
    gone = asyncio.ensure_future(asyncio.wrap_future(writer.submit(of("a"), wait_for_windows=False)))
    gone.cancel()
    await asyncio.wait([gone])
    session.go.set()
    async with asyncio.timeout(5):
        assert (await asyncio.wrap_future(writer.submit(of("b"), wait_for_windows=False))).accepted == 1


def test_stopping_writes_what_waits_and_takes_nothing_more() -> None:
    session = Scripted()
    session.go.clear()
    writer = Writer(lambda: session, max_waiting=100, on_windows=lambda seconds: None)
    writer.start()
    waiting = [writer.submit(of("a"), wait_for_windows=True) for _ in range(5)]
    stopper = threading.Thread(target=writer.stop)
    stopper.start()
    session.go.set()
    stopper.join(5)
    assert [job.result(0).accepted for job in waiting] == [1] * 5
    with pytest.raises(Unavailable, match="stopping"):
        writer.submit(of("a"), wait_for_windows=False)


def test_a_session_that_can_not_be_opened_is_tried_again_and_says_why_meanwhile() -> None:
    session, attempts = Scripted(), []

    def open_session() -> Scripted:
        attempts.append(1)
        if len(attempts) < 2:
            raise Unavailable("The log is out of reach.")
        return session

    writer = Writer(open_session, max_waiting=10, on_windows=lambda seconds: None)
    failed = writer.submit(of("a"), wait_for_windows=False)
    writer.start()
    with pytest.raises(Unavailable, match="out of reach"):
        failed.result(5)
    assert writer.submit(of("a"), wait_for_windows=False).result(5).accepted == 1
    assert writer.problem is None
    writer.stop()
