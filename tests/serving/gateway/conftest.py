"""Makes the helpers beside the tests importable; one Envoy and its tiny models for the tests that break neither."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "front_end"))

from gateway_house import Running, running, table, tiny_model


@pytest.fixture(scope="session")
def models() -> Iterator[dict[int, str]]:
    """Addresses of the versions 0, 1 and 2."""
    with ExitStack() as stack:
        yield {version: stack.enter_context(tiny_model(f"v{version}"))[0] for version in range(3)}


@pytest.fixture(scope="module")
def up(models: dict[int, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("gateway"), table(models)) as started:
        yield started
