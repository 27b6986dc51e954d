"""A store on either database, with a live version 1 and a candidate 2 of parcels."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ninefold.clock import EventClock
from ninefold.store import Store, open_store

if str(Path(__file__).parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).parent))

from rollout_house import POLICY, START, Production, register

Furnish = Callable[[str, Path], tuple[Store, Production]]


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Any]:
    # By path: the tests are no package, and the root is not on the path.
    path = Path(__file__).parents[2] / "postgresql.py"
    spec = importlib.util.spec_from_file_location("ninefold_rollout_postgresql", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    with module.running() as server:
        yield server


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def both_urls(request: pytest.FixtureRequest, sqlite_url: str) -> Iterator[str]:
    """The same store on SQLite, then on PostgreSQL."""
    if request.param == "sqlite":
        yield sqlite_url
        return
    server = request.getfixturevalue("postgresql_server")
    if server.skip:
        pytest.skip(server.skip)
    url = server.new_database()
    yield url
    server.drop_database(url)


def _furnish(url: str, folder: Path) -> tuple[Store, Production]:
    clock = EventClock(START)
    store = open_store(url, clock=clock)
    for number in (1, 2, 3):
        register(store, folder, number)
    store.set_state("parcels", 1, "live")
    store.open_rollout(
        "parcels", incumbent=1, candidate=2, policy=POLICY.to_json(), actor="release", reason="gate", salt="r2"
    )
    return store, Production(store, clock, {1: 2.0, 2: 1.6, 3: 1.2})


@pytest.fixture
def furnish() -> Furnish:
    """Makes a store and its production anew."""
    return _furnish


@pytest.fixture
def production(sqlite_url: str, tmp_path: Path) -> Iterator[Production]:
    store, made = _furnish(sqlite_url, tmp_path)
    with store:
        yield made


@pytest.fixture
def production_on_both(both_urls: str, tmp_path: Path) -> Iterator[Production]:
    store, made = _furnish(both_urls, tmp_path)
    with store:
        yield made
