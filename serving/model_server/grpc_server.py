"""KServe's gRPC service (v2) behind the same keys and on the same host as HTTP; KServe's own server is open to all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc import aio
from kserve.constants.constants import MAX_GRPC_MESSAGE_LENGTH
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from ninefold.errors import ConfigurationError, NotAuthenticated
from ninefold.keys import Keys
from serving.model_server.metrics import Counters

_OPEN = frozenset({"ServerLive", "ServerReady", "ModelReady"})
"""What probes call without a key."""


class KeyInterceptor(aio.ServerInterceptor):
    """Admits calls with a known key in the metadata ``x-apikey``, or ``authorization: Bearer``.

    Args:
        keys: Known API keys.
        counters: Where refusals are counted.
    """

    def __init__(self, keys: Keys, counters: Counters) -> None:
        self._keys = keys
        self._counters = counters

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Passes the call on, or puts a refusal in its place."""
        if handler_call_details.method.rpartition("/")[2] in _OPEN:
            return await continuation(handler_call_details)
        metadata = handler_call_details.invocation_metadata or ()
        try:
            self._keys.authenticate(
                [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in metadata]
            )
        except NotAuthenticated as error:
            self._counters.not_authenticated += 1
            message = str(error)

            async def refuse(_: Any, context: aio.ServicerContext[Any, Any]) -> None:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, message)

            return grpc.unary_unary_rpc_method_handler(refuse)
        return await continuation(handler_call_details)


def grpc_server(
    dataplane: DataPlane,
    extension: ModelRepositoryExtension,
    *,
    host: str,
    port: int,
    keys: Keys | None,
    counters: Counters,
) -> aio.Server:
    """A bound server; the caller starts it on its event loop.

    Raises:
        ConfigurationError: The port is taken.
    """
    interceptors: list[aio.ServerInterceptor] = [ExceptionToStatusInterceptor()]
    if keys is not None:
        interceptors.insert(0, KeyInterceptor(keys, counters))
    server = aio.server(
        ThreadPoolExecutor(max_workers=2),
        interceptors=interceptors,
        options=[
            ("grpc.max_send_message_length", MAX_GRPC_MESSAGE_LENGTH),
            ("grpc.max_receive_message_length", MAX_GRPC_MESSAGE_LENGTH),
            # Without this a second server on the port would start and take half of the calls.
            ("grpc.so_reuseport", 0),
        ],
    )
    grpc_predict_v2_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(InferenceServicer(dataplane, extension), server)
    try:
        server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        raise ConfigurationError(
            f"The model server can't listen for gRPC on {host}:{port}: the port is in use or not allowed.",
            remedy="Choose another --grpc-port, or 0 for none.",
        ) from error
    return server
