"""``python -m components.model_builder``: the model builder's service."""

from __future__ import annotations

from components.model_builder.service import app
from ninefold.clock import WallClock
from ninefold.errors import NinefoldError
from ninefold.keys import keys_of
from ninefold.service import serve
from ninefold.settings import settings


def main() -> None:
    """Serves until it is told to stop."""
    chosen = settings()
    service = app(
        keys=keys_of(chosen),
        clock=WallClock(),
        roots=(chosen.folder("data"), chosen.folder("pipelines")),
        models_url=chosen.models_url,
    )
    serve(service, host=chosen.host, port=chosen.ports.model_builder, name="model builder")


if __name__ == "__main__":
    try:
        main()
    except NinefoldError as error:
        raise SystemExit(f"model builder: {error}") from None
