"""What every HTTP service off the hot path shares: keys, bounds, errors, health, metrics, and a clear start.

A service is a Starlette application with its own routes; ``service_app`` adds ``/healthz``, ``/readyz``, ``/metrics``
and ``/openapi.json``, answers Ninefold's errors as ``{"error": …}`` with their codes, and bounds bodies.
"""

from __future__ import annotations

import errno
import math
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
import prometheus_client
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from ninefold.errors import ConfigurationError, InvalidInput, LimitReached, NinefoldError, TooLarge
from ninefold.json_input import read_json_body
from ninefold.keys import Keys
from ninefold.logs import set_up_logs
from ninefold.settings import settings

log = structlog.get_logger()


class JSON(Response):
    """A JSON response by orjson; NaN becomes null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encodes the content."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def error_response(error: NinefoldError) -> JSON:
    """The wire form of one of Ninefold's errors."""
    body: dict[str, Any] = {"error": str(error)}
    if isinstance(error, InvalidInput):
        body["field"] = error.field
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(error.http_status)
    if isinstance(error, LimitReached) and error.after_seconds is not None:
        headers = {"Retry-After": str(max(1, math.ceil(error.after_seconds)))}
    return JSON(body, status_code=error.http_status, headers=headers)


async def _on_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, NinefoldError):
        raise error
    if error.http_status >= 500:
        log.error("request failed", path=request.url.path, error=str(error))
    return error_response(error)


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    what = {404: f"There is nothing at {request.url.path[:100]}.", 405: f"{request.method} is not what it takes."}
    message = f"{what.get(error.status_code, error.detail)} See /openapi.json."
    return JSON({"error": message}, status_code=error.status_code, headers=error.headers)


async def _on_unexpected(request: Request, error: Exception) -> Response:
    log.exception("unexpected error", path=request.url.path, exc_info=error)
    return JSON({"error": "Internal error; the service's log has the details."}, status_code=500)


async def read_json(request: Request, *, max_bytes: int) -> Any:
    """Reads a bounded JSON body.

    Raises:
        TooLarge: The body is longer than ``max_bytes``; it is not read to its end.
        InvalidInput: It is not JSON, or the client went away while it was read.
    """
    body = bytearray()
    chunks: AsyncIterator[bytes] = request.stream()
    try:
        async for chunk in chunks:
            body += chunk
            if len(body) > max_bytes:
                raise TooLarge(f"The body is over {max_bytes:,} bytes.", remedy="Send smaller batches.")
    except ClientDisconnect as error:
        # Nobody is there to be answered; it is counted and logged as what it is, and not as a fault of the service.
        raise InvalidInput("body", "ended before it was whole.", remedy="Send it again.") from error
    return read_json_body(body, remedy="Send a JSON object.")


def authenticated(keys: Keys, request: Request, *, what: str = "") -> str:
    """The name of the caller's key.

    Args:
        keys: The keys that are admitted.
        request: The request.
        what: What is asked, for keys that are for some things alone.

    Raises:
        NotAuthenticated: No key, a wrong one, or one that is for something else.
    """
    return keys.authenticate(request.scope["headers"], what=what)


def service_app(
    *,
    routes: Sequence[BaseRoute],
    ready: Callable[[], str | None],
    openapi: Mapping[str, Any] | None = None,
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]] | None = None,
) -> Starlette:
    """A Starlette application with what every service has.

    Args:
        routes: The service's own routes.
        ready: Returns None when the service can work, else the reason why not.
        openapi: Its OpenAPI 3.1 document, served at ``/openapi.json``.
        lifespan: Opens and closes what the service holds.
    """

    async def healthz(_: Request) -> Response:
        return JSON({"status": "alive"})

    async def readyz(_: Request) -> Response:
        reason = ready()
        return JSON({"status": "ready"}) if reason is None else JSON({"error": reason}, status_code=503)

    async def metrics(_: Request) -> Response:
        return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_LATEST)

    common: list[BaseRoute] = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    if openapi is not None:

        async def document(_: Request) -> Response:
            return JSON(openapi)

        common.append(Route("/openapi.json", document))
    return Starlette(
        routes=[*common, *routes],
        lifespan=lifespan,
        exception_handlers={NinefoldError: _on_error, HTTPException: _on_http, Exception: _on_unexpected},
    )


def bound_socket(host: str, port: int, *, name: str, setting: str = "") -> socket.socket:
    """A listening socket, taken before anything slow is done.

    Args:
        host: Address to listen on.
        port: Port; 0 for any free one.
        name: The service's name, for the message.
        setting: What sets its port, for the message; by default ``NINEFOLD_PORTS__<NAME>``.

    Raises:
        ConfigurationError: The port is taken, or may not be used; the message names it.
    """
    setting = setting or f"NINEFOLD_PORTS__{name.upper().replace(' ', '_')}"
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            why = "in use by another process" if error.errno == errno.EADDRINUSE else "not allowed for this user"
            raise ConfigurationError(
                f"The {name} can't listen on {host}:{port}: the port is {why}.",
                remedy=f"Stop that process (ninefold down), or set {setting}.",
            ) from error
        raise
    return listener


def run(serve: Callable[[], None], *, name: str) -> None:
    """Runs a service's process: one of Ninefold's errors is one line and its exit code.

    Args:
        serve: Serves until it is told to stop.
        name: The service's name, for the line.

    Raises:
        SystemExit: It failed with an error of Ninefold's own.
    """
    try:
        serve()
    except NinefoldError as error:
        sys.stderr.write(f"{name}: {error}\n")
        raise SystemExit(error.exit_code) from None


def serve(app: ASGIApp, *, host: str, port: int, name: str) -> None:
    """Serves until SIGTERM or SIGINT, then drains: open requests are answered, new connections refused.

    Raises:
        ConfigurationError: The port is taken.
    """
    import uvicorn

    set_up_logs(settings().log_level)
    listener = bound_socket(host, port, name=name)
    config = uvicorn.Config(
        app, access_log=False, log_level="warning", lifespan="on", timeout_graceful_shutdown=20, server_header=False
    )
    # uvicorn raises the signal again when it has drained; without a handler the process would end by it, as if killed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    log.info("listening", service=name, address=f"http://{host}:{port}")
    uvicorn.Server(config).run(sockets=[listener])
