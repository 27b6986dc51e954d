"""Installing Label Studio, once, into a Python environment of its own: its packages and Ninefold's can't share one.

From a locked list with hashes, by uv where it is there, else by pip. An installation that broke off is begun anew.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from components.labeller.connection import folder
from ninefold.atomic import replace_file
from ninefold.errors import ConfigurationError, Unavailable
from ninefold.settings import Settings

LIST = Path(__file__).parents[2] / "requirements" / "label-studio.txt"
"""The locked list."""

_MARK = "installed"
_TELL_SECONDS = 10.0
_POLL_SECONDS = 0.2

Tell = Callable[[str], None]


def program(settings: Settings) -> Path:
    """Where Label Studio's program lies, or would lie."""
    return environment(settings) / "bin" / "label-studio"


def environment(settings: Settings) -> Path:
    """Label Studio's Python environment."""
    return settings.labelling.environment or settings.home / "label-studio" / "env"


def is_installed(settings: Settings) -> bool:
    """Whether it is there, whole, and of the list's versions; one that somebody else keeps only has to be there."""
    if settings.labelling.environment is not None:
        return program(settings).exists()
    mark = environment(settings) / _MARK
    return mark.exists() and LIST.exists() and mark.read_text() == _digest()


def ensure_installed(settings: Settings, tell: Tell) -> None:
    """Installs Label Studio unless it is there.

    Args:
        settings: Where it belongs.
        tell: Told what happens, in lines.

    Raises:
        ConfigurationError: Somebody else keeps the environment, and it is not there; or the list is missing.
        Unavailable: It can't be installed; the message ends with what the installer said.
    """
    if is_installed(settings):
        return
    if settings.labelling.environment is not None:
        raise ConfigurationError(
            f"There is no Label Studio in {settings.labelling.environment}.",
            remedy="Install it there, or unset NINEFOLD_LABELLING__ENVIRONMENT.",
        )
    if not LIST.exists():
        raise ConfigurationError(
            f"The list of Label Studio's packages, {LIST}, is missing.",
            remedy="Run this from a checkout of Ninefold, or name an environment: NINEFOLD_LABELLING__ENVIRONMENT.",
        )
    place, log = environment(settings), folder(settings) / "install.log"
    found = re.search(r"^label-studio==(\S+)", LIST.read_text(), re.MULTILINE)
    version = found[1] if found else "?"
    tell(f"Installing Label Studio {version} into {place}, once: about 800 MB, one to five minutes ...")
    began = time.monotonic()
    with log.open("wb"):
        pass
    _run(
        [sys.executable, "-m", "venv", "--clear", *([] if _uv() is None else ["--without-pip"]), str(place)], log, tell
    )
    python = place / "bin" / "python"
    uv = _uv()
    install = [str(python), "-m", "pip", "install", "--disable-pip-version-check"] if uv is None else [
        str(uv), "pip", "install", "--python", str(python),
    ]  # fmt: skip
    _run([*install, "--require-hashes", "--requirement", str(LIST)], log, tell)
    replace_file(place / _MARK, _digest().encode())
    tell(f"Installed in {time.monotonic() - began:.0f} s.")


def _uv() -> Path | None:
    path = Path(sys.executable).parent / "uv"
    return path if path.exists() else None


def _digest() -> str:
    """What an installation is of: the list, and the Python that it is for."""
    return hashlib.sha256(LIST.read_bytes() + repr(sys.version_info[:2]).encode()).hexdigest()


def _run(command: list[str], log: Path, tell: Tell) -> None:
    """Runs a part of the installation, and says now and then that it still goes on."""
    began = told = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while process.poll() is None:
                time.sleep(_POLL_SECONDS)
                if time.monotonic() - told >= _TELL_SECONDS:
                    told = time.monotonic()
                    tell(f"  still installing, {told - began:.0f} s ...")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        last = f" Its last line: {lines[-1][:300]}." if lines else ""
        raise Unavailable(
            f"Label Studio can't be installed: {Path(command[0]).name} ended with {process.returncode}.{last}",
            remedy=f"All of it is in {log}. The next start begins anew.",
        )
