"""A proxy in front of a cluster's API server that fails on purpose; it is told which requests, and how.

It speaks plain HTTP and holds the credentials of KUBECONFIG itself, so that whoever goes through it needs none.
"""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import yaml

Fault = Literal["none", "conflict", "busy", "broken", "lost", "carried out and lost"]
STATUS = {"conflict": 409, "busy": 429, "broken": 500}


class FaultProxy:
    """
    Args:
        kubeconfig: Where the API server is, and who asks.
        fault: (method, path) → what is done to the request.
        after: Called when a request was carried out, before its answer is given.
    """

    def __init__(
        self,
        kubeconfig: Path,
        fault: Callable[[str, str], Fault],
        after: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self.fault, self.after = fault, after
        self.seen: list[tuple[str, str, Fault]] = []
        self._server, self._context, self._headers = _upstream(kubeconfig)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                proxy._answer(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def kubeconfig(self, folder: Path) -> Path:
        """A KUBECONFIG that leads through it."""
        path = folder / f"kubeconfig-{self._http.server_port}"
        server = f"http://127.0.0.1:{self._http.server_port}"
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": server}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        }))  # fmt: skip
        return path

    def _answer(self, asked: BaseHTTPRequestHandler) -> None:
        method, path = asked.command, asked.path
        body = asked.rfile.read(int(asked.headers.get("Content-Length") or 0)) or None
        fault = self.fault(method, path)
        self.seen.append((method, path, fault))
        if fault in STATUS:
            status = STATUS[fault]
            # As the API server says that an object was changed meanwhile.
            reason = {409: "Conflict", 429: "TooManyRequests", 500: "InternalError"}[status]
            said = {"kind": "Status", "apiVersion": "v1", "code": status, "reason": reason, "message": "on purpose"}
            _give(asked, status, json.dumps(said).encode())
            return
        if fault == "lost":
            asked.close_connection = True
            asked.connection.close()
            return
        status, answer = self._asked(method, path, body, asked.headers.get("Content-Type", "application/json"))
        self.after(method, path)
        if fault == "carried out and lost":
            asked.close_connection = True
            asked.connection.close()
            return
        _give(asked, status, answer)

    def _asked(self, method: str, path: str, body: bytes | None, content_type: str) -> tuple[int, bytes]:
        headers = {**self._headers, "Content-Type": content_type, "Accept": "application/json"}
        request = urllib.request.Request(self._server + path, data=body, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, context=self._context, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


def _give(asked: BaseHTTPRequestHandler, status: int, answer: bytes) -> None:
    try:
        asked.send_response(status)
        asked.send_header("Content-Type", "application/json")
        asked.send_header("Content-Length", str(len(answer)))
        asked.end_headers()
        asked.wfile.write(answer)
    except OSError:
        # Who asked was killed meanwhile.
        asked.close_connection = True


def _upstream(kubeconfig: Path) -> tuple[str, ssl.SSLContext, dict[str, str]]:
    document = yaml.safe_load(kubeconfig.read_text())
    context = next(c["context"] for c in document["contexts"] if c["name"] == document["current-context"])
    cluster = next(c["cluster"] for c in document["clusters"] if c["name"] == context["cluster"])
    user = next(u["user"] for u in document["users"] if u["name"] == context["user"])
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for key, source in (
            ("certificate-authority", cluster),
            ("client-certificate", user),
            ("client-key", user),
        ):
            if f"{key}-data" in source:
                files[key] = Path(folder) / key
                files[key].write_bytes(base64.b64decode(source[f"{key}-data"]))
            elif key in source:
                files[key] = (kubeconfig.parent / source[key]).absolute()
        made = ssl.create_default_context(cafile=str(files["certificate-authority"]))
        if "client-certificate" in files:
            made.load_cert_chain(files["client-certificate"], files["client-key"])
    return cluster["server"], made, {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
