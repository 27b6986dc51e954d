"""Every test of the store runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ninefold.store import Store, open_store


def _postgresql() -> Any:
    # By path: the tests are no package, and the root is not on the path.
    spec = importlib.util.spec_from_file_location("ninefold_tests_postgresql", Path(__file__).parents[2] / "postgresql.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Any]:
    with _postgresql().running() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: Any) -> Iterator[str]:
    """An empty database on PostgreSQL."""
    if postgresql_server.skip:
        pytest.skip(postgresql_server.skip)
    url = postgresql_server.new_database()
    yield url
    postgresql_server.drop_database(url)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return str(request.getfixturevalue("postgresql_url"))


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An open store."""
    store = open_store(url)
    yield store
    store.close()
