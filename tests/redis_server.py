"""A Redis for tests: a server of one's own on a free port, which can be stopped and started again."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = "redis-server"


class RedisServer:
    """A server that keeps its data in a folder, so that it survives being stopped.

    Args:
        folder: Where it writes.
        options: More of its options, as on its command line.
        port: Its port; a free one by default.
    """

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Starts it, and returns when it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
                    "--appendonly", "yes", "--appendfsync", "no", "--save", "", *self._options,
                ],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if self.ask("PING") != b"-LOADING":
                    return
            except OSError:
                if self._process.poll() is not None:
                    break
            time.sleep(0.02)
        raise RuntimeError(f"redis-server did not start: {(self.folder / 'log').read_text()[-2000:]}")

    def stop(self, *, losing_all: bool = False) -> None:
        """Kills it; what it wrote stays unless it is to lose all."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if losing_all:
            shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)

    def ask(self, *command: str) -> bytes:
        """The first word that it answers."""
        parts = "".join(f"${len(part.encode())}\r\n{part}\r\n" for part in command)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(f"*{len(command)}\r\n{parts}".encode())
            return connection.recv(4096).split()[0]


@contextmanager
def running(*options: str) -> Iterator[RedisServer]:
    """A server for a while; ask ``missing`` first."""
    folder = Path(tempfile.mkdtemp(prefix="nfredis"))
    server = RedisServer(folder, *options)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def missing() -> str:
    """Why there can be no server; empty where there can."""
    return "" if shutil.which(PROGRAM) else "no Redis: no redis-server on the path; apt-get install redis-server"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
