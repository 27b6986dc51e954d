"""A real Envoy before tiny model servers, and somebody who asks it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ninefold.routes import RouteTable, Variant
from ninefold.settings import Gateway as GatewaySettings
from ninefold.settings import Ports, Serving, Settings
from serving.gateway.process import Gateway, find_envoy

HERE = Path(__file__).parent
PREDICT = "/v1/models/arrivals:predict"
MAX_BODY, REQUESTS_PER_SECOND, TIMEOUT = 50_000, 100_000, 0.5


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def eventually(check: Any, seconds: float = 8.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


@contextlib.contextmanager
def tiny_model(
    name: str, fault: str = "none", port: int | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A tiny model server's address and process."""
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(HERE / "tiny_model.py"), str(port), name, fault], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.communicate()


def variant(version: int, url: str) -> Variant:
    return Variant(version=version, url=url, package=f"/models/{version}", digest=f"d{version}")


def table(urls: Mapping[int, str], **changes: Any) -> RouteTable:
    """Version 1 is live."""
    variants = {version: variant(version, url) for version, url in urls.items()}
    defaults: dict[str, Any] = {"use_case": "arrivals", "revision": 1, "live": 1, "variants": variants}
    return RouteTable(**{**defaults, **changes})


def gateway_settings(home: Path, *, per_second: int = REQUESTS_PER_SECOND, timeout: float = TIMEOUT) -> Settings:
    return Settings(
        home=home,
        ports=Ports(gateway=free_port(), gateway_inner=free_port()),
        serving=Serving(max_body_bytes=MAX_BODY, model_timeout_seconds=timeout),
        gateway=GatewaySettings(requests_per_second=per_second),
    )


@dataclass
class Running:
    """An Envoy that is up."""

    gateway: Gateway
    settings: Settings
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def client(self) -> str:
        return f"http://127.0.0.1:{self.settings.ports.gateway}"

    def inner(self, path: str = PREDICT, **headers: str) -> httpx.Response:
        """Asks the inner listener with the secret; underscores in names are dashes."""
        sent = {"x-ninefold-inner": self.gateway.inner.secret, **{k.replace("_", "-"): v for k, v in headers.items()}}
        return httpx.post(f"{self.gateway.inner.url}{path}", json={}, headers=sent)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        self.start_without_waiting()
        wait_ready(self)

    def start_without_waiting(self) -> None:
        with (self.settings.folder("logs") / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(self.gateway.command, cwd=self.gateway.folder, stdout=log, stderr=log)

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.client}/readyz").status_code == 200
        return False


def wait_ready(up: Running) -> None:
    deadline = time.monotonic() + 20
    while not up.is_ready():
        if up.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError((up.settings.home / "logs" / "gateway.log").read_text())
        time.sleep(0.02)


@contextlib.contextmanager
def running(home: Path, routes: RouteTable, **bounds: Any) -> Iterator[Running]:
    program, reason = find_envoy()
    assert program is not None, reason
    settings = gateway_settings(home, **bounds)
    gateway = Gateway(settings, program)
    gateway.begin(routes)
    up = Running(gateway, settings)
    try:
        up.start()
        yield up
    finally:
        up.kill()


@dataclass
class Seen:
    """What clients saw: statuses, who answered, and which version the gateway said it was."""

    statuses: Counter[int | str] = field(default_factory=Counter)
    by: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> dict[int | str, int]:
        return {status: count for status, count in self.statuses.items() if status != 200}


async def converse(url: str, seen: Seen, count: int, pause: float = 0.0, headers: Mapping[str, str] = {}) -> None:
    """Asks so often on one kept-alive connection; a broken connection is a failure, and the next is opened."""
    address = httpx.URL(url)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST {PREDICT} HTTP/1.1\r\nhost: test\r\n{lines}content-length: 2\r\n\r\n{{}}".encode()
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    for _ in range(count):
        try:
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
            got = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:])}
            body = await reader.readexactly(int(got["content-length"]))
            status = int(head[0].split()[1])
            seen.statuses[status] += 1
            seen.last = json.loads(body)
            seen.by[seen.last.get("by", "")] += 1
            seen.versions[got.get("x-ninefold-version", "")] += 1
            broken = got.get("connection") == "close"
        except (OSError, asyncio.IncompleteReadError) as error:
            seen.statuses[type(error).__name__] += 1
            broken = True
        if broken:
            await end(writer)
            reader = writer = None
        if pause:
            await asyncio.sleep(pause)
    await end(writer)


async def end(writer: asyncio.StreamWriter | None) -> None:
    if writer is not None:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def load(url: str, connections: int = 6, pause: float = 0.01) -> AsyncIterator[Seen]:
    """Asks until the block ends, open requests included."""
    seen = Seen()
    ending = asyncio.Event()

    async def ask() -> None:
        while not ending.is_set():
            await converse(url, seen, 10, pause)

    tasks = [asyncio.create_task(ask()) for _ in range(connections)]
    try:
        yield seen
    finally:
        ending.set()
        await asyncio.gather(*tasks)
