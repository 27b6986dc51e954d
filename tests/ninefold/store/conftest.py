"""Every test of the store runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ninefold.store import Store, open_store


@pytest.fixture(scope="session")
def postgresql_server(beside: Callable[[str, Path], ModuleType]) -> Iterator[Any]:
    with beside("postgresql", Path(__file__).parents[2]).running() as server:
        yield server


@pytest.fixture(scope="session")
def _migrated(postgresql_server: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A migrated database of each kind, to copy: migrating one for each test would take most of the time."""
    urls = {"sqlite": f"sqlite:///{tmp_path_factory.mktemp('template') / 'store.db'}"}
    if not postgresql_server.skip:
        urls["postgresql"] = postgresql_server.new_database()
    for url in urls.values():
        open_store(url).close()
    return urls


@pytest.fixture
def postgresql_url(postgresql_server: Any, _migrated: dict[str, str]) -> Iterator[str]:
    """A database of a store on PostgreSQL, without records."""
    if postgresql_server.skip:
        pytest.skip(postgresql_server.skip)
    url = postgresql_server.new_database(like=_migrated["postgresql"])
    yield url
    postgresql_server.drop_database(url)


_BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(params=_BOTH)
def url(request: pytest.FixtureRequest, _migrated: dict[str, str], tmp_path: Path) -> str:
    """A database of a store, without records."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql_url"))
    shutil.copy(_migrated["sqlite"].removeprefix("sqlite:///"), tmp_path / "store.db")
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture(params=_BOTH)
def empty_url(request: pytest.FixtureRequest, postgresql_server: Any, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new' / 'store.db'}"
        return
    if postgresql_server.skip:
        pytest.skip(postgresql_server.skip)
    url = postgresql_server.new_database()
    yield url
    postgresql_server.drop_database(url)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An open store."""
    store = open_store(url)
    yield store
    store.close()
