"""One build in a process of its own: the specification comes by standard input, news go out as lines of JSON."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any

from components.model_builder.build import Progress, build
from ninefold.errors import NinefoldError


def main() -> int:
    """Runs the build; an error of Ninefold's own is news, any other one ends the process."""
    asked = json.load(sys.stdin)
    # Libraries print; the lines of news have a descriptor of their own.
    news = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(message: dict[str, Any]) -> None:
        news.write(json.dumps(message) + "\n")
        news.flush()

    def show(step: Progress) -> None:
        tell({"progress": asdict(step)})

    train, validation = asked.pop("train"), asked.pop("validation")
    try:
        result = build(train, validation, progress=show, **asked)
    except NinefoldError as error:
        tell({"error": str(error)})
        return error.exit_code
    tell({"result": result.to_json()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
