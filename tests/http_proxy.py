"""A server in front of another one that passes requests on, or fails as told."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Fault = int | str | None
"""A status to answer with instead; ``"cut"``: the answer breaks off; ``"lost"``: the request goes through, its answer
does not; ``"hang"``: no answer for a while; None: no fault."""


@dataclass
class Faults:
    """What the proxy does instead of passing a request on.

    Args:
        answer: (method, path) → the fault.
        headers: Of answers with a status.
        body: Of answers with a status.
        asked: Every request so far.
        over: Ends every ``"hang"``.
    """

    answer: Callable[[str, str], Fault] = lambda method, path: None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    asked: list[tuple[str, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def proxy(target: str, faults: Faults, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of a proxy in front of a target, which may be empty where no request goes through.

    Args:
        target: The server behind it.
        faults: What it does instead.
        tls: How the server behind it is asked by TLS.
    """
    host = urlsplit(target).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            faults.asked.append((self.command, self.path))
            wanted = faults.answer(self.command, self.path)
            if wanted == "hang":
                faults.over.wait(10)
                self.close_connection = True
                return
            if isinstance(wanted, int):
                self._answer(wanted, list(faults.headers.items()), faults.body, len(faults.body))
                return
            connection = (
                http.client.HTTPConnection(host, timeout=20)
                if tls is None
                else http.client.HTTPSConnection(host, timeout=20, context=tls)
            )
            # A signature may be over the host that was asked.
            connection.request(self.command, self.path, body=body, headers=dict(self.headers))
            found = connection.getresponse()
            content = found.read()
            connection.close()
            if wanted == "lost":
                self.close_connection = True
                return
            length = int(found.getheader("Content-Length") or 0) if self.command == "HEAD" else len(content)
            if wanted == "cut":
                content, self.close_connection = content[: len(content) // 2], True
            self._answer(found.status, found.getheaders(), content, length)

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, length: int) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = _handle

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Who asked may be gone."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        faults.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
