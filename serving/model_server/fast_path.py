"""v1 ``:predict`` as raw ASGI in front of KServe's application, with what all of its routes share: keys and bounds.

KServe's own path spends 0.5 ms a request before the model is asked; this one about 0.1 ms.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import orjson
import structlog

from ninefold.errors import InvalidInput, NinefoldError, NotAuthenticated, TooLarge
from ninefold.json_input import read_json_body
from ninefold.keys import Keys
from serving.lean_http import Exchange, Handler, Head, Header, Headers
from serving.model_server.metrics import Counters
from serving.model_server.model import NotFinite, PackagedModel
from serving.model_server.repository import PackageRepository

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

log = structlog.get_logger()

_OPEN = re.compile(r"/|/metrics|/healthz|/readyz|/v2/health/(live|ready)|/v1/models/[^/:]+|/v2/models/[^/]+/ready")
"""What probes and Prometheus GET without a key; everything else needs one."""

_CLOUD_EVENT = frozenset({b"ce-specversion", b"content-type"})
_ECHOED = frozenset({b"x-request-id", b"traceparent"})
_JSON = (b"content-type", b"application/json")
_REMEDY = 'Send {"instances": [...]}.'
_DISCARD_FACTOR = 16
"""A body over its bound is read on and thrown away up to this multiple, so that its sender can read the answer."""


class FastPath:
    """The ASGI application of a model server.

    Args:
        inner: KServe's application.
        repository: Where models are.
        counters: Where requests are counted.
        keys: Known API keys; None admits everybody.
        max_body_bytes: Bound of every body.
    """

    def __init__(
        self,
        inner: ASGIApp,
        repository: PackageRepository,
        counters: Counters,
        *,
        keys: Keys | None,
        max_body_bytes: int,
    ) -> None:
        self._inner = inner
        self._repository = repository
        self._by_path = repository.by_path
        self._counters = counters
        self._keys = keys
        self._max_body_bytes = max_body_bytes
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        model = self._by_path.get(scope["path"])
        if model is None or not model.ready or scope["method"] != "POST" or _is_cloud_event(scope["headers"]):
            await self._guarded(scope, receive, send)
        else:
            await self._predict(model, scope, receive, send)

    def lean(self, path: bytes, headers: Headers) -> Handler | None:
        """Predicting has a short way past ASGI."""
        model = self._by_path.get(path.decode("latin-1"))
        if model is None or not model.ready or _is_cloud_event(headers):
            return None
        return partial(self._predict_now, model)

    def _predict_now(self, model: PackagedModel, exchange: Exchange) -> None:
        started = perf_counter()
        headers: Sequence[Header]
        try:
            headers = self._admit(exchange.head)
            _check_length(len(exchange.body), self._max_body_bytes)
            rows = model.reader.rows(read_json_body(exchange.body, remedy=_REMEDY))
            if len(rows) > model.inline_rows:
                task = asyncio.get_running_loop().create_task(self._predict_later(model, rows, exchange, started))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                return
            status, answer = self._answer(model, model.answer_now(rows))
        except Exception as error:
            status, answer = self._failure(model, error)
            headers = _headers(status, exchange.head.headers)
        exchange.answer(status, headers, answer)
        self._counters.model(model.name).answered(status, perf_counter() - started)

    def _admit(self, head: Head) -> Sequence[Header]:
        """What a good answer to a head says; it is found out once, as the keys are those of the start.

        Raises:
            NotAuthenticated: No key, or a wrong one.
        """
        noted: tuple[Header, ...] | None = head.noted
        if noted is None:
            if self._keys is not None:
                self._keys.authenticate(head.headers)
            noted = head.noted = tuple(_headers(200, head.headers))
        return noted

    async def _predict_later(
        self, model: PackagedModel, rows: list[list[Any]], exchange: Exchange, started: float
    ) -> None:
        try:
            status, answer = self._answer(model, await model.answer(rows))
        except Exception as error:
            status, answer = self._failure(model, error)
        exchange.answer(status, _headers(status, exchange.head.headers), answer)
        self._counters.model(model.name).answered(status, perf_counter() - started)

    async def _predict(self, model: PackagedModel, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        try:
            if self._keys is not None:
                self._keys.authenticate(scope["headers"])
            body = await _read_body(receive, self._max_body_bytes)
            rows = model.reader.rows(read_json_body(body, remedy=_REMEDY))
            status, answer = self._answer(model, await model.answer(rows))
        except Exception as error:
            status, answer = self._failure(model, error)
        await _respond(scope, send, status, answer)
        self._counters.model(model.name).answered(status, perf_counter() - started)

    def _answer(self, model: PackagedModel, predictions: list[Any]) -> tuple[int, bytes]:
        self._counters.model(model.name).instances += len(predictions)
        return 200, orjson.dumps({"predictions": predictions})

    def _failure(self, model: PackagedModel, error: Exception) -> tuple[int, bytes]:
        if isinstance(error, NinefoldError):
            self._counters.model(model.name).not_finite += isinstance(error, NotFinite)
            return self._refusal(error)
        # ONNX Runtime's errors share no base; whatever a model does, its client gets an answer.
        log.error("prediction failed", model=model.name, digest=model.digest, exc_info=error)
        return 500, orjson.dumps({"error": f"The model failed: {type(error).__name__}."})

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        try:
            if self._keys is not None and not (method in ("GET", "HEAD") and _OPEN.fullmatch(path)):
                self._keys.authenticate(scope["headers"])
            body = await _read_body(receive, self._max_body_bytes)
        except NinefoldError as error:
            await _respond(scope, send, *self._refusal(error))
            return
        if path == "/healthz":
            await _respond(scope, send, 200, b'{"status":"alive"}')
        elif path == "/readyz":
            ready = bool(self._repository.get_models())
            answer = (200, b'{"status":"ready"}') if ready else (503, b'{"error":"No model is loaded."}')
            await _respond(scope, send, *answer)
        else:
            if method == "POST" and path.startswith("/v2/"):
                scope = {**scope, "headers": _as_json(scope["headers"])}
            await self._inner(scope, _replay(body, receive), _echoing(scope, send))

    def _refusal(self, error: NinefoldError) -> tuple[int, bytes]:
        if isinstance(error, NotAuthenticated):
            self._counters.not_authenticated += 1
        document = {"error": str(error)}
        if isinstance(error, InvalidInput):
            document["field"] = error.field
        return error.http_status, orjson.dumps(document)


def _is_cloud_event(headers: Headers) -> bool:
    for name, value in headers:
        if name in _CLOUD_EVENT and (name == b"ce-specversion" or value.startswith(b"application/cloudevents")):
            return True
    return False


async def _read_body(receive: Receive, bound: int) -> bytes:
    """The whole body.

    Raises:
        TooLarge: It is over the bound.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body") and len(body) <= bound:
        return body
    parts, length = [body], len(body)
    while message.get("more_body") and length <= bound * _DISCARD_FACTOR:
        message = await receive()
        part = message.get("body", b"")
        length += len(part)
        if length <= bound:
            parts.append(part)
        else:
            parts.clear()
    _check_length(length, bound)
    return b"".join(parts)


def _check_length(length: int, bound: int) -> None:
    if length > bound:
        raise TooLarge(f"The body is over {bound:,} bytes.", remedy="Send smaller batches.")


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed


def _as_json(headers: Headers) -> Headers:
    """KServe and FastAPI hand ``application/json; charset=utf-8``, and curl's default, to the model as raw bytes."""
    if any(name == b"inference-header-content-length" for name, _ in headers):
        return headers
    return [*((name, value) for name, value in headers if name != b"content-type"), _JSON]


def _echoes(headers: Headers) -> Headers:
    return [header for header in headers if header[0] in _ECHOED]


def _echoing(scope: Scope, send: Send) -> Send:
    echoes = _echoes(scope["headers"])
    if not echoes:
        return send

    async def echoing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *echoes]
        await send(message)

    return echoing


def _headers(status: int, sent: Headers) -> Headers:
    headers = [_JSON, *_echoes(sent)]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


async def _respond(scope: Scope, send: Send, status: int, body: bytes) -> None:
    headers = [*_headers(status, scope["headers"]), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
