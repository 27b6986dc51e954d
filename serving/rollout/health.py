"""``/healthz``, ``/readyz`` and ``/metrics`` of the rollout's controller, beside its looks."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import uvicorn

from ninefold.service import bound_socket, service_app
from ninefold.settings import Settings


@contextlib.contextmanager
def answering(settings: Settings, unready: Callable[[], str | None]) -> Iterator[None]:
    """Answers probes while the block runs.

    Args:
        settings: Where it listens.
        unready: Why the controller does not work; None where it does.

    Raises:
        ConfigurationError: The port is taken.
    """
    listener = bound_socket(settings.host, settings.ports.rollout, name="rollout")
    config = uvicorn.Config(
        service_app(routes=(), ready=unready), access_log=False, log_level="warning", lifespan="off",
        server_header=False, timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=5.0)
