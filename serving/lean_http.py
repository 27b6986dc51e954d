"""A short way through uvicorn for the one kind of request that has to be cheap.

ASGI costs a task, a scope, an event and four messages a request: a third of what a prediction costs. A small POST to a
path that the application names goes to a plain function instead, with uvicorn's parser, flow control, time-outs and
drain around it. Everything else (pipelined, chunked, large or HTTP/1.0 requests, ``Expect``, upgrades, a client that
doesn't read) goes the ordinary way, so the application answers these paths in ASGI too, from the same code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from serving.one_write import OneWriteProtocol

MAX_BODY_BYTES = 64 * 1024
"""Longest body that is taken this way; uvicorn holds the sender back past this size."""

Headers = list[tuple[bytes, bytes]]
_NOBODY_WAITS = asyncio.Event()


class Exchange:
    """A request that is whole, and its answer to come. It stands for uvicorn's cycle in its connection.

    Attributes:
        headers: As ASGI has them: names in lower case.
        body: The whole body.
    """

    __slots__ = ("_handler", "_protocol", "body", "disconnected", "headers", "keep_alive", "response_complete")

    message_event = _NOBODY_WAITS

    def __init__(self, protocol: LeanProtocol, handler: Handler, headers: Headers, keep_alive: bool) -> None:
        self._protocol = protocol
        self._handler = handler
        self.headers = headers
        self.keep_alive = keep_alive
        self.body = b""
        self.disconnected = False
        self.response_complete = False

    def begin(self) -> None:
        """Hands the request over."""
        self._handler(self)

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Answers, once; a client that went away gets nothing.

        Args:
            status: The status.
            headers: Without the body's length.
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


class LeanProtocol(OneWriteProtocol):
    """uvicorn's protocol with the short way; give it to uvicorn as ``http=LeanProtocol``."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._choose = cast("LeanApplication", self.app).lean
        self._defaults: Headers | None = None
        self._default_lines = b""

    def on_message_begin(self) -> None:
        """Forgets the request before; the scope is made when somebody needs one."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Chooses the way."""
        handler = self._choose(self.url, self.headers) if self._is_plain() else None
        if handler is not None:
            exchange: Any = Exchange(self, handler, self.headers, self.parser.should_keep_alive())
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
        exchange: Any = self.cycle
        if type(exchange) is Exchange:
            exchange.begin()
        else:
            super().on_message_complete()

    def give(self, exchange: Exchange, status: int, headers: Headers, body: bytes) -> None:
        """Writes an exchange's answer in one piece and makes the connection ready for the next request."""
        lines = [b"%b: %b\r\n" % header for header in headers]
        if not exchange.keep_alive:
            lines.append(b"connection: close\r\n")
        self.transport.write_now(  # type: ignore[attr-defined]
            b"%b%b%bcontent-length: %d\r\n\r\n%b"
            % (STATUS_LINE[status], self._default_headers(), b"".join(lines), len(body), body)
        )
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _is_plain(self) -> bool:
        parser = self.parser
        if parser.get_method() != b"POST" or self.expect_100_continue or parser.get_http_version() != "1.1":
            return False
        if (self.cycle is not None and not self.cycle.response_complete) or self.flow.write_paused:
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
