"""Whether a candidate could be asked: a front end that says so over HTTP, and windows in real online rows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rollout_house import USE_CASE

from ninefold.features import Stream
from ninefold.fields import Field
from ninefold.keys import Keys
from ninefold.online import open_online_store
from ninefold.package import write_package
from ninefold.records import ModelVersion
from ninefold.settings import Settings, settings
from ninefold.signature import PackageManifest, Signature
from ninefold.windows import Window
from serving.rollout.obstacle import OnlineObstacle

NOW = datetime(2024, 1, 5, tzinfo=UTC)
WINDOWED = replace(
    USE_CASE,
    streams=(Stream(name="deliveries", fields=(Field(name="depot", kind="category"), Field(name="h", kind="number"))),),
    windows=(
        Window(name="depot_hours", stream="deliveries", key=("depot",), value="h", length=timedelta(hours=6),
               lengths=(timedelta(hours=6), timedelta(hours=9))),
    ),
)  # fmt: skip
READY: dict[str, Any] = {"id": "r", "revision": 1, "candidate": 2, "ready": True, "problem": None, "shadow": False}


class _FrontEnd(BaseHTTPRequestHandler):
    rollout: Any = READY

    def do_GET(self) -> None:
        keys = Keys.from_file(settings().keys_path)
        keys.authenticate([(name.lower().encode(), value.encode()) for name, value in self.headers.items()])
        body = json.dumps({"name": "parcels", "rollout": self.rollout}).encode()
        found = self.path == "/v1/models/parcels"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def front_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_FrontEnd]]:
    """A front end whose rollout a test sets."""
    handler = type("FrontEnd", (_FrontEnd,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("NINEFOLD_PORTS__FRONT_END", str(server.server_port))
    settings.cache_clear()
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def candidate(tmp_path: Path) -> ModelVersion:
    """Version 2: with the window at nine hours, while six are declared."""
    signature = Signature(
        use_case="parcels", problem="regression", inputs=(),
        views=WINDOWED.feature_views({"depot_hours": "9h"}), derive_digest=WINDOWED.derive_digest, target="hours",
    )  # fmt: skip
    manifest = PackageManifest(format="onnx", signature=signature, statistics={})
    digest, uri = write_package(str(tmp_path), manifest, {"model.onnx": b"graph"})
    return ModelVersion(
        use_case="parcels", version=2, digest=digest, uri=uri, state="registered", created_at=NOW,
        lengths={"depot_hours": "9h"},
    )  # fmt: skip


def fill(here: Settings, **marks: datetime) -> None:
    online = open_online_store(here.online_url)
    try:
        for view, mark in marks.items():
            online.advance_watermark(view, mark)
    finally:
        online.close()


def test_it_waits_until_windows_are_filled_and_the_front_end_goes_by_it(
    front_end: type[_FrontEnd], candidate: ModelVersion
) -> None:
    here = settings()
    asking = OnlineObstacle(here, WINDOWED)
    assert asking(candidate) == "The windows of version 2 are not filled back yet: depot_hours_9h."
    fill(here, depot_hours_6h=NOW, depot_hours_9h=NOW - timedelta(hours=1))
    assert asking(candidate) == "The windows of version 2 are behind the others: depot_hours_9h."
    fill(here, depot_hours_9h=NOW - timedelta(seconds=100))
    front_end.rollout = None
    assert asking(candidate) == "The front end does not go by version 2 yet: its model server is not ready."
    front_end.rollout = {**READY, "ready": False, "problem": "It was trained with another derive (aa) than (bb)."}
    assert asking(candidate) == (
        "The front end can't ask version 2: It was trained with another derive (aa) than (bb)."
    )
    front_end.rollout = {**READY, "candidate": 7}
    assert "does not go by version 2 yet" in asking(candidate)
    front_end.rollout = {**READY, "ready": False}
    assert "is not ready to ask version 2" in asking(candidate)
    front_end.rollout = READY
    assert asking(candidate) == ""
    assert asking.rollout() == READY


def test_who_can_not_be_asked_is_an_obstacle(candidate: ModelVersion, front_end: type[_FrontEnd]) -> None:
    fill(settings(), depot_hours_9h=NOW)
    elsewhere = settings().model_copy(
        update={"rollout": settings().rollout.model_copy(update={"front_end_url": "http://127.0.0.1:9/"})}
    )
    asking = OnlineObstacle(elsewhere, WINDOWED)
    assert asking(candidate).startswith("The front end at http://127.0.0.1:9/v1/models/parcels can't be asked: ")
    assert asking.rollout() is None
    front_end.rollout = "what?"
    assert "is not an answer of a front end" in OnlineObstacle(settings(), WINDOWED)(candidate)
    assert OnlineObstacle(settings(), replace(WINDOWED, name="letters"))(candidate).startswith("The front end at ")


def test_a_package_that_can_not_be_read_is_an_obstacle(candidate: ModelVersion) -> None:
    damaged = replace(candidate, digest="0" * 64)
    words = OnlineObstacle(settings(), WINDOWED)(damaged)
    assert words.startswith("What version 2 needs can't be looked at: ")
