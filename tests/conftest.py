"""Every test has a home of its own, and children find the project's import roots."""

import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

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


def _beside(name: str, folder: Path = Path(__file__).parent) -> ModuleType:
    """A module of a folder, by path: the tests are no package, and the root is not on the path."""
    known = f"ninefold_{folder.name}_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[known] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[known]


@pytest.fixture(scope="session")
def beside() -> Callable[[str, Path], ModuleType]:
    """A module of another folder of the tests: its name and the folder."""
    return _beside


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Any]:
    """A PostgreSQL that may make databases; skips where there is none."""
    with _beside("postgresql").running() as server:
        if server.skip:
            pytest.skip(server.skip)
        yield server


@pytest.fixture
def new_postgresql_url(postgresql_server: Any) -> Iterator[str]:
    """An empty database of it."""
    url = postgresql_server.new_database()
    yield url
    postgresql_server.drop_database(url)


@pytest.fixture
def own_postgresql() -> Iterator[Any]:
    """A PostgreSQL of the test's own, which it may kill and start again."""
    with _beside("postgresql").running(own=True) as server:
        if server.skip:
            pytest.skip(server.skip)
        yield server


@pytest.fixture(scope="session")
def redis_module() -> Any:
    """How tests start a Redis of their own; skips where there is none."""
    module = _beside("redis_server")
    if reason := module.missing():
        pytest.skip(reason)
    return module


@pytest.fixture(scope="session")
def redis_server(redis_module: Any) -> Iterator[Any]:
    """A Redis that all tests share."""
    with redis_module.running() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: Any) -> str:
    """A database of it, empty."""
    redis_server.ask("FLUSHALL")
    redis_server.ask("SCRIPT", "FLUSH")
    return str(redis_server.url)


@pytest.fixture(scope="session")
def reviews_package(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real package of texts (``reviews_package.Reviews``), trained on few of them."""
    return _beside("reviews_package").make(tmp_path_factory.mktemp("reviews"), rows=1_500)


@pytest.fixture
def reviews_trained(tmp_path: Path) -> Any:
    """Trains and packages reviews: ``reviews_package.make`` without its folder."""
    return functools.partial(_beside("reviews_package").make, tmp_path)


@pytest.fixture(scope="session")
def deliveries_package(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real package with intervals (``deliveries_package.Deliveries``)."""
    return _beside("deliveries_package").make(tmp_path_factory.mktemp("deliveries"))
