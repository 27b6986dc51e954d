"""A replay waits for what runs to follow the store, and says what it waits for when that does not come."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ninefold.errors import DataError, StoreError, Unavailable
from ninefold.store import Store, open_store
from pipelines.following import wait_until_kept, wait_until_served
from pipelines.http_session import HttpSession


class FrontEnd:
    """Says what it is told to say, one after the other; the last for ever."""

    def __init__(self, port: int = 0) -> None:
        self.says: list[Any] = []
        front_end = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                said = front_end.says.pop(0) if len(front_end.says) > 1 else front_end.says[0]
                body = said.encode() if isinstance(said, str) else json.dumps(said).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.session = HttpSession(f"http://127.0.0.1:{self.server.server_address[1]}", "k")

    def close(self) -> None:
        self.session.close()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def front_end() -> Iterator[FrontEnd]:
    served = FrontEnd()
    yield served
    served.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path}/store.db") as opened:
        for digest in ("a" * 64, "b" * 64):
            opened.register_version("parcels", digest=digest, uri="/models")
        opened.set_state("parcels", 1, "live")
        yield opened


def test_it_waits_for_the_live_version_and_for_the_rollout_s_revision(front_end: FrontEnd, store: Store) -> None:
    front_end.says = [{"version": None, "rollout": None}, {"version": 1, "rollout": None}]
    assert wait_until_served(front_end.session, store, "parcels") == ""
    opened = store.open_rollout("parcels", incumbent=1, candidate=2, policy={}, actor="test")
    shown = {"id": opened.rollout_id, "revision": 0, "ready": True, "problem": None}
    front_end.says = [
        {"version": 1, "rollout": None},
        {"version": 1, "rollout": shown},
        {"version": 1, "rollout": {**shown, "revision": 1, "ready": False, "problem": "no such field"}},
    ]
    assert wait_until_served(front_end.session, store, "parcels") == "no such field"
    assert len(front_end.says) == 1


def test_who_does_not_follow_is_named_with_what_it_serves(front_end: FrontEnd, store: Store) -> None:
    front_end.says = [{"version": 0, "rollout": None, "problem": "Package damaged."}]
    with pytest.raises(Unavailable, match=r"serves version 0 .* the store has version 1 .* Package damaged"):
        wait_until_served(front_end.session, store, "parcels", seconds=0.2)


def test_it_waits_for_shadows_and_then_for_the_journal(front_end: FrontEnd) -> None:
    def waiting(count: int) -> dict[str, Any]:
        return {"rollout": {"shadowed": {"waiting": count}}}

    text = '# HELP x y\nninefold_front_end_journal_lag_bytes{{use_case="parcels"}} {}\n'
    front_end.says = [waiting(3), waiting(0), text.format("812.0"), text.format("0.0")]
    wait_until_kept(front_end.session, "parcels")
    assert len(front_end.says) == 1
    front_end.says = [{"rollout": None}, text.format("812.0")]
    with pytest.raises(StoreError, match="Not all answers are in the store"):
        wait_until_kept(front_end.session, "parcels", seconds=0.2)
    front_end.says = [waiting(1)]
    with pytest.raises(StoreError):
        wait_until_kept(front_end.session, "parcels", seconds=0.2)
    front_end.says = [{"rollout": None}, "nothing of the kind"]
    with pytest.raises(DataError, match="does not tell"):
        wait_until_kept(front_end.session, "parcels")


def test_a_front_end_that_died_is_waited_for(front_end: FrontEnd, store: Store) -> None:
    address = front_end.server.server_address
    front_end.close()
    with pytest.raises(Unavailable, match="serves version None"):
        wait_until_served(front_end.session, store, "parcels", seconds=0.2)
    again = FrontEnd(int(address[1]))
    again.says = [{"version": 1, "rollout": None}]
    assert wait_until_served(front_end.session, store, "parcels") == ""
    again.close()
