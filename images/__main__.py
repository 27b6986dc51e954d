"""``python -m images build|test``: what ``make images`` and ``make images-test`` call."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from images.build import TARGETS, build
from images.engine import ImagesError, find_engine


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds or tries the images.

    Returns:
        0, or 1 when something failed; one line on standard error says what.
    """
    parser = argparse.ArgumentParser(prog="python -m images", description=__doc__, allow_abbrev=False)
    parser.add_argument("what", choices=("build", "test"))
    parser.add_argument("targets", nargs="*", default=list(TARGETS), help="Which images to build; all of them.")
    parser.add_argument("--engine", default="", help="docker, podman or buildah; by default the first that works.")
    parser.add_argument("--prefix", default="localhost/ninefold", help="Where the images' names begin.")
    parser.add_argument("--base", default="python:3.11-slim", help="The image that they stand on.")
    parser.add_argument("--flags", default="", help="More flags of the engine's build, or run.")
    options = parser.parse_intermixed_args(arguments)
    flags = shlex.split(options.flags)
    try:
        engine = find_engine(options.engine, running=options.what == "test")
        if options.what == "test":
            from images.trial import try_images

            return try_images(engine, prefix=options.prefix, base=options.base, flags=flags)
        build(engine, options.targets, prefix=options.prefix, base=options.base, flags=flags)
    except ImagesError as error:
        sys.stderr.write(f"images: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
