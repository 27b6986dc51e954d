"""A lean load generator, closed loop and open loop, and what servers' processes spend meanwhile.

Its own ``asyncio.Protocol`` with httptools: about 15 µs of CPU a request, so that what is measured is the server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

import httptools
import psutil  # type: ignore[import-untyped]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a load saw.

    Args:
        requests: Responses with status 200.
        errors: Other responses, and requests that broke off.
        seconds: Wall time.
        p50_ms, p99_ms: Quantiles of the latency of good responses; NaN without any.
        failures: Status or exception → how often, for reports.
    """

    requests: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failures: Mapping[str, int] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Good responses a second."""
        return self.requests / self.seconds


@dataclass(slots=True)
class _Tally:
    latencies: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)

    def fail(self, reason: str) -> None:
        self.failures[reason] = self.failures.get(reason, 0) + 1


class _Client(asyncio.Protocol):
    """One connection with one request at a time, until the deadline."""

    def __init__(self, payloads: Iterator[bytes], deadline: float, tally: _Tally) -> None:
        self._payloads = payloads
        self._deadline = deadline
        self._tally = tally
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._sent = 0.0
        self._waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        if self._sent >= self._deadline:
            self._transport.close()
            return
        self._waiting = True
        self._transport.write(next(self._payloads))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._waiting = False
        status = self._parser.get_status_code()
        if status == 200:
            self._tally.latencies.append(time.perf_counter() - self._sent)
        else:
            self._tally.fail(str(status))
        keep_alive = self._parser.should_keep_alive()
        self._parser = httptools.HttpResponseParser(self)
        if keep_alive:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting:
            self._tally.fail("connection lost" if error is None else type(error).__name__)
        if not self.closed.done():
            self.closed.set_result(None)


async def load(
    url: str,
    body: bytes | Sequence[bytes],
    headers: Mapping[str, str] | None = None,
    connections: int = 8,
    seconds: float = 3.0,
) -> Result:
    """Asks as fast as answers come, on so many kept-alive connections.

    Args:
        url: ``http://host:port/path``.
        body: What is posted; several are sent in turn.
        headers: Added to every request; the content type is JSON.
        connections: Open at once; a broken one is opened again.
        seconds: How long.
    """
    address = urlsplit(url)
    bodies = [body] if isinstance(body, bytes) else list(body)
    payloads = cycle([_request(address.path or "/", address.netloc, b, headers or {}) for b in bodies])
    tally = _Tally()
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    deadline = start + seconds

    async def connection() -> None:
        while time.perf_counter() < deadline:
            try:
                _, client = await loop.create_connection(
                    lambda: _Client(payloads, deadline, tally), address.hostname or "127.0.0.1", address.port or 80
                )
            except OSError as error:
                tally.fail(type(error).__name__)
                await asyncio.sleep(0.02)
                continue
            await asyncio.wait_for(client.closed, deadline - time.perf_counter() + 30.0)

    await asyncio.gather(*(connection() for _ in range(connections)))
    return _result(tally, time.perf_counter() - start)


class _Paced(asyncio.Protocol):
    """One connection that sends when it is told to, and goes back to the idle ones with the answer."""

    def __init__(self, idle: list[_Paced], tally: _Tally) -> None:
        self._idle = idle
        self._tally = tally
        self._parser = httptools.HttpResponseParser(self)
        self._due = 0.0
        self.waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def send(self, payload: bytes, due: float) -> None:
        self._due = due
        self.waiting = True
        self._transport.write(payload)

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.waiting = False
        status = self._parser.get_status_code()
        if status == 200:
            self._tally.latencies.append(time.perf_counter() - self._due)
        else:
            self._tally.fail(str(status))
        keep_alive = self._parser.should_keep_alive()
        self._parser = httptools.HttpResponseParser(self)
        if keep_alive:
            self._idle.append(self)
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        if self.waiting:
            self.waiting = False
            self._tally.fail("connection lost" if error is None else type(error).__name__)


async def open_loop(
    url: str,
    body: bytes | Sequence[bytes],
    headers: Mapping[str, str] | None = None,
    per_second: float = 500.0,
    seconds: float = 3.0,
) -> Result:
    """Asks at fixed moments, whatever the answers do: a slow server does not spare itself requests.

    A request goes out on an idle connection, or on a new one. Its latency counts from the moment when it was due.

    Args:
        url: ``http://host:port/path``.
        body: What is posted; several are sent in turn.
        headers: Added to every request; the content type is JSON.
        per_second: Requests a second.
        seconds: How long; answers are awaited for ten seconds more.
    """
    address = urlsplit(url)
    bodies = [body] if isinstance(body, bytes) else list(body)
    payloads = cycle([_request(address.path or "/", address.netloc, b, headers or {}) for b in bodies])
    tally = _Tally()
    idle: list[_Paced] = []
    opened: list[_Paced] = []
    loop = asyncio.get_running_loop()

    async def ask(payload: bytes, due: float) -> None:
        try:
            _, connection = await loop.create_connection(
                lambda: _Paced(idle, tally), address.hostname or "127.0.0.1", address.port or 80
            )
        except OSError as error:
            tally.fail(type(error).__name__)
            return
        opened.append(connection)
        connection.send(payload, due)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(per_second * seconds)):
            due = start + number / per_second
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            if idle:
                idle.pop().send(next(payloads), due)
            else:
                group.create_task(ask(next(payloads), due))
    took = time.perf_counter() - start
    deadline = time.perf_counter() + 10.0
    while any(connection.waiting for connection in opened) and time.perf_counter() < deadline:
        await asyncio.sleep(0.01)
    for connection in opened:
        if connection.waiting:
            tally.fail("no answer")
            connection.waiting = False
        connection.close()
    return _result(tally, took)


def _result(tally: _Tally, seconds: float) -> Result:
    ordered = sorted(tally.latencies)
    return Result(
        requests=len(ordered),
        errors=sum(tally.failures.values()),
        seconds=seconds,
        p50_ms=_quantile(ordered, 0.50) * 1e3,
        p99_ms=_quantile(ordered, 0.99) * 1e3,
        failures=tally.failures,
    )


def _request(path: str, host: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs one load on uvloop."""
    import uvloop

    return uvloop.run(work)


def cpu_seconds(pid: int) -> float:
    """CPU time, user and system, that a process and its living descendants have spent so far."""
    process = psutil.Process(pid)
    total = 0.0
    for part in (process, *process.children(recursive=True)):
        try:
            times = part.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total
