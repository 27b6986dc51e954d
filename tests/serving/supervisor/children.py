"""Tiny children: a program that is ready at once, and ways to make it misbehave."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from serving.supervisor.processes import Child, ChildSpec

READY = """
import http.server, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

IDLE = "import time; time.sleep(600)"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def spec(folder: Path, code: str = READY, *, name: str = "child", version: int | None = None) -> ChildSpec:
    port = free_port()
    command = (sys.executable, "-I", "-S", "-c", code, str(port))
    return ChildSpec(name=name, command=command, log=folder / f"{name}.log", folder=folder, port=port, version=version)


def tick_until(child: Child, condition: Callable[[], bool], seconds: float = 15.0) -> None:
    wait_until(lambda: (child.tick(time.monotonic()), condition())[1], seconds)


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
