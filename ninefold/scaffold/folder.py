"""The folder: whether it can be made, and making it whole or not at all."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from ninefold.errors import UsageError
from ninefold.loading import known_use_cases, load_object, load_use_case
from ninefold.settings import Settings
from ninefold.usecase import History


def check_free(name: str, settings: Settings) -> Path:
    """Where a use case's folder goes.

    Raises:
        UsageError: The name is none, or taken.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name) or "__" in name:
        raise UsageError(
            f"{name!r} is no name for a use case.", remedy="Use lower-case letters, digits and single underscores."
        )
    folder = settings.usecases / name
    if name in known_use_cases() or folder.exists():
        raise UsageError(f"There is a use case {name} already.", remedy=f"Take another name, or remove {folder}.")
    return folder


def write_folder(folder: Path, files: Mapping[str, str], name: str) -> History:
    """Writes the files, loads the use case, and extracts its history once: what does not work is not left behind.

    Args:
        folder: Does not exist.
        files: File name → text.
        name: Of the use case.

    Returns:
        The history.

    Raises:
        NinefoldError: The table breaks what was just declared; the message names the row.
    """
    folder.mkdir(parents=True)
    try:
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        declared = load_use_case(name)
        history: History = load_object(declared.extract, what="extract")()
    except BaseException:
        shutil.rmtree(folder)
        for module in [m for m in sys.modules if m == f"usecases.{name}" or m.startswith(f"usecases.{name}.")]:
            del sys.modules[module]
        load_use_case.cache_clear()
        raise
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    return history
