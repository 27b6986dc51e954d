"""The front end as a raw ASGI application: routes, keys, bounds and errors. What is answered stands elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import orjson
import prometheus_client
import structlog

from ninefold.errors import InvalidInput, NinefoldError, NotFound, TooLarge
from ninefold.keys import Keys, KeysFile
from ninefold.usecase import UseCase
from serving.front_end.answer import Answers
from serving.front_end.asking import Caller
from serving.front_end.explanation import Explanations
from serving.front_end.feature_answers import FeatureAnswers
from serving.front_end.metrics import Metrics
from serving.front_end.shadow import Shadow
from serving.front_end.versions import Versions
from serving.lean_http import Exchange, Handler, Header, Headers

log = structlog.get_logger()

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_REQUEST_ID_LENGTH = 128
_KEYS_SECONDS = 0.25
"""How often the keys file is looked at: a look costs more than a key's check."""
_FINISH_SECONDS = 2.0
"""How long what the candidate is still to be asked may take at the end; the live answers are all given by then."""
_JSON = (b"content-type", b"application/json")


_Answer = Callable[[bytes | bytearray, Caller], Awaitable[bytes]]


class _Disconnected(Exception):
    """The client went away before its request was whole."""


class _Known(NamedTuple):
    """What a head was found to say; it says so for as long as the keys are the same.

    Args:
        keys: The keys that it was held against.
        caller: Who asks.
        headers: What its answers give back.
    """

    keys: Keys
    caller: Caller
    headers: tuple[Header, ...]


class FrontEnd:
    """The application.

    Args:
        use_case: The use case.
        keys: Keys of callers.
        versions: Which version answers.
        answers: Answers ``:predict``.
        shadow: Asks the candidate behind the live version.
        explanations: Answers ``:explain``.
        feature_answers: Answers ``/v1/features``.
        metrics: What is counted.
        openapi: The document at ``/openapi.json``.
        max_body_bytes: Longest body.
        open_: Called when the application starts.
        close: Called when the last request is answered; blocks until all that was answered is kept.
        behind: Why routes are older than those that were published; None where they are not.
    """

    def __init__(
        self,
        use_case: UseCase,
        *,
        keys: KeysFile,
        versions: Versions,
        answers: Answers,
        shadow: Shadow,
        explanations: Explanations,
        feature_answers: FeatureAnswers,
        metrics: Metrics,
        openapi: Mapping[str, Any],
        max_body_bytes: int,
        open_: Callable[[], None],
        close: Callable[[], None],
        behind: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._use_case = use_case
        self._keys_file = keys
        self._keys = keys.keys
        self._versions = versions
        self._answers = answers
        self._shadow = shadow
        self._explanations = explanations
        self._feature_answers = feature_answers
        self._metrics = metrics
        self._openapi = orjson.dumps(openapi)
        self._max_body_bytes = max_body_bytes
        self._open = open_
        self._close = close
        self._behind = behind
        self._model = f"/v1/models/{use_case.name}"
        self._posts: dict[str, tuple[str, _Answer]] = {
            f"{self._model}:predict": ("predict", answers.predict),
            f"{self._model}:explain": ("explain", explanations.explain),
            "/v1/features": ("features", self._features),
        }
        self._waiting = ("predict", partial(answers.predict, waits=True))
        self._predict_path = f"{self._model}:predict".encode()
        self._waiting_path = self._predict_path + b"?wait=shadow"
        self._gets: dict[str, Callable[[], tuple[bytes, bytes]]] = {
            "/v1/models": self._list_models,
            self._model: self._describe_model,
            "/healthz": lambda: (b"application/json", b'{"status":"alive"}'),
            "/readyz": self._readiness,
            "/metrics": lambda: (prometheus_client.CONTENT_TYPE_LATEST.encode(), metrics.render()),
            "/openapi.json": lambda: (b"application/json", self._openapi),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one connection's request, or runs the application's life."""
        kind = scope["type"]
        if kind == "http":
            post = self._posts.get(scope["path"])
            if post is not None and scope["method"] == "POST":
                await self._post(post, scope, receive, send)
            else:
                await self._get(scope, send)
        elif kind == "lifespan":
            await self._live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _post(
        self,
        post: tuple[str, _Answer],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        verb, answer = post
        headers = [_JSON]
        status = 200
        try:
            caller, length = self._caller(scope["headers"], headers)
            if verb == "predict" and scope["query_string"] and _waits(scope["query_string"]):
                verb, answer = self._waiting
            body = await answer(await self._body(length, receive), caller)
        except _Disconnected:
            return
        except Exception as error:
            status, body = self._refusal(error, scope["path"], headers)
        self._metrics.requests[verb, status] += 1
        await _send(send, status, headers, body)

    def lean(self, path: bytes, _: Headers) -> Handler | None:
        """Predicting has a short way past ASGI."""
        if path == self._predict_path:
            return self._predict
        return self._predict_and_wait if path == self._waiting_path else None

    def _predict_and_wait(self, exchange: Exchange) -> None:
        self._predict(exchange, waits=True)

    def _predict(self, exchange: Exchange, *, waits: bool = False) -> None:
        known: _Known | None = exchange.head.noted
        given_back = [_JSON]
        headers: Sequence[Header] = given_back
        try:
            if known is None or known.keys is not self._keys:
                caller, _ = self._caller(exchange.head.headers, given_back)
                known = exchange.head.noted = _Known(self._keys, caller, tuple(given_back))
            headers = known.headers
            self._check_length(len(exchange.body))
            self._answers.begin(exchange.body, known.caller, partial(self._answer, exchange, headers), waits=waits)
        except Exception as error:
            self._answer(exchange, headers, error)

    def _answer(self, exchange: Exchange, headers: Sequence[Header], answer: bytes | Exception) -> None:
        status = 200
        if isinstance(answer, Exception):
            headers = list(headers)
            status, answer = self._refusal(answer, f"{self._model}:predict", headers)
        self._metrics.requests["predict", status] += 1
        exchange.answer(status, headers, answer)

    def _caller(self, sent: Headers, given_back: Headers) -> tuple[Caller, int]:
        """Who asks, and the declared length of the body; ids are added to what is given back first of all.

        Raises:
            NotAuthenticated: No key, or a wrong one.
            InvalidInput: The request id is too long, or the length is no number.
        """
        request_id: str | None = None
        trace = b""
        length = 0
        for name, value in sent:
            if name in (b"x-request-id", b"traceparent"):
                if len(value) > MAX_REQUEST_ID_LENGTH:
                    raise InvalidInput(
                        name.decode(), f"is {len(value):,} bytes long.", remedy=f"Send at most {MAX_REQUEST_ID_LENGTH}."
                    )
                given_back.append((name, value))
                if name == b"traceparent":
                    trace = value
                elif value:
                    request_id = value.decode("latin-1")
            elif name == b"content-length":
                length = int(value)
        return Caller(name=self._keys.authenticate(sent), request_id=request_id, trace=trace), length

    async def _body(self, length: int, receive: Receive) -> bytes | bytearray:
        """The body, never more than the bound.

        Raises:
            TooLarge: It is longer; the rest is not kept.
        """
        self._check_length(length)
        message = await receive()
        body: bytes | bytearray = message.get("body", b"")
        while message.get("more_body", False):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Disconnected
            if type(body) is bytes:
                body = bytearray(body)
            body += message.get("body", b"")
            self._check_length(len(body))
        if message["type"] == "http.disconnect":
            raise _Disconnected
        return body

    def _check_length(self, length: int) -> None:
        if length > self._max_body_bytes:
            raise TooLarge(f"The body is over {self._max_body_bytes:,} bytes.", remedy="Send smaller batches.")

    def _refusal(self, error: Exception, path: str, headers: Headers) -> tuple[int, bytes]:
        if not isinstance(error, NinefoldError):
            log.exception("unexpected error", path=path, exc_info=error)
            return 500, b'{"error":"Internal error; the service\'s log has the details."}'
        body = {"error": str(error)}
        if isinstance(error, InvalidInput):
            body["field"] = error.field
        if error.http_status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        elif error.http_status == 503:
            headers.append((b"retry-after", b"1"))
        return error.http_status, orjson.dumps(body)

    async def _get(self, scope: Scope, send: Send) -> None:
        headers: Headers = []
        media, body = b"application/json", b'{"error":"Method not allowed."}'
        status = 200
        path = scope["path"]
        get = self._gets.get(path)
        try:
            if get is None and path not in self._posts:
                status, body = self._refusal(self._unknown(path), path, headers)
            elif get is None or scope["method"] not in ("GET", "HEAD"):
                status = 405
                headers.append((b"allow", b"POST" if get is None else b"GET"))
            else:
                if path.startswith("/v1/"):
                    self._keys.authenticate(scope["headers"])
                media, body = get()
        except Exception as error:
            status, body = self._refusal(error, path, headers)
        self._metrics.requests["get", status] += 1
        await _send(send, status, [(b"content-type", media), *headers], body)

    def _unknown(self, path: str) -> NotFound:
        if path.startswith("/v1/models/"):
            name, _, verb = path.removeprefix("/v1/models/").partition(":")
            if name == self._use_case.name:
                return NotFound(f"{name} has no {verb[:60]!r}.", remedy="It has predict and explain.")
            return NotFound(f"Model with name {name[:60]} does not exist.", remedy=f"Here is {self._use_case.name}.")
        return NotFound(f"There is nothing at {path[:100]}.", remedy="See /openapi.json.")

    async def _features(self, body: bytes | bytearray, _: Caller) -> bytes:
        return self._feature_answers.answer(body)

    def _list_models(self) -> tuple[bytes, bytes]:
        return b"application/json", orjson.dumps({"models": [self._use_case.name]})

    def _describe_model(self) -> tuple[bytes, bytes]:
        live, table, rollout = self._versions.live, self._versions.table, self._versions.directions.rollout
        return b"application/json", orjson.dumps(
            {
                "name": self._use_case.name,
                "ready": True,
                "revision": table.revision if table is not None else None,
                "version": live.version if live is not None else None,
                "digest": live.digest if live is not None else None,
                "versions": sorted(table.variants) if table is not None else [],
                "problem": self._problem,
                "rollout": rollout.to_json(self._shadow.waiting) if rollout is not None else None,
            }
        )

    @property
    def _problem(self) -> str | None:
        return self._versions.problem or self._behind()

    def _readiness(self) -> tuple[bytes, bytes]:
        # Without a model the baseline answers: that is a problem to show, and no reason to send traffic away.
        return b"application/json", orjson.dumps({"status": "ready", "problem": self._problem})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._open()
        watchers = [
            asyncio.create_task(self._versions.watch(), name="routes"),
            asyncio.create_task(self._watch_keys(), name="keys"),
        ]
        for watcher in watchers:
            watcher.add_done_callback(_report)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for watcher in watchers:
            watcher.cancel()
        # One that ended by an error was told of, and must not keep the journal from being shipped.
        await asyncio.wait(watchers)
        await self._shadow.finish(_FINISH_SECONDS)
        self._versions.close()
        await asyncio.to_thread(self._close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _watch_keys(self) -> None:
        while True:
            await asyncio.sleep(_KEYS_SECONDS)
            self._keys = self._keys_file.keys


def _waits(query: bytes) -> bool:
    """Whether a query asks to wait for the candidate.

    Raises:
        InvalidInput: It asks to wait for something else.
    """
    wait = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("wait")
    if wait not in (None, ["shadow"]):
        asked = ",".join(wait or ())
        raise InvalidInput("wait", f"{asked!r:.60} can't be waited for.", remedy="Leave it out, or send wait=shadow.")
    return wait is not None


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("a watcher ended", watches=task.get_name(), exc_info=task.exception())
