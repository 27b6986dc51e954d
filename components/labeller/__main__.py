"""``python -m components.labeller``: the same as ``ninefold label``."""

from __future__ import annotations

import typer

from components.labeller.commands import app
from ninefold.errors import NinefoldError

if __name__ == "__main__":
    try:
        app(prog_name="ninefold label")
    except NinefoldError as error:
        typer.echo(f"ninefold: {error}", err=True)
        raise SystemExit(error.exit_code) from None
