"""Loading a use case by its name, and whatever else is named by an import path."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from typing import Any

from ninefold.errors import ConfigurationError, UnknownUseCase
from ninefold.usecase import UseCase


def load_object(path: str, *, what: str = "object") -> Any:
    """Loads ``package.module:name``.

    Raises:
        ConfigurationError: The path leads nowhere; the message names the part that is missing.
    """
    module_name, _, attribute = path.partition(":")
    if not attribute:
        raise ConfigurationError(f"{what} {path!r} is no import path.", remedy="Write it as package.module:name.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{what} {path!r} needs the module {error.name!r}, which is not installed.",
            remedy="Install it, or name the folder that holds it in PYTHONPATH.",
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise ConfigurationError(f"{what} {path!r}: {module_name} has no {attribute!r}.") from error


@functools.lru_cache
def load_use_case(name: str) -> UseCase:
    """Loads a use case by the name of its folder (``arrivals``) or by import path (``team.fraud:USE_CASE``).

    Raises:
        UnknownUseCase: No such folder or path.
        ConfigurationError: It is there and breaks the contract.
    """
    if ":" in name:
        found = load_object(name, what="use case")
    else:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name):
            raise UnknownUseCase(f"{name!r} is not the name of a use case.", remedy=_known())
        try:
            module = importlib.import_module(f"usecases.{name}")
        except ModuleNotFoundError as error:
            if error.name not in ("usecases", f"usecases.{name}"):
                raise
            raise UnknownUseCase(f"There is no use case {name!r}.", remedy=_known()) from error
        found = getattr(module, "USE_CASE", None)
    if not isinstance(found, UseCase):
        raise ConfigurationError(f"Use case {name!r}: what was found is a {type(found).__name__}, not a UseCase.")
    return found


def known_use_cases() -> tuple[str, ...]:
    """Names of the folders in ``usecases``: the installed ones, and those in the folder that the settings name."""
    try:
        package = importlib.import_module("usecases")
    except ModuleNotFoundError:
        return ()
    return tuple(sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.ispkg))


def _known() -> str:
    return f"There are {', '.join(known_use_cases()) or 'none'}; or give an import path such as team.fraud:USE_CASE."
