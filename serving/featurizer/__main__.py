"""``python -m serving.featurizer``: follows the store's events and keeps windows up to date."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing

from ninefold import service
from ninefold.clock import WallClock
from ninefold.errors import ConfigurationError
from ninefold.loading import load_use_case
from ninefold.logs import set_up_logs
from ninefold.settings import settings
from ninefold.store import open_store
from serving.featurizer.service import FeaturizerService


def serve(arguments: Sequence[str] | None = None) -> None:
    """Serves until SIGTERM; then ends its turn and gives the lease back.

    Raises:
        NinefoldError: The port is taken, the use case is unknown, or the store can't be opened.
    """
    parser = argparse.ArgumentParser(prog="python -m serving.featurizer", description=__doc__, allow_abbrev=False)
    parser.add_argument("--use-case", required=True, help="Name or import path of the use case.")
    parser.add_argument("--host", default=settings().host, help="Address to listen on.")
    parser.add_argument("--port", type=int, default=settings().ports.featurizer, help="Port of HTTP.")
    options = parser.parse_args(arguments)
    set_up_logs(settings().log_level)
    if settings().serving.windows != "service":
        raise ConfigurationError(
            "The collector keeps the windows itself, so a featurizer has nothing to do.",
            remedy="Set NINEFOLD_SERVING__WINDOWS=service for both, or don't start this one.",
        )
    use_case = load_use_case(options.use_case)
    with closing(open_store(settings().store_url)) as store:
        featurizer = FeaturizerService(use_case, settings(), store, WallClock())
        service.serve(featurizer.app(), host=options.host, port=options.port, name="featurizer")


if __name__ == "__main__":
    service.run(serve, name="featurizer")
