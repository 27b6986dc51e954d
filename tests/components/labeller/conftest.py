"""A store with predictions of reviews, and a stand-in for Label Studio."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ninefold.records import Prediction
from ninefold.settings import settings
from ninefold.store import Store, open_store

NOW = datetime(2026, 3, 1, tzinfo=UTC)


HERE = Path(__file__).parent
Beside = Callable[[str, Path], ModuleType]


def reviews(count: int) -> list[Prediction]:
    """Answers to so many reviews, the first of which the model is most unsure of."""
    return [
        Prediction(
            prediction_id=f"p{i}", use_case="reviews", request_id=None, key=f"r{i:03}",
            decided_at=NOW + timedelta(minutes=i), received_at=NOW, version=1, cohort="live",
            request={"input": f"Review {i} of the tea.", "review_id": f"r{i:03}"}, features={},
            value=0.5 + 0.4 * i / count,
        )
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="session")
def _filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store to copy: migrating one for each test would take most of the time."""
    path = tmp_path_factory.mktemp("filled") / "store.db"
    with open_store(f"sqlite:///{path}") as opened:
        opened.write_predictions(reviews(250))
    return path


@pytest.fixture
def store(_filled: Path) -> Iterator[Store]:
    shutil.copy(_filled, settings().home / "store.db")
    with open_store(settings().store_url) as opened:
        yield opened


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch, beside: Beside) -> Iterator[Any]:
    """A stand-in for Label Studio, which the settings name."""
    module = beside("standin", HERE)
    with module.stand_in() as running:
        monkeypatch.setenv("NINEFOLD_LABELLING__URL", running.url)
        monkeypatch.setenv("NINEFOLD_LABELLING__TOKEN", module.TOKEN)
        settings.cache_clear()
        yield running


@pytest.fixture
def browsing(beside: Beside) -> Any:
    """The module ``browser``."""
    return beside("browser", HERE)
