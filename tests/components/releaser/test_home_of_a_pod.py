"""A step in a pod of its own finds its history in what came with the run, not in a home that it shares."""

import sys
from pathlib import Path

import pytest

from components.collector.extract import bring_history, extract
from components.featurizer.materialize import read_batch_views
from components.releaser.steps import bring_snapshot
from ninefold.errors import DataError
from ninefold.loading import load_use_case
from ninefold.settings import settings
from ninefold.store import open_store

sys.path.append(str(Path(__file__).parents[1] / "collector"))
import tiny_use_case

NAME = "tiny_use_case:USE_CASE"


@pytest.fixture(autouse=True)
def _history() -> None:
    tiny_use_case.HISTORY["history"] = tiny_use_case.history()


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    with open_store(settings().store_url) as store:
        extract(load_use_case(NAME), store, tmp_path / "snapshot")
    return tmp_path / "snapshot"


def test_a_release_in_a_pod_reads_the_snapshot_of_its_run(snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NINEFOLD_ENVIRONMENT", "cluster")
    settings.cache_clear()
    bring_snapshot(NAME, snapshot)
    (rows,) = read_batch_views(load_use_case(NAME), settings())
    assert rows.view == "depots"


def test_on_one_machine_the_history_in_the_home_stays(snapshot: Path) -> None:
    bring_snapshot(NAME, snapshot)
    with pytest.raises(DataError, match="can't be read"):
        read_batch_views(load_use_case(NAME), settings())
    bring_history(load_use_case(NAME), settings())
    assert len(read_batch_views(load_use_case(NAME), settings())) == 1
