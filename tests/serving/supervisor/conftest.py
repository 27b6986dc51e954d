"""Makes the helpers beside the tests importable; a home of its own, and a store with a baseline in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ninefold.settings import Gateway, Ports, Settings
from ninefold.store import Store, open_store

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))

from children import free_port


@pytest.fixture
def configuration(tmp_path: Path) -> Settings:
    ports = Ports(
        front_end=free_port(), collector=free_port(), models_from=free_port(), gateway=free_port(),
        gateway_inner=free_port(),
    )  # fmt: skip
    return Settings(home=tmp_path / "home", ports=ports, gateway=Gateway(use="never"))


@pytest.fixture
def with_gateway(configuration: Settings) -> Settings:
    return configuration.model_copy(update={"gateway": Gateway(use="always")})


@pytest.fixture
def store(configuration: Settings) -> Iterator[Store]:
    configuration.home.mkdir()
    opened = open_store(configuration.store_url)
    opened.register_version("arrivals", "d0", "/models/d0", version=0)
    yield opened
    opened.close()
