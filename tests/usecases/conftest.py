"""Histories are read once a session: they are only looked at."""

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ninefold.dataset import to_numpy
from ninefold.fields import Columns
from ninefold.loading import load_object, load_use_case
from ninefold.usecase import History, UseCase


@pytest.fixture(scope="session")
def use_cases() -> Iterator[Callable[[str], UseCase]]:
    """Loads a use case by name or path; the text use case of this folder among them."""
    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)
    yield load_use_case
    sys.path.remove(folder)


@pytest.fixture(scope="session")
def history(use_cases: Callable[[str], UseCase]) -> Callable[[str], History]:
    """The extracted history of a use case."""

    @functools.cache
    def extracted(name: str) -> History:
        found = load_object(use_cases(name).extract)()
        assert isinstance(found, History)
        return found

    return extracted


@pytest.fixture(scope="session")
def sample(use_cases: Callable[[str], UseCase], history: Callable[[str], History]) -> Callable[[str], Columns]:
    """300 real requests with features drawn from the views, a quarter of them missing; windows from a normal."""

    @functools.cache
    def columns(name: str) -> Columns:
        use_case, rows = use_cases(name), 300
        random = np.random.default_rng(5)
        requests = history(name).requests.sample(rows, seed=5)
        found: dict[str, Any] = {f.name: to_numpy(requests[f.name]) for f in use_case.request}
        for view in use_case.feature_views():
            for feature, column, kind in zip(view.features, view.columns, view.kinds, strict=True):
                if view.source == "batch":
                    pool = to_numpy(history(name).views[view.view][column].drop_nulls())
                    values = random.choice(pool, rows)
                else:
                    values = random.normal(size=rows).round(2)
                found[feature] = np.where(random.random(rows) < 0.25, missing(kind), values)
        return found

    return columns


def missing(kind: str) -> Any:
    """What stands for a missing value of a kind in its numpy column."""
    return None if kind in ("category", "text") else np.nan
