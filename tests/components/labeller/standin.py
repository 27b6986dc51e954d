"""A small Label Studio over real HTTP, for faults that a real one shows too rarely: it keeps projects and tasks."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "a" * 40


@dataclass
class StandIn:
    """What it has, and what goes wrong next.

    Args:
        port: Where it listens.
        projects: Its projects.
        tasks: Its tasks, of all projects.
        webhooks: Its webhooks.
        people: Number → address.
        calls: Method and path of every call.
        faults: What happens to the next imports, one each: ``lost`` before they came in, ``cut`` after it, ``ok``.
        refuses_config: Whether it refuses another labelling interface.
    """

    port: int = 0
    projects: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    webhooks: list[dict[str, Any]] = field(default_factory=list)
    people: dict[int, str] = field(default_factory=lambda: {1: "admin@localhost", 2: "jo@localhost"})
    calls: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    refuses_config: bool = False
    _number: int = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def number(self) -> int:
        """A number that nothing has."""
        self._number += 1
        return self._number

    def say(self, task: dict[str, Any], label: str | None, by: int = 1, at: str = "2026-03-01T10:00:00Z") -> None:
        """An expert answers a task, or with None skips it."""
        result = [{"from_name": "answer", "type": "choices", "value": {"choices": [label]}}] if label else []
        mine = next((one for one in task["annotations"] if one["completed_by"] == by), None)
        if mine is None:
            mine = {"id": self.number(), "completed_by": by, "created_username": f" {self.people[by]}, {by}"}
            task["annotations"].append(mine)
        mine |= {"result": result, "was_cancelled": label is None, "updated_at": at}

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        """What it says to a call."""
        number = int(found[1]) if (found := re.search(r"/(\d+)(?:/|$)", path)) else 0
        match method, re.sub(r"\d+", "N", path):
            case "GET", "/api/version":
                return 200, {"release": "1.23.2"}
            case "GET", "/api/projects":
                return 200, {"results": self.projects if query["page"] == "1" else []}
            case "POST", "/api/projects":
                self.projects.append({"id": self.number(), **body})
                return 201, self.projects[-1]
            case "PATCH", "/api/projects/N":
                if self.refuses_config and "label_config" in body:
                    return 400, {"detail": "Created annotations are incompatible with provided labeling schema"}
                next(p for p in self.projects if p["id"] == number).update(body)
                return 200, {}
            case "GET", "/api/tasks":
                mine = [task for task in self.tasks if task["project"] == int(query["project"])]
                # It may give less at once than it is asked for.
                size, page = min(int(query["page_size"]), 90), int(query["page"])
                rows = mine[size * (page - 1) : size * page]
                return (200, {"tasks": rows}) if rows or page == 1 else (404, {"detail": "Invalid page."})
            case "POST", "/api/projects/N/import":
                self.tasks += [{"id": self.number(), "project": number, "annotations": [], **task} for task in body]
                return 201, {}
            case "DELETE", "/api/tasks/N":
                self.tasks = [task for task in self.tasks if task["id"] != number]
                return 204, None
            case "GET", "/api/users":
                return 200, [{"id": n, "email": address} for n, address in self.people.items()]
            case "GET", "/api/webhooks":
                return 200, self.webhooks
            case "POST", "/api/webhooks":
                self.webhooks.append({"id": self.number(), **body})
                return 201, {}
            case "PATCH", "/api/webhooks/N":
                next(w for w in self.webhooks if w["id"] == number).update(body)
                return 200, {}
        return 404, {"detail": "Not found."}


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """A stand-in that runs until the test ends."""
    state = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _handle(self) -> None:
            split = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            state.calls.append(f"{self.command} {split.path}")
            if self.headers.get("Authorization") != f"Token {TOKEN}":
                self._send(401, {"detail": "Invalid token."})
                return
            query = {name: values[0] for name, values in parse_qs(split.query).items()}
            fault = state.faults.pop(0) if split.path.endswith("/import") and state.faults else "ok"
            if fault != "lost":
                status, said = state.answer(self.command, split.path, query, json.loads(raw) if raw else None)
            if fault != "ok":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self._send(status, said)

        def _send(self, status: int, said: Any) -> None:
            content = b"" if said is None else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = _handle

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
