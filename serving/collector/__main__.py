"""``python -m serving.collector``: takes truths, events and feedback, and keeps windows up to date."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing

import uvicorn

from ninefold.keys import KeysFile
from ninefold.loading import load_use_case
from ninefold.logs import set_up_logs
from ninefold.service import bound_socket, run
from ninefold.settings import settings
from ninefold.store import open_store
from serving.collector.app import Collector
from serving.lean_http import LeanProtocol


def serve(arguments: Sequence[str] | None = None) -> None:
    """Serves until SIGTERM; then answers what is open, writes what waits, and ends.

    Raises:
        NinefoldError: The port is taken, the use case is unknown, or something that it opens can't be opened.
    """
    parser = argparse.ArgumentParser(prog="python -m serving.collector", description=__doc__, allow_abbrev=False)
    parser.add_argument("--use-case", required=True, help="Name or import path of the use case.")
    parser.add_argument("--host", default=settings().host, help="Address to listen on.")
    parser.add_argument("--port", type=int, default=settings().ports.collector, help="Port of HTTP.")
    options = parser.parse_args(arguments)
    set_up_logs(settings().log_level)
    use_case = load_use_case(options.use_case)
    # The port first: of two collectors of a use case, one must not touch what the other keeps.
    listener = bound_socket(options.host, options.port, name="collector")
    keys = KeysFile(settings().keys_path)
    with closing(open_store(settings().store_url)) as store:
        collector = Collector(use_case, settings(), store, keys)
        config = uvicorn.Config(
            collector.served(), http=LeanProtocol, access_log=False, log_level="warning", lifespan="on",
            timeout_graceful_shutdown=20, server_header=False, proxy_headers=False,
        )  # fmt: skip
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    run(serve, name="collector")
