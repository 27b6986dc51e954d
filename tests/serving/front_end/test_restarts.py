"""PostgreSQL and Redis are killed and started again under load, beside a front end, a collector and a featurizer."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from parcel_house import HERE, House, ToyModel, free_port, load, running, wait_for

from ninefold.clock import format_instant
from ninefold.settings import settings
from ninefold.store import open_store

BASELINE = 10 + 20


def eventually(check: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@contextmanager
def service(name: str, **environment: str) -> Iterator[str]:
    """One of the services, in a process of its own; its address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", f"serving.{name}", "--use-case", "parcels:USE_CASE", "--port", str(port)],
        env={**os.environ, "PYTHONPATH": str(HERE), "NINEFOLD_SERVING__WINDOWS": "service", **environment},
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz", process, 60)
        yield f"http://127.0.0.1:{port}"
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@dataclass
class Told:
    """What producers were told is kept."""

    truths: set[str] = field(default_factory=set)
    events: set[str] = field(default_factory=set)
    refused: Counter[int] = field(default_factory=Counter)


@contextmanager
def producing(url: str, key: str) -> Iterator[Told]:
    """Sends truths and events, one of each at a time, and never one of them twice."""
    told, ending = Told(), threading.Event()

    def send() -> None:
        number = 0
        with httpx.Client(base_url=url, headers={"X-ApiKey": key}, timeout=30) as client:
            while not ending.wait(0.01):
                number += 1
                event = {
                    "id": f"e{number}", "stream": "deliveries", "happened_at": format_instant(datetime.now(UTC)),
                    "values": {"zone": "south", "minutes": 1.0},
                }  # fmt: skip
                if (status := client.post("/v1/events", json=event).status_code) == 200:
                    told.events.add(f"e{number}")
                told.refused[status] += status != 200
                truth = {"id": f"t{number}", "key": {"parcel": f"P{number}"}, "value": 7.0}
                if (status := client.post("/v1/truths", json=truth).status_code) == 200:
                    told.truths.add(f"t{number}")
                told.refused[status] += status != 200

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield told
    finally:
        ending.set()
        thread.join()


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.timeout(420)
def test_postgresql_and_redis_restart_under_load_and_nothing_acknowledged_is_lost(
    own_postgresql: Any, redis_module: Any, model: ToyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(redis_module.running())
        monkeypatch.setenv("NINEFOLD_STORE_URL", own_postgresql.new_database())
        monkeypatch.setenv("NINEFOLD_ONLINE_URL", redis.url + "?timeout=5")
        settings.cache_clear()
        open_store(settings().store_url).close()
        house = House()
        stack.callback(house.online.close)
        house.route(model.url)
        featurizer = stack.enter_context(service("featurizer"))
        collector = stack.enter_context(service("collector"))
        up = stack.enter_context(running(house))

        def ready(address: str) -> bool:
            return httpx.get(f"{address}/readyz", timeout=10).status_code == 200

        eventually(lambda: ready(featurizer) and ready(collector), "all is ready")
        with load(up, clients=2) as seen, producing(collector, house.key) as told:
            eventually(lambda: len(seen.answers) > 30 and len(told.events) > 10, "the load flows")
            assert {a["fallback"] for a in seen.answers} == {None}

            before = len(seen.answers)
            own_postgresql.stop()
            eventually(lambda: len(seen.answers) > before + 20, "predictions go on without PostgreSQL")
            eventually(lambda: told.refused[503] > 0, "what can't be kept is refused")
            assert {a["fallback"] for a in seen.answers} == {None}
            own_postgresql.start()
            kept = len(told.events)
            eventually(lambda: len(told.events) > kept + 5, "events are kept again")
            eventually(lambda: ready(featurizer) and ready(collector), "all is ready again")

            redis.stop()
            eventually(lambda: seen.answers[-1]["fallback"] == "feature_missing", "answers fall back, flagged")
            assert "unreadable:online" in seen.answers[-1]["flags"]
            kept = len(told.events)
            eventually(lambda: len(told.events) > kept + 5, "events are kept without Redis")
            redis.start()
            eventually(lambda: seen.answers[-1]["fallback"] is None, "features are read again")

            # And once more, without anything that it had: the windows come back from the log, the rest by hand.
            redis.stop(losing_all=True)
            redis.start()
            eventually(lambda: seen.answers[-1]["fallback"] == "feature_missing", "the shop's row is gone")
            time.sleep(0.3)
            house.write_shop("books", datetime(2026, 3, 1, 6, tzinfo=UTC), 3.0, "media")
            eventually(lambda: seen.answers[-1]["fallback"] is None, "the shop's row is back")
        assert seen.refused == []
        assert all(answer["prediction"] == BASELINE for answer in seen.answers if answer["fallback"])

        def windows_are_right() -> bool:
            (row,) = house.online.read_many([("zone_speed_1h", "south")])
            return row is not None and row.values[1] == len(stored)

        with closing(open_store(settings().store_url)) as store:
            acknowledged = {answer["prediction_id"] for answer in seen.answers}
            eventually(
                lambda: acknowledged <= {p.prediction_id for p in store.predictions("parcels")},
                "every acknowledged prediction is shipped",
            )
            stored = {e.event_id for e in store.events_known("parcels", "deliveries")}
            assert told.events <= stored
            assert told.truths <= {t.truth_id for t in store.truths("parcels")}
        eventually(windows_are_right, "the windows hold every event once")
