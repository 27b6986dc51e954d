"""A featurizer of its own: collectors write events, it keeps the windows, and one alone at a time."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import timedelta
from typing import Any

import httpx
import polars as pl
import pytest
import sqlalchemy as sa

from ninefold.clock import WallClock, format_instant
from ninefold.errors import ConfigurationError
from ninefold.features import Stream
from ninefold.fields import Field, Input, Metric
from ninefold.keys import KeysFile, create_key
from ninefold.online import open_online_store
from ninefold.records import Event
from ninefold.settings import Settings
from ninefold.splits import HashSplit
from ninefold.store import Store, open_store
from ninefold.store.tailing import lifted_past_closed
from ninefold.usecase import UseCase
from ninefold.windows import Window
from ninefold.windows.batch import changelog
from serving.collector.app import Collector
from serving.featurizer import follower, service
from serving.featurizer.follower import Follower
from serving.featurizer.service import FeaturizerService

MINUTE = timedelta(minutes=1)
CITIES = ("Rome", "Oslo", "Bonn")
WAIT = {"wait": "windows"}
LEASE = "featurizer/trips"

TRIPS = UseCase(
    name="trips",
    title="How long will this trip take?",
    problem="regression",
    request=(Field(name="trip", kind="integer"), Field(name="city", kind="category")),
    key=("trip",),
    target=Field(name="minutes", kind="number", unit="min"),
    metric=Metric(name="mae", direction="minimize"),
    extract="x:y",
    split=HashSplit(),
    inputs=(Input(name="a"),),
    derive=dict,
    baseline=lambda columns: columns["a"],
    decide=lambda request, prediction: None,
    block=lambda columns: columns["city"],
    streams=(Stream(name="arrived", fields=(Field(name="city", kind="category"), Field(name="late", kind="number"))),),
    windows=(Window(name="late", stream="arrived", key=("city",), value="late", length=60 * MINUTE, resolution=0.5),),
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "TICK_SECONDS", 0.1)
    monkeypatch.setattr(follower, "VERSIONS_SECONDS", 0.0)


@pytest.fixture(params=["embedded", pytest.param("cluster", marks=pytest.mark.postgres)])
def here(request: pytest.FixtureRequest, tmp_path: Any) -> Settings:
    """SQLite twice, then PostgreSQL and Redis."""
    urls = {}
    if request.param == "cluster":
        urls = {
            "store_url": request.getfixturevalue("new_postgresql_url"),
            "online_url": request.getfixturevalue("redis_url"),
        }
    return Settings(home=tmp_path, serving={"windows": "service"}, **urls)  # type: ignore[arg-type]


@pytest.fixture
def store(here: Settings) -> Iterator[Store]:
    with closing(open_store(here.store_url)) as opened:
        yield opened


@contextmanager
def featurizer(here: Settings, store: Store, **options: Any) -> Iterator[FeaturizerService]:
    running = FeaturizerService(TRIPS, here, store, WallClock(), **options)
    running.start()
    try:
        yield running
    finally:
        running.stop()


@asynccontextmanager
async def collector(here: Settings, store: Store) -> AsyncIterator[httpx.AsyncClient]:
    assert here.keys_file is not None
    key = create_key(here.keys_file, f"test-{random.random()}")
    app = Collector(TRIPS, here, store, KeysFile(here.keys_file)).app()
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://collector", headers={"X-ApiKey": key}, timeout=60
        ) as client,
    ):
        yield client


async def post(client: httpx.AsyncClient, number: int, *, wait: bool = False, city: str = "") -> dict[str, Any]:
    drawn = random.Random(number)
    body = {
        "id": str(number), "stream": "arrived", "happened_at": format_instant(WallClock().now() - MINUTE),
        "values": {"city": city or drawn.choice(CITIES), "late": drawn.choice([0.5, 3.0, -2.5])},
    }  # fmt: skip
    answer = await client.post("/v1/events", json=body, params=WAIT if wait else None)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def until(true: Callable[[], Any], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def in_log(store: Store, window: Window) -> dict[str, tuple[object, ...]]:
    """The newest row of every city by the batch definition of the window, out of the log."""
    mine = list(store.events_known("trips", "arrived"))
    frame = pl.DataFrame(
        {name: [e.values[name] for e in mine] for name in ("city", "late")} | {"known_at": [e.known_at for e in mine]},
        schema={"city": pl.String, "late": pl.Float64, "known_at": pl.Datetime("us", "UTC")},
    )
    rows = changelog(frame, window).filter(pl.col("known_at") <= WallClock().now())
    return {row[0]: row[2:] for row in rows.group_by("city", maintain_order=True).last().rows()}


def online(here: Settings, view: str) -> dict[str, tuple[object, ...]]:
    with closing(open_online_store(here.online_url)) as rows:
        found = rows.read_many([(view, city) for city in CITIES])
    return {row.key: row.values for row in found if row is not None}


async def test_what_two_collectors_write_at_once_ends_in_the_windows_once(here: Settings, store: Store) -> None:
    with closing(open_store(here.store_url)) as second:
        async with collector(here, store) as one, collector(here, second) as other:
            with featurizer(here, store) as running:
                await post(one, 0, wait=True)
                async with asyncio.TaskGroup() as group:
                    for number in range(1, 101):
                        for client in (one, other) if number % 10 == 0 else ((one, other)[number % 2],):
                            group.create_task(post(client, number))
                answer = await post(other, 101, wait=True)
                assert (answer["new"], answer["late"]) == (1, 0)
                assert online(here, "late_1h") == in_log(store, TRIPS.windows[0])
                assert sum(values[1] for values in online(here, "late_1h").values()) == 102  # type: ignore[misc]
                assert running.problem is None


async def test_a_restarted_one_rebuilds_its_windows_and_readers_see_an_old_watermark_meanwhile(
    here: Settings, store: Store
) -> None:
    async with collector(here, store) as client:
        with featurizer(here, store):
            for number in range(20):
                await post(client, number, wait=number == 19)
        with closing(open_online_store(here.online_url)) as rows:
            before = rows.watermark("late_1h")
            for number in range(20, 40):
                await post(client, number)
            time.sleep(0.3)
            assert rows.watermark("late_1h") == before
            with featurizer(here, store) as running:
                until(lambda: running.problem is None, "it is ready")
                mark = rows.watermark("late_1h")
                assert mark is not None
                assert before is not None
                assert mark > before
                assert online(here, "late_1h") == in_log(store, TRIPS.windows[0])


async def test_of_two_one_acts_and_the_other_takes_over(here: Settings, store: Store) -> None:
    async with collector(here, store) as client:
        with featurizer(here, store) as first:
            await post(client, 0, wait=True)
            with closing(open_store(here.store_url)) as other, featurizer(here, other) as second:
                until(lambda: second.problem and "stands by" in second.problem, "it stands by")
                await post(client, 1, wait=True)
                assert second.watermark is None
                first.stop()
                await post(client, 2, wait=True)
                until(lambda: second.problem is None, "it acts")
                assert online(here, "late_1h") == in_log(store, TRIPS.windows[0])


async def test_who_lost_the_lease_while_it_slept_writes_nothing_more(here: Settings, store: Store) -> None:
    """The lease is taken from it behind its back; it finds out at the store, before it has written anything."""
    async with collector(here, store) as client:
        with featurizer(here, store, lease_seconds=3600) as running:
            await post(client, 0, wait=True)
            held = store.lease(LEASE)
            assert held is not None
            store.release_lease(held)
            newer = store.take_lease(LEASE, "another", timedelta(hours=1))
            assert newer is not None
            until(lambda: running.problem and "stands by" in running.problem, "it stands by")
            closed = store.closed_until("trips")
            with closing(open_online_store(here.online_url)) as rows:
                mark = rows.watermark("late_1h")
                await post(client, 1)
                time.sleep(0.5)
                assert rows.watermark("late_1h") == mark
            assert store.closed_until("trips") == closed
            store.release_lease(newer)
            await post(client, 2, wait=True)
            assert online(here, "late_1h") == in_log(store, TRIPS.windows[0])


async def test_a_store_that_fails_while_events_are_waited_for_does_not_end_the_featurizer(
    here: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with collector(here, store) as client:
        with featurizer(here, store) as running:
            await post(client, 0, wait=True)
            # Most of its time it waits for events, and so that is where the failure meets it.
            monkeypatch.setattr(service, "TICK_SECONDS", 1.0)
            time.sleep(0.2)
            for name, other in (("events", "away"), ("away", "events")):
                with store.writing() as connection:
                    connection.execute(sa.text(f"ALTER TABLE {name} RENAME TO {other}"))
                told = name == "events"
                until(lambda told=told: (running.problem is not None) is told, "it says how it stands")  # type: ignore[misc]
            await post(client, 1, wait=True)
            assert online(here, "late_1h") == in_log(store, TRIPS.windows[0])


async def test_rows_that_the_online_store_lost_are_computed_anew(here: Settings, store: Store) -> None:
    async with collector(here, store) as client:
        with featurizer(here, store):
            for number, city in enumerate(CITIES):
                await post(client, number, wait=True, city=city)
            assert set(online(here, "late_1h")) == set(CITIES)
            with closing(open_online_store(here.online_url)) as rows:
                rows.forget("late_1h")
            await post(client, 9, wait=True, city="Rome")
            assert online(here, "late_1h") == in_log(store, TRIPS.windows[0])
            assert set(online(here, "late_1h")) == set(CITIES)


async def test_a_new_versions_window_is_filled_back_from_the_log(here: Settings, store: Store) -> None:
    async with collector(here, store) as client:
        with featurizer(here, store):
            for number in range(10):
                await post(client, number, wait=number == 9)
            store.register_version("trips", "d" * 64, "somewhere", lengths={"late": "90m"})
            until(lambda: len(online(here, "late_90m")) > 0, "the window is filled")
            assert online(here, "late_90m") == in_log(store, TRIPS.windows[0].of(90 * MINUTE))
            await post(client, 10, wait=True)
            assert online(here, "late_90m") == in_log(store, TRIPS.windows[0].of(90 * MINUTE))


async def test_without_a_featurizer_events_are_kept_and_who_waits_is_told(
    here: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.collector.elsewhere.wait_for_windows.__kwdefaults__", {"seconds": 0.2})
    async with collector(here, store) as client:
        await post(client, 0)
        body = {
            "id": "1", "stream": "arrived", "happened_at": format_instant(WallClock().now()),
            "values": {"city": "Rome", "late": 1.0},
        }  # fmt: skip
        answer = await client.post("/v1/events", json=body, params=WAIT)
        assert answer.status_code == 503
        assert answer.json()["error"].startswith("Kept, but the windows are not written")
        assert len(store.events("trips")[0]) == 2


async def test_windows_have_one_keeper(here: Settings, store: Store) -> None:
    with featurizer(here, store) as running:
        until(lambda: running.problem is None, "it is ready")
        itself = here.model_copy(update={"serving": here.serving.model_copy(update={"windows": "in_process"})})
        async with collector(itself, store) as client:
            ready = await client.get("/readyz")
            assert ready.status_code == 503
            deadline = time.monotonic() + 20
            while "keeps the windows" not in ready.text and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
                ready = await client.get("/readyz")
            assert "A featurizer keeps the windows of trips already" in ready.text
    replayed = here.model_copy(update={"clock": "event"})
    assert here.keys_file is not None
    create_key(here.keys_file, "other")
    with pytest.raises(ConfigurationError, match="replay"):
        Collector(TRIPS, replayed, store, KeysFile(here.keys_file))


def test_an_event_that_comes_while_the_windows_are_rebuilt_counts_once(here: Settings, store: Store) -> None:
    lease = store.take_lease(LEASE, "me", MINUTE)
    assert lease is not None
    close = store.close_events

    def close_and_be_overtaken(*args: Any, **options: Any) -> Any:
        closing = close(*args, **options)
        now = WallClock().now()
        store.write_events(
            [
                Event(
                    event_id="meanwhile", use_case="trips", stream="arrived", happened_at=now, known_at=now,
                    received_at=now, values={"city": "Rome", "late": 1.0},
                )
            ],
            lifted_past_closed,
        )  # fmt: skip
        return closing

    store.close_events = close_and_be_overtaken  # type: ignore[method-assign]
    with closing(Follower(TRIPS, store, here.online_url, WallClock(), lease, lambda _: None)) as following:
        for _ in range(2):
            assert not following.turn(lease)
            time.sleep(0.001)
    assert online(here, "late_1h")["Rome"][1] == 1


def test_the_process_says_how_it_stands_and_ends_at_sigterm(here: Settings, store: Store) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ, "NINEFOLD_HOME": str(here.home), "NINEFOLD_STORE_URL": here.store_url,
        "NINEFOLD_ONLINE_URL": here.online_url,
    }  # fmt: skip
    command = [sys.executable, "-m", "serving.featurizer", "--use-case", "arrivals", "--port", str(port)]
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (refused.returncode, "NINEFOLD_SERVING__WINDOWS=service" in refused.stderr) == (2, True)
    process = subprocess.Popen(command, env={**environment, "NINEFOLD_SERVING__WINDOWS": "service"})
    try:
        address = f"http://127.0.0.1:{port}"

        def ready() -> bool:
            try:
                return httpx.get(f"{address}/readyz").status_code == 200
            except httpx.TransportError:
                return False

        until(ready, "it is ready")
        assert httpx.get(f"{address}/healthz").json() == {"status": "alive"}
        assert "ninefold_featurizer_holds_lease 1.0" in httpx.get(f"{address}/metrics").text
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    lease = store.lease("featurizer/arrivals")
    assert lease is not None
    assert not store.holds_lease(lease)
