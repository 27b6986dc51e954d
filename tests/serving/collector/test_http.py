"""The collector as a process, over real HTTP."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from ninefold.keys import create_key
from ninefold.online import OnlineRow, open_online_store
from ninefold.settings import settings
from ninefold.store import open_store

USE_CASE = """
from datetime import timedelta
from ninefold.features import Stream
from ninefold.fields import Field, Input, Metric
from ninefold.splits import HashSplit
from ninefold.usecase import UseCase
from ninefold.windows import Window

USE_CASE = UseCase(
    name="rides", title="Rides", problem="regression", request=(Field(name="ride", kind="integer"),), key=("ride",),
    target=Field(name="minutes", kind="number"), metric=Metric(name="mae", direction="minimize"), extract="x:y",
    split=HashSplit(), inputs=(Input(name="a"),), derive=dict, baseline=max, decide=max, block=max,
    streams=(Stream(name="arrived", fields=(Field(name="ride", kind="integer"), Field(name="late", kind="number"))),),
    windows=(Window(name="late", stream="arrived", key=("ride",), value="late", length=timedelta(hours=1)),),
)
"""


class Process:
    """A collector in a process of its own."""

    def __init__(self, folder: Path, port: int, *arguments: str) -> None:
        (folder / "team_rides.py").write_text(USE_CASE)
        self.key = create_key(settings().keys_file or Path(), "test")
        self.port = port
        environment = {
            **os.environ, "NINEFOLD_HOME": str(settings().home), "NINEFOLD_CLOCK": "event", "PYTHONPATH": str(folder),
        }  # fmt: skip
        command = [sys.executable, "-m", "serving.collector", "--use-case", "team_rides:USE_CASE", "--port", str(port)]
        self.process = subprocess.Popen(
            [*command, *arguments], env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-ApiKey": self.key}, timeout=20)

    def await_ready(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            with contextlib.suppress(httpx.TransportError):
                if self.http.get("/readyz").status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError("The collector does not become ready.")

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.communicate(timeout=30)
        self.http.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path, free_port())
    try:
        process.await_ready()
        yield process
    finally:
        process.end()


def event(number: int, minute: int) -> dict[str, Any]:
    values = {"ride": 1, "late": float(number)}
    return {"id": f"e{number}", "stream": "arrived", "happened_at": f"2013-07-01T12:{minute:02}:00Z", "values": values}


def late_row() -> OnlineRow | None:
    online = open_online_store(settings().online_url)
    (row,) = online.read_many([("late_1h", "1")])
    online.close()
    return row


def test_the_main_path_and_what_is_refused(running: Process) -> None:
    http = running.http
    body = {"events": [event(1, 0), event(3, 1)], "advance_to": "2013-07-01T12:01:00Z"}
    answer = http.post("/v1/events?wait=windows", json=body)
    assert answer.status_code == 200, answer.text
    row = late_row()
    assert row is not None
    assert row.values == (2.0, 2)
    answer = http.post("/v1/truths", json={"key": {"ride": 1}, "value": 3, "known_at": "2013-07-01T12:05:00Z"})
    assert answer.json()["unmatched"] == 1

    def refused(status: int, **request: Any) -> dict[str, Any]:
        answer = http.post(**{"url": "/v1/truths", **request})
        assert answer.status_code == status, answer.text
        document: dict[str, Any] = answer.json()
        assert document["error"]
        return document

    refused(401, headers={"X-ApiKey": "nf_wrong"}, json={})
    refused(401, headers={"X-ApiKey": ""}, json={})
    refused(404, url="/v1/guesses", json={})
    assert refused(400, content=b'{"truths": [')["field"] == "body"
    assert refused(400, content=b"\xff\xfe")["field"] == "body"
    assert refused(400, content=b"")["field"] == "body"
    assert refused(400, content=b"[]")["field"] == "body"
    assert refused(400, content=b'{"key": {"ride": 1}, "value": NaN}')["field"] == "value"
    assert refused(400, content=b'{"key": {"ride": 1}, "value": 1e999, "known_at": "2013-07-01T12:05:00Z"}')["field"]
    assert refused(400, json={"truths": {}})["field"] == "truths"
    assert refused(400, json={"truths": [], "more": 1})["field"] == "more"
    assert refused(400, url="/v1/events?wait=forever", json={"events": []})["field"] == "wait"
    refused(413, content=orjson.dumps({"truths": [0] * 100_000}))
    with contextlib.suppress(httpx.WriteError, httpx.ReadError):
        # The service answers before it has read all; a client that still sends may see the connection close instead.
        refused(413, content=b" " * (50 * 2**20))
    assert http.get("/v1/truths").status_code == 405
    assert http.get("/healthz").status_code == 200

    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["Truth"]["properties"]["key"]["required"] == ["ride"]
    assert schemas["Event"]["oneOf"][0]["properties"]["stream"] == {"const": "arrived"}
    text = http.get("/metrics").text
    assert 'ninefold_collector_records_total{kind="events",outcome="new"} 2.0' in text
    assert 'ninefold_collector_refused_total{kind="truths",status="401"} 2.0' in text
    assert "ninefold_collector_windows_lag_seconds_count 1.0" in text


def test_what_was_acknowledged_survives_a_kill_and_is_counted_after_it(tmp_path: Path) -> None:
    first = Process(tmp_path, free_port())
    acknowledged: list[int] = []
    try:
        first.await_ready()

        def send() -> None:
            with contextlib.suppress(httpx.TransportError):
                for number in range(100_000):
                    answer = first.http.post("/v1/events", json=event(number, 1))
                    assert answer.status_code == 200
                    acknowledged.append(number)

        sender = threading.Thread(target=send)
        sender.start()
        while len(acknowledged) < 50:
            time.sleep(0.01)
    finally:
        first.end(signal.SIGKILL)
    sender.join()
    second = Process(tmp_path, free_port())
    try:
        second.await_ready()
        body = {"events": [event(n, 1) for n in acknowledged], "advance_to": "2013-07-01T12:01:00Z"}
        answer = second.http.post("/v1/events?wait=windows", json=body).json()
        assert answer["repeated"] == len(acknowledged)
        store = open_store(settings().store_url)
        kept = store.counts()["events"]
        store.close()
        assert kept in (len(acknowledged), len(acknowledged) + 1)
        row = late_row()
        assert row is not None
        assert row.values[1] == kept
    finally:
        second.end()


@pytest.mark.parametrize("wrong", ["port", "use case", "keys", "store"])
def test_a_start_that_can_not_be_says_why_in_one_line(tmp_path: Path, wrong: str) -> None:
    arguments, words = [], ""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = free_port()
        if wrong == "port":
            port, words = taken.getsockname()[1], "in use by another process"
        elif wrong == "use case":
            arguments, words = ["--use-case", "nobody"], "no use case 'nobody'"
        elif wrong == "store":
            settings().home.mkdir(parents=True, exist_ok=True)
            (settings().home / "store.db").write_bytes(b"not a database" * 100)
            words = "damaged"
        process = Process(tmp_path, port, *arguments)
        if wrong == "keys":
            process.end(signal.SIGKILL)
            (settings().home / "keys.json").unlink()
            words = "ninefold key create"
            create = process.process.args
            finished = subprocess.run(
                create, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
            )
            code, said = finished.returncode, finished.stderr
        else:
            _, said = process.process.communicate(timeout=30)
            code = process.process.returncode
    assert code in (1, 2)
    assert said.count("\n") == 1, said
    assert said.startswith("collector: ")
    assert words in said
