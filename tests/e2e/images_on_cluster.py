"""Images on the cluster's nodes: ours as they were built, and stand-ins for what can't be pulled there."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from kubectl import kubectl

from images.build import HERE, image_name, index_arguments
from images.engine import Engine, find_engine

STAND_INS = Path(__file__).parent / "images"
PREFIX = "localhost/ninefold"
S3 = f"{PREFIX}-e2e/s3:1"


def load_command() -> list[str] | None:
    """What brings an image archive onto the nodes; None where nodes pull for themselves.

    ``E2E_LOAD`` says it; a kind cluster and a machine with a program ``cluster`` are recognised.
    """
    if given := os.environ.get("E2E_LOAD"):
        return shlex.split(given)
    context = kubectl("config", "current-context", check=False).strip()
    if context.startswith("kind-"):
        return ["kind", "load", "image-archive", "--name", context.removeprefix("kind-")]
    return ["cluster", "load"] if shutil.which("cluster") else None


def ours(target: str) -> str:
    """Name of one of our images."""
    return image_name(target, PREFIX)


def load(names: list[str]) -> None:
    """Brings images of this machine's engine onto the nodes.

    Raises:
        AssertionError: One was not built.
    """
    command = load_command()
    if command is None:
        return
    engine = find_engine(os.environ.get("ENGINE", ""))
    for name in names:
        found = subprocess.run([engine.name, "image", "inspect", name], capture_output=True, check=False)
        assert found.returncode == 0, f"There is no image {name} here. Build it: make images"
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "image.tar"
            form = [] if engine.name == "docker" else ["--format", "docker-archive"]
            subprocess.run([engine.name, "save", *form, "--output", str(archive), name], check=True)
            subprocess.run([*command, str(archive)], check=True, stdout=subprocess.DEVNULL)


def build_stand_in(folder: str, name: str) -> None:
    """Builds a stand-in under the name that the manifests use."""
    engine: Engine = find_engine(os.environ.get("ENGINE", ""))
    flags = shlex.split(os.environ.get("IMAGE_FLAGS", ""))
    base = os.environ.get("BASE", "python:3.11-slim")
    done = subprocess.run(
        [*engine.build_command(flags), *index_arguments(os.environ), "--build-arg", f"BASE={base}", "--tag", name,
         str(STAND_INS / folder)],
        capture_output=True, text=True, check=False, cwd=HERE,
    )  # fmt: skip
    assert done.returncode == 0, f"The stand-in {name} does not build: {done.stderr[-2000:]}"


def versions() -> dict[str, str]:
    """Versions of everything that a cluster gets."""
    lines = (HERE / "manifests" / "versions.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
