"""``python -m components.evaluator``: the evaluator's service."""

from __future__ import annotations

from components.evaluator.service import app
from ninefold.clock import WallClock
from ninefold.errors import NinefoldError
from ninefold.keys import keys_of
from ninefold.service import serve
from ninefold.settings import settings


def main() -> None:
    """Serves until it is told to stop."""
    chosen = settings()
    service = app(keys=keys_of(chosen), clock=WallClock(), settings=chosen)
    serve(service, host=chosen.host, port=chosen.ports.evaluator, name="evaluator")


if __name__ == "__main__":
    try:
        main()
    except NinefoldError as error:
        raise SystemExit(f"evaluator: {error}") from None
