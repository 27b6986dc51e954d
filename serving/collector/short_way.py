"""Truths and events past ASGI: what producers send again and again in small batches is read, kept and answered cheaply.

ASGI, its routes and its middleware cost as much as reading and keeping a landing or two does. Large bodies and
everything else go the ordinary way; both ways end in the same functions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.collector.keeper import Outcome
from serving.lean_http import Exchange, Handler, Headers

_ANSWER: Headers = [(b"content-type", b"application/json")]

Begin = Callable[[bytes, Headers], Future[Outcome]]
"""Takes body and headers of a request, and tells later what became of it; it raises what is wrong with it."""
End = Callable[[Outcome], None]
"""Told what became of a request that was kept."""
Refuse = Callable[[BaseException], tuple[int, Headers, bytes]]
"""Makes status, headers and body of an error's answer."""


class ShortWay:
    """The collector's ASGI application, with a short way for small batches.

    Args:
        app: Answers everything else.
        ways: Path with its query → what begins a request, what ends it, and what refuses it.
    """

    def __init__(self, app: ASGIApp, ways: dict[bytes, tuple[Begin, End, Refuse]]) -> None:
        self._app = app
        self._handlers: dict[bytes, Handler] = {path: partial(_handle, *way) for path, way in ways.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ordinary way."""
        await self._app(scope, receive, send)

    def lean(self, path: bytes, _: Headers) -> Handler | None:
        """What answers a small POST to a path; None for the ordinary way."""
        return self._handlers.get(path)


def _handle(begin: Begin, end: End, refuse: Refuse, exchange: Exchange) -> None:
    try:
        kept = begin(exchange.body, exchange.head.headers)
    except Exception as error:
        # Also what nobody expected: the client has to be answered.
        exchange.answer(*refuse(error))
        return
    loop = asyncio.get_running_loop()
    kept.add_done_callback(lambda done: _soon(loop, partial(_answer, end, refuse, exchange, done)))


def _soon(loop: asyncio.AbstractEventLoop, answer: Callable[[], Any]) -> None:
    """In the loop's thread; a loop that has ended has nobody left to answer."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(answer)


def _answer(end: End, refuse: Refuse, exchange: Exchange, done: Future[Outcome]) -> None:
    error = done.exception()
    if error is not None:
        exchange.answer(*refuse(error))
        return
    outcome = done.result()
    end(outcome)
    exchange.answer(200, _ANSWER, orjson.dumps(outcome.to_json()))
