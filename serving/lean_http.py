"""A short way through uvicorn for the one kind of request that has to be cheap.

ASGI costs a task, a scope, an event and four messages a request: a third of what a prediction costs. A small POST to a
path that the application names goes to a plain function instead, with uvicorn's parser, flow control, time-outs and
drain around it. Everything else (pipelined, chunked, large or HTTP/1.0 requests, ``Expect``, upgrades, a client that
doesn't read) goes the ordinary way, so the application answers these paths in ASGI too, from the same code.

A client that keeps its connection sends the same head again and again, but for the length of the body. What the parser
made of it once is good for the same bytes again: such a request is not parsed a second time, and what the application
made of its head is there for it, too.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from serving.one_write import OneWriteProtocol

MAX_BODY_BYTES = 64 * 1024
"""Longest body that is taken this way; uvicorn holds the sender back past this size."""

Header = tuple[bytes, bytes]
Headers = list[Header]
_NOBODY_WAITS = asyncio.Event()
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,6})(?=\r\n)", re.IGNORECASE)
_HEADS = 8
"""Heads that a connection may remember in vain before it gives up: each of its requests has an id of its own."""


class Head:
    """A request's head: one for all requests of a connection that begin with the same bytes.

    Attributes:
        headers: As ASGI has them, names in lower case, but for the body's length.
        noted: What the application wants to find again with the next request of the same head.
    """

    __slots__ = ("headers", "noted")

    def __init__(self, headers: Headers) -> None:
        self.headers = headers
        self.noted: Any = None


class Exchange:
    """A request that is whole, and its answer to come. It stands for uvicorn's cycle in its connection.

    Attributes:
        head: Its head.
        body: The whole body.
    """

    __slots__ = ("_handler", "_protocol", "body", "disconnected", "head", "keep_alive", "response_complete")

    message_event = _NOBODY_WAITS

    def __init__(self, protocol: LeanProtocol, handler: Handler, head: Head, keep_alive: bool) -> None:
        self._protocol = protocol
        self._handler = handler
        self.head = head
        self.keep_alive = keep_alive
        self.body = b""
        self.disconnected = False
        self.response_complete = False

    def begin(self) -> None:
        """Hands the request over."""
        self._handler(self)

    def answer(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Answers, once; a client that went away gets nothing.

        Args:
            status: The status.
            headers: Without the body's length; a tuple that is the one of the answer before is not written out anew.
            body: The body.
        """
        if not self.disconnected and not self.response_complete:
            self.response_complete = True
            self._protocol.give(self, status, headers, body)


Handler = Callable[[Exchange], None]
"""Answers an exchange, now or later; it raises nothing."""


class LeanApplication(Protocol):
    """An ASGI application with paths that have a short way."""

    def lean(self, path: bytes, headers: Headers) -> Handler | None:
        """What answers a POST to a path with these headers; None for the ordinary way."""
        ...


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A head that was parsed.

    Args:
        before: Its bytes up to the digits of the content length.
        behind: Its bytes from there on.
        url: Where it asks.
        head: What the parser and the application made of it.
    """

    before: bytes
    behind: bytes
    url: bytes
    head: Head

    @classmethod
    def of(cls, data: bytes, body: bytes, url: bytes, head: Head) -> Self | None:
        """The head of a request that was parsed whole and alone; None where its bytes don't show that plainly."""
        end = data.find(b"\r\n\r\n") + 4
        length = _LENGTH.search(data, 0, end)
        if length is None or len(data) - end != len(body):
            return None
        return cls(data[: length.start(1)], data[length.end(1) : end], url, head)


class LeanProtocol(OneWriteProtocol):
    """uvicorn's protocol with the short way; give it to uvicorn as ``http=LeanProtocol``."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._choose = cast("LeanApplication", self.app).lean
        self._defaults: Headers | None = None
        self._default_lines = b""
        self._given: tuple[Header, ...] = ()
        self._given_lines = b""
        self._parsed: _Parsed | None = None
        self._heads_left = _HEADS
        self._between = True
        """Whether the parser stands between two requests."""
        self._whole = b""
        """What came last, where it began between two requests."""
        self._answered_at = 0.0

    def data_received(self, data: bytes) -> None:
        """Takes a request that is whole and has the head of the one before; the parser gets everything else."""
        if self._between:
            if self._parsed is not None and self._is_like(self._parsed, data):
                return
            self._whole = data
        else:
            self._whole = b""
        super().data_received(data)

    def _is_like(self, parsed: _Parsed, data: bytes) -> bool:
        if not data.startswith(parsed.before):
            return False
        start = len(parsed.before)
        end = data.find(b"\r", start, start + 7)
        digits = data[start:end]
        if not (digits.isdigit() and data.startswith(parsed.behind, end)):
            return False
        body = data[end + len(parsed.behind) :]
        if len(body) != int(digits) or len(body) > MAX_BODY_BYTES or self._is_taken():
            return False
        handler = self._choose(parsed.url, parsed.head.headers)
        if handler is None:
            return False
        self._heads_left = _HEADS
        exchange: Any = Exchange(self, handler, parsed.head, True)
        exchange.body = body
        self.cycle = exchange
        handler(exchange)
        return True

    def on_message_begin(self) -> None:
        """Forgets the request before; the scope is made when somebody needs one."""
        self._between = False
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Chooses the way."""
        handler = self._choose(self.url, self.headers) if self._is_plain() else None
        if handler is not None:
            head = Head([header for header in self.headers if header[0] != b"content-length"])
            exchange: Any = Exchange(self, handler, head, self.parser.should_keep_alive())
            self.cycle = exchange
            return
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expect
        self.scope["headers"] = headers
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keeps a piece of the body."""
        exchange: Any = self.cycle
        if type(exchange) is Exchange:
            exchange.body = exchange.body + body if exchange.body else body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._between = True
        exchange: Any = self.cycle
        if type(exchange) is Exchange:
            if self._whole and exchange.keep_alive and self._heads_left:
                self._heads_left -= 1
                self._parsed = _Parsed.of(self._whole, exchange.body, self.url, exchange.head)
            exchange.begin()
        else:
            super().on_message_complete()

    def give(self, exchange: Exchange, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Writes an exchange's answer in one piece and makes the connection ready for the next request."""
        if headers is self._given:
            lines = self._given_lines
        else:
            lines = b"".join([b"%b: %b\r\n" % header for header in headers])
            if type(headers) is tuple:
                self._given, self._given_lines = headers, lines
        if not exchange.keep_alive:
            lines += b"connection: close\r\n"
        self.transport.write_now(  # type: ignore[attr-defined]
            b"%b%b%bcontent-length: %d\r\n\r\n%b"
            % (STATUS_LINE[status], self._default_headers(), lines, len(body), body)
        )
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """Makes the connection ready for the next request, or for its end if none comes.

        The timer of an idle connection stays while requests come and go; when it rings, it looks how long nobody has
        asked. A new one for every answer costs as much as writing the answer does.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._answered_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_later(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Closes the connection if nobody has asked for long enough; else looks again when that may be so."""
        self.timeout_keep_alive_task = None
        if self._is_busy() or not self._between:
            # The next answer begins the wait anew.
            return
        left = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._look_later(left)
        else:
            super().timeout_keep_alive_handler()

    def _look_later(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        # uvicorn does so whenever something comes; here the timer stays until the connection ends.
        if self.transport.is_closing():
            super()._unset_keepalive_if_required()

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_taken(self) -> bool:
        return self._is_busy() or self.flow.write_paused

    def _is_plain(self) -> bool:
        parser = self.parser
        if parser.get_method() != b"POST" or self.expect_100_continue or parser.get_http_version() != "1.1":
            return False
        if self._is_taken():
            return False
        length = -1
        for name, value in self.headers:
            if name == b"content-length":
                length = int(value)
            elif name in (b"transfer-encoding", b"upgrade"):
                return False
        return 0 <= length <= MAX_BODY_BYTES

    def _default_headers(self) -> bytes:
        # uvicorn makes a new list every second, with the date.
        defaults = self.server_state.default_headers
        if defaults is not self._defaults:
            self._defaults = defaults
            self._default_lines = b"".join(b"%b: %b\r\n" % header for header in defaults)
        return self._default_lines
