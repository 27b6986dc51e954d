"""The container engine: docker, podman or buildah, whichever works here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

ENGINES = ("docker", "podman", "buildah")
"""In the order in which they are asked."""

_PATIENCE = 180.0


class ImagesError(Exception):
    """What went wrong and what to do, in one line."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine that works.

    Args:
        name: ``docker``, ``podman`` or ``buildah``; also its program.
    """

    name: str

    @property
    def runs(self) -> bool:
        """Whether it can run containers as they are meant to be run; buildah only builds."""
        return self.name != "buildah"

    def build_command(self, flags: Sequence[str]) -> list[str]:
        """The beginning of a build's command line."""
        # The OCI format has no health checks, so podman and buildah would leave them out.
        docker_format = [] if self.name == "docker" else ["--format=docker"]
        return [self.name, "build", *docker_format, *flags]

    def ask(self, *arguments: str, timeout: float = 120.0) -> str:
        """What a call of the engine prints.

        Raises:
            ImagesError: It failed, or took longer than ``timeout`` seconds.
        """
        try:
            done = subprocess.run([self.name, *arguments], capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise ImagesError(f"{self.name} {arguments[0]} took longer than {timeout:g} s.") from error
        if done.returncode:
            raise ImagesError(f"{self.name} {' '.join(arguments)[:200]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()


def find_engine(wanted: str = "", *, running: bool = False) -> Engine:
    """The engine to use.

    Args:
        wanted: Its name; empty for the first that works.
        running: Whether it has to run containers, too.

    Raises:
        ImagesError: None works; it says what is wrong with each.
    """
    if wanted and wanted not in ENGINES:
        raise ImagesError(f"ENGINE is {wanted!r}; give docker, podman or buildah.")
    faults = []
    for name in [wanted] if wanted else ENGINES:
        fault = _fault(name)
        if not fault and running and not Engine(name).runs:
            fault = "only builds"
        if not fault:
            return Engine(name)
        faults.append(f"{name} {fault}")
    raise ImagesError(f"No container engine works here: {'; '.join(faults)}. Install podman, or start docker.")


def _fault(name: str) -> str:
    """Why an engine does not work; empty where it does."""
    if shutil.which(name) is None:
        return "is not installed"
    # A docker without its daemon is a program that only complains.
    try:
        done = subprocess.run([name, "info"], capture_output=True, text=True, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return f"does not answer within {_PATIENCE:g} s"
    except OSError as error:
        return f"does not start ({error.strerror})"
    said = (done.stderr or done.stdout).strip().splitlines()
    return "" if done.returncode == 0 else f"does not work ({said[-1].strip() if said else 'it says nothing'})"
