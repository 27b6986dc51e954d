"""What checks the manifests is no installed package: its folder is found from the root."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

Built = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Builds an overlay, with components; each once. Skips where nothing builds kustomizations."""
    from manifests.check.build import Combination, NoKustomize, build, copied, kustomize

    try:
        command = kustomize()
    except NoKustomize as error:
        pytest.skip(str(error))
    folder = copied(tmp_path_factory.mktemp("manifests"))
    known: dict[Combination, list[dict[str, Any]]] = {}

    def one(overlay: str, *components: str) -> list[dict[str, Any]]:
        combination = Combination(overlay, components)
        if combination not in known:
            try:
                known[combination] = build(folder, combination, command)
            except subprocess.CalledProcessError as error:
                pytest.fail(f"{combination} does not build: {error.stderr}")
        return known[combination]

    return one


@pytest.fixture(scope="session")
def cluster_module(beside: Callable[[str, Path], ModuleType]) -> ModuleType:
    """How tests get a namespace on a cluster."""
    return beside("cluster", ROOT / "tests")


@pytest.fixture
def cluster(cluster_module: ModuleType, tmp_path: Path) -> Iterator[Any]:
    """A namespace of this test's own on the given cluster."""
    with cluster_module.namespace(tmp_path) as found:
        yield found
