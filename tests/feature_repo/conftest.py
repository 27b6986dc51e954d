from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def rides(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The small use case of these tests, importable as ``rides`` here and in child processes."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    logging.getLogger("feast").setLevel(logging.ERROR)
    import rides

    return rides
