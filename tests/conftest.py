"""Every test has a home of its own, and children find the project's import roots."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["PYTHONSAFEPATH"] = "1"


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from ninefold.settings import settings

    home: Path = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("NINEFOLD_HOME", str(home))
    settings.cache_clear()
    yield
    settings.cache_clear()
