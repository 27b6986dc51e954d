"""A ``kserve.ModelServer`` whose HTTP runs on uvloop behind the fast path, in one process, and drains on SIGTERM."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import warnings
from collections.abc import Awaitable, Callable

import kserve.errors
import structlog
import uvicorn
import uvloop
from fastapi.exceptions import FastAPIDeprecationWarning, RequestValidationError
from kserve import ModelServer
from kserve.constants.constants import FASTAPI_APP_IMPORT_STRING
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.server import RESTServer
from prometheus_client import REGISTRY
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from uvicorn.importer import import_from_string

from ninefold.keys import Keys
from serving.lean_http import LeanProtocol
from serving.model_server.fast_path import FastPath
from serving.model_server.grpc_server import grpc_server
from serving.model_server.metrics import Counters
from serving.model_server.model import PackagedModel
from serving.model_server.repository import PackageRepository, ReloadingExtension

DRAIN_SECONDS = 20
"""How long open requests are waited for after SIGTERM."""

log = structlog.get_logger()


class _DataPlane(DataPlane):
    """KServe's data plane, which without any model says that it is not ready; its own says that it is."""

    async def ready(self) -> bool:
        models = self.model_registry.get_models()
        return bool(models) and all([await model.healthy() for model in models.values()])


class PackageServer(ModelServer):
    """KServe's model server for packages.

    Args:
        repository: The models.
        counters: What ``/metrics`` shows besides KServe's own.
        listener: The bound socket of HTTP.
        host: Address that gRPC listens on.
        grpc_port: Port of gRPC; 0 for none.
        keys: Known API keys; None admits everybody.
        max_body_bytes: Bound of a request's body.
    """

    def __init__(
        self,
        repository: PackageRepository,
        counters: Counters,
        *,
        listener: socket.socket,
        host: str,
        grpc_port: int,
        keys: Keys | None,
        max_body_bytes: int,
    ) -> None:
        # KServe configures its loggers where they have no handler: a line for every request.
        for name in ("kserve", "kserve.trace"):
            logging.getLogger(name).addHandler(logging.StreamHandler())
            logging.getLogger(name).setLevel(logging.ERROR)
        super().__init__(
            http_port=listener.getsockname()[1],
            grpc_port=grpc_port,
            workers=1,
            registered_models=repository,
            enable_grpc=grpc_port != 0,
            enable_latency_logging=False,
            event_loop="uvloop",
        )
        self.dataplane = _DataPlane(model_registry=repository)
        self.model_repository_extension = ReloadingExtension(repository)
        self._repository = repository
        self._counters = counters
        self._listener = listener
        self._host = host
        self._keys = keys
        self._max_body_bytes = max_body_bytes

    def application(self) -> FastPath:
        """KServe's application behind the fast path."""
        name = FASTAPI_APP_IMPORT_STRING
        RESTServer(name, self.dataplane, self.model_repository_extension, self.http_port).create_application()
        app = import_from_string(name)
        for error, status in _QUIET.items():
            app.add_exception_handler(error, _answer_with(status))
        return FastPath(app, self._repository, self._counters, keys=self._keys, max_body_bytes=self._max_body_bytes)

    def start(self, models: list[PackagedModel]) -> None:
        """Serves until SIGTERM or SIGINT, then answers what is open and returns."""
        self._register_and_check_atleast_one_model_is_ready(models)
        REGISTRY.register(self._counters)
        server = uvicorn.Server(
            uvicorn.Config(
                self.application(),
                http=LeanProtocol,
                ws="none",
                lifespan="off",
                access_log=False,
                log_level="warning",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=DRAIN_SECONDS,
                timeout_keep_alive=self.timeout_keep_alive,
            )
        )
        # KServe's routes use a response class that FastAPI announces the end of; nothing here can change that.
        warnings.filterwarnings("ignore", category=FastAPIDeprecationWarning)
        # uvicorn raises the signal again when it has drained; without a handler that would end the process before gRPC.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        # KServe's imports leave half a million objects that no collection has to look at again.
        gc.collect()
        gc.freeze()
        uvloop.run(self._serve_both(server))

    async def _serve_both(self, server: uvicorn.Server) -> None:
        rpc = None
        if self.enable_grpc:
            rpc = grpc_server(
                self.dataplane,
                self.model_repository_extension,
                host=self._host,
                port=self.grpc_port,
                keys=self._keys,
                counters=self._counters,
            )
            await rpc.start()
        log.info(
            "listening",
            service="model server",
            address=f"http://{self._host}:{self.http_port}",
            grpc=self.grpc_port if rpc else None,
            models={name: model.digest for name, model in self._repository.get_models().items()},
        )
        await server.serve(sockets=[self._listener])
        if rpc is not None:
            await rpc.stop(grace=DRAIN_SECONDS)


_QUIET: dict[type[Exception], int] = {
    kserve.errors.InvalidInput: 400,
    kserve.errors.ModelNotFound: 404,
    kserve.errors.ModelNotReady: 503,
    kserve.errors.ServerNotReady: 503,
    kserve.errors.InferenceError: 500,
    NotImplementedError: 501,
    RequestValidationError: 400,
}
"""Errors that are a request's own matter: answered with their code, without the traceback that KServe logs for each."""


def _answer_with(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(_: Request, error: Exception) -> Response:
        if isinstance(error, RequestValidationError):
            first = error.errors()[0]
            text = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        else:
            text = str(error)
        return JSONResponse({"error": text}, status_code=status)

    return answer
