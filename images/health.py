"""Whether this container's program answers: the images' HEALTHCHECK. Copied into them; the standard library alone.

What to ask is told by the container's own arguments (``-m serving.front_end … --port 8080``), so that one image serves
every program. A program that listens on nothing, such as a step, is healthy while it runs.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path

PORTS = {
    "serving.front_end": ("FRONT_END", 8080),
    "serving.collector": ("COLLECTOR", 8081),
    "serving.featurizer": ("FEATURIZER", 8089),
    "serving.model_server": ("MODELS_FROM", 8090),
}
"""Program → the name of its port among the settings ``NINEFOLD_PORTS__…``, and that setting's default."""

SECONDS = 4.0


def port_of(arguments: Sequence[str], environment: Mapping[str, str]) -> int | None:
    """The port that a program was told to listen on; None for one that listens on none.

    Args:
        arguments: Its command line, the interpreter first.
        environment: Its environment.
    """
    program = arguments[arguments.index("-m") + 1] if "-m" in arguments[:-1] else ""
    if program not in PORTS:
        return None
    name, default = PORTS[program]
    told = environment.get(f"NINEFOLD_PORTS__{name}", str(default))
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if before == "--port":
            told = argument
        elif argument.startswith("--port="):
            told = argument.removeprefix("--port=")
    return int(told)


def answers(port: int) -> bool:
    """Whether ``/healthz`` of a port of this container answers with success."""
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", "/healthz")
        return 200 <= connection.getresponse().status < 300
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def main() -> int:
    """0 when the container's first process is healthy, else 1."""
    arguments = Path("/proc/1/cmdline").read_bytes().decode("utf-8", "replace").rstrip("\0").split("\0")
    port = port_of(arguments, os.environ)
    if port is None or answers(port):
        return 0
    sys.stdout.write(f"http://127.0.0.1:{port}/healthz does not answer with success\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
