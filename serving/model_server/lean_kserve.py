"""Importing KServe without its Kubernetes client, which a server never uses and which takes a third of its start."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

_CLIENT = "kserve.api.kserve_client"


def import_kserve() -> None:
    """Imports ``kserve`` for serving; ``kserve.KServeClient`` is None after it. Does nothing when it is imported."""
    if "kserve" in sys.modules:
        return
    placeholder = ModuleType(_CLIENT)
    placeholder.KServeClient = None  # type: ignore[attr-defined]
    sys.modules[_CLIENT] = placeholder
    try:
        importlib.import_module("kserve")
    finally:
        # Whoever asks for the client by its own name gets the real one.
        del sys.modules[_CLIENT]
