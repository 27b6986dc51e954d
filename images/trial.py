"""Tries the images for real: what is in them, how they start, answer and drain, what they say of what is wrong."""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence

from images.build import TARGETS, image_name
from images.contents import contents_checks
from images.engine import Engine, ImagesError
from images.loop import loop_checks
from images.pod import Pod

Check = Callable[[], str]
"""A check: what it saw, for people; ``AssertionError`` or ``ImagesError`` where it failed."""


def try_images(engine: Engine, *, prefix: str, base: str, flags: Sequence[str]) -> int:
    """Runs every check, says of each how it went, and ends with ``N passed, N failed``.

    Returns:
        0 when all passed.

    Raises:
        ImagesError: An image is missing.
    """
    names = {target: image_name(target, prefix) for target in TARGETS}
    configured = {}
    for target, name in names.items():
        try:
            found = json.loads(engine.ask("image", "inspect", name))[0]
            # podman tells the health check beside the configuration, docker in it.
            configured[target] = {"Healthcheck": found.get("Healthcheck")} | found["Config"]
        except ImagesError as error:
            raise ImagesError(f"There is no image {name}; run: make images") from error
    passed = failed = 0
    with Pod(engine, flags, names["serving"]) as pod:
        checks: Iterator[tuple[str, Check]] = (
            pair for part in (contents_checks(pod, names, configured, base), loop_checks(pod, names)) for pair in part
        )
        for title, check in checks:
            try:
                saw = check()
            except (AssertionError, ImagesError, OSError) as error:
                failed += 1
                _say(f"failed  {title}: {error or _place(error)}")
            else:
                passed += 1
                _say(f"passed  {title}" + (f": {saw}" if saw else ""))
    _say(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def _place(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}: {frame.line}"


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
