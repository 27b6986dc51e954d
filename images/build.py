"""Builds the images."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from images.engine import Engine, ImagesError

HERE = Path(__file__).resolve().parent.parent
INDEX_VARIABLES = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX")
"""Where packages come from, as pip and uv are told."""

TARGETS = ("pipeline", "serving", "labelling")
OPTIONAL = ("formats",)
"""Built when they are named, and by no default."""


def version() -> str:
    """Ninefold's version, read and not imported: building needs nothing installed."""
    found = re.search(r'^__version__ = "([^"]+)"', (HERE / "ninefold" / "__init__.py").read_text(), re.MULTILINE)
    if found is None:
        raise ImagesError("ninefold/__init__.py has no __version__.")
    return found.group(1)


def image_name(target: str, prefix: str) -> str:
    """The name of a target's image: ``localhost/ninefold/serving:0.1.0-python3.11``."""
    return f"{prefix}/{target}:{version()}-python3.11"


def revision() -> str:
    """The commit that is checked out, with ``+`` where files differ from it; ``unknown`` outside of a checkout."""
    git = ["git", "-C", str(HERE)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changes else "")


def index_arguments(environment: Mapping[str, str]) -> list[str]:
    """Build arguments by which a build reaches packages where this machine's installers do.

    They name variables without their values, which the engine then reads itself: a password in an address stays off the
    command line.
    """
    return [part for name in INDEX_VARIABLES if environment.get(name) for part in ("--build-arg", name)]


def build(engine: Engine, targets: Sequence[str], *, prefix: str, base: str, flags: Sequence[str]) -> None:
    """Builds images and says their names.

    Args:
        engine: What builds.
        targets: Which ones.
        prefix: Where their names begin: ``localhost/ninefold``, or a registry's folder.
        base: The image that they stand on.
        flags: More flags of the engine's build.

    Raises:
        ImagesError: A target is unknown, or its build failed.
    """
    for target in targets:
        if target not in (*TARGETS, *OPTIONAL):
            raise ImagesError(f"There is no target {target!r}; there are {', '.join((*TARGETS, *OPTIONAL))}.")
    labels = {"version": version(), "revision": revision(), "base.name": base}
    environment = dict(os.environ)
    if environment.get("PIP_INDEX_URL"):
        environment.setdefault("UV_DEFAULT_INDEX", environment["PIP_INDEX_URL"])
    for target in targets:
        name, began = image_name(target, prefix), time.monotonic()
        sys.stdout.write(f"{engine.name} builds {name} on {base} ...\n")
        sys.stdout.flush()
        given = ["--build-arg", f"BASE={base}", *index_arguments(environment)]
        given += [f"--label=org.opencontainers.image.{key}={value}" for key, value in labels.items()]
        command = [*engine.build_command(flags), *given, "--target", target, "--tag", name, str(HERE)]
        # podman and buildah tell every step on standard output; docker tells them on the other.
        if subprocess.run(command, stdout=subprocess.DEVNULL, env=environment).returncode:
            raise ImagesError(f"{engine.name} could not build {name}; what it printed says why.")
        sys.stdout.write(f"{name} is made in {time.monotonic() - began:.0f} s\n")
        sys.stdout.flush()
