"""Asks a model server: a pool of kept-alive connections, one request at a time on each, parsed by httptools.

An ordinary client costs several times what the rest of a prediction costs, and this is the one call on the hot path;
everything else in the house uses an ordinary client.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast
from urllib.parse import urlsplit

import httptools
import orjson

from ninefold.errors import ConfigurationError

_MAX_ANSWER_BYTES = 64 * 2**20
_LENGTH = re.compile(rb"\n(?:content-length|transfer-encoding):", re.IGNORECASE)

Reason = Literal["model_unreachable", "model_slow", "model_error"]

_REASONS: dict[int, Reason] = {502: "model_unreachable", 503: "model_unreachable", 504: "model_slow"}
"""Status → what it means; a gateway says so of a server that it can't reach. Any other is the model's own fault."""


class ModelFailure(Exception):
    """A model gave no good answer.

    Args:
        reason: What a fallback names.
        detail: What happened, for the log.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail


class Bounded(NamedTuple):
    """A prediction with its interval; lower <= prediction <= upper."""

    prediction: float
    lower: float
    upper: float


class _ConnectionLost(Exception):
    """The connection ended before its answer did."""


class ModelClient:
    """Asks one model server.

    A request whose connection breaks is asked once more on a new one: predicting changes nothing, so asking twice is
    safe. There are at most as many connections as requests in flight.

    Args:
        url: Base address (``http://127.0.0.1:8090``).
        name: Name of the model on the server.
        key: API key that the server wants.
        timeout: Seconds for the whole call, connecting and second attempt included.
        headers: Sent with every request.

    Raises:
        ConfigurationError: The address is not one of plain HTTP.
    """

    def __init__(
        self, url: str, *, name: str, key: str, timeout: float, headers: Mapping[str, str] | None = None
    ) -> None:
        address = urlsplit(url)
        if address.scheme != "http" or not address.hostname:
            raise ConfigurationError(
                f"{url!r} is no address of a model server.", remedy="Write it as http://host:port."
            )
        self._host = address.hostname
        self._port = address.port or 80
        self._timeout = timeout
        path = f"{address.path.rstrip('/')}/v1/models/{name}:predict"
        lines = {"Host": address.netloc, "X-ApiKey": key, "Content-Type": "application/json", **(headers or {})}
        self._head = "\r\n".join(
            (f"POST {path} HTTP/1.1", *(f"{header}: {value}" for header, value in lines.items()), "")
        ).encode()
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._closing = False

    async def predict(self, rows: Sequence[Sequence[Any]], headers: bytes = b"") -> list[float | Bounded | None]:
        """The model's predictions.

        Args:
            rows: One list an instance, in the order of the signature's inputs.
            headers: More header lines, each ended by CR LF.

        Returns:
            As many values as rows, with their intervals where the version has one; None for what is no finite number,
            or lies outside of its own interval.

        Raises:
            ModelFailure: No answer, none in time, an error, or not one value a row.
        """
        status, body = await self._ask(orjson.dumps({"instances": rows}), headers)
        if status != 200:
            raise ModelFailure(
                _REASONS.get(status, "model_error"), f"status {status}: {body[:200].decode('utf-8', 'replace')}"
            )
        try:
            predictions = orjson.loads(body)["predictions"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise ModelFailure("model_error", f"the answer holds no predictions: {error!r}") from error
        if type(predictions) is not list or len(predictions) != len(rows):
            size = len(predictions) if type(predictions) is list else "no list of"
            raise ModelFailure("model_error", f"{size} predictions for {len(rows)} instances")
        return [_answer(value) for value in predictions]

    async def _ask(self, body: bytes, headers: bytes) -> tuple[int, bytes]:
        request = b"%b%bContent-Length: %d\r\n\r\n%b" % (self._head, headers, len(body), body)
        deadline = asyncio.get_running_loop().time() + self._timeout
        connection = self._idle.pop() if self._idle else None
        try:
            if connection is None:
                connection = await self._connect(deadline)
            return await connection.ask(request, deadline)
        except _ConnectionLost:
            # An idle connection may have been closed by the server in the moment it was taken.
            pass
        try:
            connection = await self._connect(deadline)
            return await connection.ask(request, deadline)
        except _ConnectionLost as error:
            raise ModelFailure("model_unreachable", f"{self._host}:{self._port} broke the connection") from error

    async def _connect(self, deadline: float) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline):
                transport, connection = await loop.create_connection(lambda: _Connection(self), self._host, self._port)
        except TimeoutError as error:
            raise ModelFailure("model_slow", f"{self._host}:{self._port} did not accept in time") from error
        except OSError as error:
            raise ModelFailure("model_unreachable", f"{self._host}:{self._port}: {error}") from error
        if transport.get_extra_info("sockname") == transport.get_extra_info("peername"):
            # TCP lets a socket connect to itself when it is given the very port it asks for, which happens where nobody
            # listens for a while; it would answer for the server and keep it from starting again.
            transport.abort()
            raise ModelFailure("model_unreachable", f"{self._host}:{self._port}: nobody listens")
        return connection

    def joined(self, connection: _Connection) -> None:
        """Called by a connection that is open."""
        self._open.add(connection)

    def free(self, connection: _Connection) -> None:
        """Called by a connection that can take the next request."""
        if self._closing:
            connection.close()
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        """Called by a connection that ended."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Closes what is idle now, and what is busy when its answer is there."""
        self._closing = True
        for connection in list(self._idle):
            connection.close()
        self._idle.clear()


class _Connection(asyncio.Protocol):
    """One kept-alive connection."""

    def __init__(self, client: ModelClient) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._head = b""
        self._headers_complete = False

    async def ask(self, request: bytes, deadline: float) -> tuple[int, bytes]:
        """Sends a request and returns status and body.

        Raises:
            ModelFailure: Not in time, or what came back is not HTTP.
            _ConnectionLost: The connection ended first.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise _ConnectionLost
        answer: asyncio.Future[tuple[int, bytes]] = self._loop.create_future()
        self._answer = answer
        # Else the end of the connection would pass for the end of the answer before.
        self._headers_complete = False
        self._head = b""
        timer = self._loop.call_at(deadline, self._expire, answer)
        transport.write(request)
        try:
            return await answer
        finally:
            timer.cancel()
            if self._answer is answer:
                # The asker was cancelled; what may still come belongs to nobody.
                self._answer = None
                self.close()

    def close(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.close()

    def _expire(self, answer: asyncio.Future[tuple[int, bytes]]) -> None:
        # The connection may already serve the next request, before the asker of this one took its answer.
        if self._answer is answer:
            self._fail(ModelFailure("model_slow", "no answer in time"))

    def _fail(self, error: Exception) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)
        if self._transport is not None:
            # What is still on its way would be read as the next request's answer.
            self._transport.abort()

    def _succeed(self, status: int) -> None:
        answer, self._answer = self._answer, None
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        if answer is not None and not answer.done():
            answer.set_result((status, body))

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._client.joined(self)

    def data_received(self, data: bytes) -> None:
        """Parses; bytes that nobody asked for end the connection."""
        if self._answer is None:
            self.close()
            return
        if not self._headers_complete:
            self._head += data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(ModelFailure("model_error", f"what came back is not HTTP: {error!r}"))

    def connection_lost(self, error: Exception | None) -> None:
        """Tells the asker; a body without a length ends with the connection."""
        self._client.lost(self)
        if self._answer is None:
            return
        # One that says how long it is would have been complete by now: it is cut off.
        if error is None and self._headers_complete and _LENGTH.search(self._head) is None:
            self._succeed(self._parser.get_status_code())
        else:
            self._fail(_ConnectionLost())

    # What httptools calls.

    def on_message_begin(self) -> None:
        """Forgets the answer before; a second one that nobody asked for ends the connection."""
        if self._answer is None:
            self.close()
        self._chunks = []
        self._size = 0
        self._headers_complete = False

    def on_headers_complete(self) -> None:
        """From here on, the end of the connection is the end of a body that has no length."""
        self._headers_complete = True

    def on_body(self, body: bytes) -> None:
        """Keeps a piece of the body, within the bound."""
        self._size += len(body)
        if self._size > _MAX_ANSWER_BYTES:
            self._fail(ModelFailure("model_error", f"the answer is over {_MAX_ANSWER_BYTES:,} bytes"))
            return
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        """Hands the answer over and goes back to the pool."""
        status = self._parser.get_status_code()
        if status < 200:
            # An interim answer (100, 103): the real one follows.
            self._headers_complete = False
            return
        keep_alive = self._parser.should_keep_alive()
        self._succeed(status)
        if keep_alive and self._transport is not None and not self._transport.is_closing():
            self._client.free(self)
        else:
            self.close()


def _answer(value: Any) -> float | Bounded | None:
    if type(value) is float:
        return value if math.isfinite(value) else None
    if type(value) is dict:
        numbers = [_finite(value.get(name)) for name in Bounded._fields]
        prediction, lower, upper = numbers
        if prediction is None or lower is None or upper is None or not lower <= prediction <= upper:
            return None
        return Bounded(prediction, lower, upper)
    return _finite(value)


def _finite(value: Any) -> float | None:
    if type(value) is float:
        return value if math.isfinite(value) else None
    return float(value) if type(value) is int else None
