"""Both ways into the collector, over real HTTP: what the short one answers is what the ordinary one answers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
import uvicorn

from ninefold.keys import KeysFile, create_key
from ninefold.settings import settings
from ninefold.store import open_store
from ninefold.usecase import UseCase
from serving.collector.app import Collector
from serving.collector.short_way import ShortWay
from serving.lean_http import MAX_BODY_BYTES, Exchange, Handler, Headers, LeanProtocol


class Watched:
    """The application, and what it let go the short way."""

    def __init__(self, served: ShortWay) -> None:
        self._served = served
        self.taken: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._served(scope, receive, send)

    def lean(self, path: bytes, headers: Headers) -> Handler | None:
        handler = self._served.lean(path, headers)
        if handler is None:
            return None

        def handle(exchange: Exchange) -> None:
            self.taken.append(path)
            handler(exchange)

        return handle


@pytest.fixture
def served(rides: UseCase) -> Iterator[tuple[Watched, httpx.Client]]:
    here = settings().model_copy(update={"clock": "event"})
    key = create_key(here.keys_path, "test")
    with closing(open_store(here.store_url)) as store, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = Watched(Collector(rides, here, store, KeysFile(here.keys_path)).served())
        config = uvicorn.Config(
            app, http=LeanProtocol, access_log=False, log_level="warning", lifespan="on", proxy_headers=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=address, headers={"X-ApiKey": key}, timeout=20) as client:
            while thread.is_alive() and (not server.started or client.get("/readyz").status_code != 200):
                time.sleep(0.02)
            yield app, client
        server.should_exit = True
        thread.join()


def event(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"e{number}", "stream": "arrived", "happened_at": f"2013-07-01T12:{number:02}:00Z",
        "values": {"city": "Rome", "late": 1.0}, **more,
    }  # fmt: skip


def truth(number: int, **more: Any) -> dict[str, Any]:
    return {"key": {"ride": number, "city": "Rome"}, "value": 12.0, "known_at": "2013-07-01T12:00:00Z", **more}


BODIES: list[tuple[str, Any]] = [
    ("events", {"events": [event(1), event(2)], "advance_to": "2013-07-01T12:02:00Z"}),
    ("events", {"events": [event(1)]}),
    ("events", {"events": [event(1, values={"city": "Oslo", "late": 2.0})]}),
    ("events", {"events": [], "advance_to": "2013-07-01T12:03:00Z"}),
    ("events", {"events": [event(4), event(5, stream="unknown"), event(6, values={"late": "x"})]}),
    ("events", {"events": "none"}),
    ("events", b'{"events": ['),
    ("events", b'{"events": [{"happened_at": NaN}]}'),
    ("truths", {"truths": [truth(1), truth(2)]}),
    ("truths", {"truths": [truth(1), truth(2, value=5000.0)]}),
    ("truths", truth(3)),
    ("truths", {}),
]


def test_the_short_way_answers_what_the_ordinary_way_answers(served: tuple[Watched, httpx.Client]) -> None:
    app, client = served

    def ask(kind: str, body: Any, query: str, headers: dict[str, str]) -> tuple[int, Any, Any, Any]:
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        answer = client.post(f"/v1/{kind}{query}", headers=headers, **content)
        assert int(answer.headers["content-length"]) == len(answer.content)
        shown = ("content-type", "www-authenticate", "retry-after")
        return answer.status_code, answer.json(), kind, [answer.headers.get(name) for name in shown]

    for kind, body in BODIES:
        wait = "?wait=windows" if kind == "events" else ""
        ask(kind, body, wait, {})
        # Kept before: both find the same. A parameter that nobody knows goes the ordinary way.
        for headers in ({}, {"X-ApiKey": "wrong"}):
            before = len(app.taken)
            short = ask(kind, body, wait, headers)
            assert len(app.taken) == before + 1
            assert short == ask(kind, body, f"{wait or '?'}&other=1", headers)
            assert len(app.taken) == before + 1


def test_a_large_body_goes_the_ordinary_way_and_is_kept_alike(served: tuple[Watched, httpx.Client]) -> None:
    app, client = served
    many = {"truths": [truth(number) for number in range(MAX_BODY_BYTES // 80)]}
    assert client.post("/v1/truths", json=many).json()["new"] == len(many["truths"])
    assert app.taken == []
    assert client.post("/v1/truths", json={"truths": many["truths"][:3]}).json()["repeated"] == 3
    assert app.taken == [b"/v1/truths"]
