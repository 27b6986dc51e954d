"""``python -m serving.front_end``: serves one use case."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence

import uvicorn

from ninefold.loading import load_use_case
from ninefold.logs import set_up_logs
from ninefold.service import bound_socket, run
from ninefold.settings import settings
from serving.front_end.assembly import assemble
from serving.lean_http import LeanProtocol


def serve(arguments: Sequence[str] | None = None) -> None:
    """Serves until SIGTERM; then answers what is open, ships the journal, and ends.

    Raises:
        NinefoldError: The port is taken, the use case is unknown, or something that it opens can't be opened.
    """
    parser = argparse.ArgumentParser(prog="python -m serving.front_end", description=__doc__, allow_abbrev=False)
    parser.add_argument("--use-case", required=True, help="Name or import path of the use case.")
    parser.add_argument("--host", default=settings().host, help="Address to listen on.")
    parser.add_argument("--port", type=int, default=settings().ports.front_end, help="Port of HTTP.")
    options = parser.parse_args(arguments)
    set_up_logs(settings().log_level)
    # The port first: who can't have it must not touch a journal that belongs to the one who has.
    listener = bound_socket(options.host, options.port, name="front end")
    app = assemble(load_use_case(options.use_case), settings())
    config = uvicorn.Config(
        app,
        http=LeanProtocol,
        access_log=False,
        log_level="warning",
        lifespan="on",
        timeout_graceful_shutdown=20,
        server_header=False,
        # Nothing here asks for the client's address, and looking for it costs every request.
        proxy_headers=False,
    )
    # What was loaded stays until the end; the collector need not look through it again and again.
    gc.collect()
    gc.freeze()
    # Answers and the journal's way into the store are threads of one interpreter: at the usual 5 ms the shipper's
    # batches are the slowest answers.
    sys.setswitchinterval(0.0001)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    run(serve, name="front end")
