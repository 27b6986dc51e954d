"""``python -m serving.supervisor USE_CASE``: the supervisor without a terminal, for ``ninefold up --detach``."""

from __future__ import annotations

import argparse
import sys

from ninefold.errors import NinefoldError
from ninefold.settings import settings
from serving.supervisor.foreground import serve
from serving.supervisor.supervisor import Supervisor


def main() -> None:
    """Serves until SIGTERM; an error of Ninefold's own is one line and its exit code."""
    parser = argparse.ArgumentParser(prog="python -m serving.supervisor", description=__doc__, allow_abbrev=False)
    parser.add_argument("use_case")
    parser.add_argument("--model-only", action="store_true")
    options = parser.parse_args()
    try:
        serve(Supervisor(settings(), options.use_case, model_only=options.model_only))
    except NinefoldError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
