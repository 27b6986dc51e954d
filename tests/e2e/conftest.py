"""One house on one cluster for all of these tests; what was seen is dumped when one of them fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

import client
import house as houses
from house import House
from state_dump import dump

_FAILED = pytest.StashKey[bool]()


def _tell(words: str) -> None:
    sys.stderr.write(f"e2e: {words}\n")


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[House]:
    """Overlay kind, up."""
    if not os.environ.get("KUBECONFIG"):
        pytest.fail("KUBECONFIG names no cluster. Set it and run again: make e2e KUBECONFIG=FILE")
    folder = tmp_path_factory.mktemp("e2e")
    found: House | None = None
    try:
        found = houses.bring_up(folder, _tell)
        client.start()
        for lack in found.lacking:
            _tell(f"this cluster lacks {lack}")
        yield found
    except BaseException:
        pytestconfig.stash[_FAILED] = True
        raise
    finally:
        if pytestconfig.stash.get(_FAILED, False):
            place = dump(Path(os.environ.get("E2E_DUMP", "e2e-failure")), (houses.NAMESPACE, client.NAMESPACE))
            _tell(f"what the cluster looked like lies in {place.absolute()}")
        if found is not None and found.kserve is not None:
            found.kserve.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Remembers that something failed, so that the end of the session dumps."""
    report = yield
    if report.failed:
        item.config.stash[_FAILED] = True
    return report
