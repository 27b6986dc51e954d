"""``python -m components.evaluator``: the evaluator's service."""

from __future__ import annotations

from components.evaluator.service import app
from ninefold.clock import WallClock
from ninefold.errors import NinefoldError
from ninefold.keys import Keys, local_key
from ninefold.service import serve
from ninefold.settings import settings


def main() -> None:
    """Serves until it is told to stop."""
    chosen = settings()
    keys_file = chosen.keys_path
    if chosen.environment == "local":
        local_key(chosen.home, keys_file)
    service = app(keys=Keys.from_file(keys_file), clock=WallClock(), settings=chosen)
    serve(service, host=chosen.host, port=chosen.ports.evaluator, name="evaluator")


if __name__ == "__main__":
    try:
        main()
    except NinefoldError as error:
        raise SystemExit(f"evaluator: {error}") from None
