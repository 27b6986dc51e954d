"""``python -m serving.rollout``: looks at a rollout every half minute until SIGTERM; on a cluster keeps routes, too."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from types import FrameType

import structlog

from ninefold.clock import WallClock
from ninefold.errors import NinefoldError
from ninefold.loading import load_use_case
from ninefold.logs import set_up_logs
from ninefold.service import run
from ninefold.settings import Settings, settings
from ninefold.store import Store, open_store
from serving.rollout.controller import Controller, no_trouble
from serving.rollout.obstacle import OnlineObstacle

log = structlog.get_logger()

_LOOKS_A_LEASE = 4
"""One that died is replaced when it has missed as many looks."""


def serve(arguments: Sequence[str] | None = None) -> None:
    """Looks until SIGTERM or SIGINT; then gives the lease back and ends.

    Raises:
        NinefoldError: The use case is unknown, the store can't be opened, or no cluster can be asked where one is
            wanted.
    """
    parser = argparse.ArgumentParser(prog="python -m serving.rollout", description=__doc__, allow_abbrev=False)
    parser.add_argument("--use-case", required=True, help="Name or import path of the use case.")
    options = parser.parse_args(arguments)
    here = settings()
    set_up_logs(here.log_level)
    use_case = load_use_case(options.use_case)
    ended = threading.Event()

    def end(_: int, __: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    clock = WallClock()
    with closing(open_store(here.store_url, clock=clock)) as store, _steered(here, use_case.name, store):

        def routes_trouble() -> str:
            routes = store.published_routes(use_case.name)
            return "" if routes is None else routes.problem

        controller = Controller(
            use_case,
            store,
            clock=clock,
            obstacle=OnlineObstacle(here, use_case),
            trouble=no_trouble if here.cluster.routes == "files" else routes_trouble,
            holder=f"{socket.gethostname()}/{os.getpid()}",
            lasting=timedelta(seconds=_LOOKS_A_LEASE * here.rollout.look_seconds),
        )
        log.info("looking", service="rollout", use_case=use_case.name, every_seconds=here.rollout.look_seconds)
        while True:
            try:
                controller.look()
            except NinefoldError as error:
                log.error("rollout is held", use_case=use_case.name, error=str(error))
            except Exception:
                # A fault in one look must not end the watch over what goes on.
                log.exception("rollout is held", use_case=use_case.name)
            if ended.wait(here.rollout.look_seconds):
                break
        controller.close()


@contextlib.contextmanager
def _steered(here: Settings, use_case: str, store: Store) -> Iterator[None]:
    """Keeps the cluster's routes meanwhile, and answers probes; on one machine the supervisor does that."""
    if here.cluster.routes == "files":
        yield
        return
    from serving.rollout.health import answering
    from serving.traffic.steering import steering

    steered = steering(here, use_case, store)
    with answering(here, steered.unready):
        steered.start()
        try:
            yield
        finally:
            steered.stop()


if __name__ == "__main__":
    run(serve, name="rollout")
