from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def rides(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The small use case that the feature repository's tests use too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "feature_repo"))
    logging.getLogger("feast").setLevel(logging.ERROR)
    import rides

    return rides
