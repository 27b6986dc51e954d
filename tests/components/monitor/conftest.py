"""A made use case, importable as ``stalls``, and a store."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ninefold.settings import settings
from ninefold.store import Store, open_store


@pytest.fixture
def stalls(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    logging.getLogger("feast").setLevel(logging.ERROR)
    import stalls

    return stalls


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store(settings().store_url) as opened:
        yield opened
