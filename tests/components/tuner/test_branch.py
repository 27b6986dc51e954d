"""Branches on real data: equal to the ordinary way, apart from each other, and within their time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import polars as pl
import pytest

from components.collector.extract import extract
from components.featurizer.candidates import features_at_lengths
from components.featurizer.steps import featurize_parts, requests_and_truths, settings_on
from components.preparer.steps import prepare_parts, split_snapshot
from components.tuner.data import write_choice, write_features
from components.tuner.outcome import OUTCOME
from components.tuner.steps import choose_lengths, plan, read_outcomes, search_branch, search_further
from components.tuner.task import PATIENCE, Features
from ninefold.dataset import PARTS, read_dataset
from ninefold.errors import DataError
from ninefold.loading import load_use_case
from ninefold.package import verify_package
from ninefold.settings import settings
from ninefold.store import open_store

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own, of its dependencies.

HERE = Path(__file__).parent
NAME = "harbour:USE_CASE"
UNTIL = "2024-03-30"
DECLARED, RIGHT, WRONG = {"wind": "1h", "calm": "2h"}, {"wind": "3h", "calm": "6h"}, {"wind": "12h", "calm": "2h"}


@dataclass(frozen=True)
class Harbour:
    """The harbour's snapshot, divided, and its features at three choices of lengths."""

    snapshot: Path
    parts: Mapping[str, str]
    features: Features

    def ordinary(self, lengths: dict[str, str], folder: Path) -> dict[str, str]:
        """The sets as training makes them."""
        raw = {name: str(folder / f"raw-{name}") for name in (*PARTS, "live_test")}
        featurize_parts(NAME, lengths, {}, str(self.snapshot), self.parts, raw)
        done = {name: str(folder / name) for name in (*PARTS, "report")}
        prepare_parts(NAME, raw, self.features.notes, done)
        return done


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Harbour:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        folder = tmp_path_factory.mktemp("harbour")
        with open_store(f"sqlite:///{folder / 'store.db'}") as store:
            extract(load_use_case(NAME), store, folder / "snapshot")
        parts = {name: str(folder / f"{name}.parquet") for name in PARTS}
        notes = str(folder / "notes")
        split_snapshot(NAME, UNTIL, str(folder / "snapshot"), {**parts, "notes": notes})
        features = str(folder / "features.parquet")
        write_features(NAME, [DECLARED, RIGHT, WRONG], str(folder / "snapshot"), parts, features)
        return Harbour(folder / "snapshot", parts, Features(use_case=NAME, parts=parts, features=features, notes=notes))


@pytest.fixture(autouse=True)
def _findable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def branch(number: int, lengths: dict[str, str], seconds: float = 12.0) -> dict[str, object]:
    # As Kubeflow Pipelines hands it over: whole numbers have become floats.
    return {"number": float(number), "lengths": lengths, "seconds": seconds}


@pytest.mark.parametrize("lengths", [DECLARED, RIGHT, WRONG])
def test_the_sets_of_a_choice_are_those_that_training_makes_at_its_lengths(
    harbour: Harbour, lengths: dict[str, str], tmp_path: Path
) -> None:
    done = harbour.ordinary(lengths, tmp_path)
    for uri, name in zip(write_choice(harbour.features, lengths, tmp_path), PARTS, strict=False):
        (frame, card), (expected, ordinary) = read_dataset(uri), read_dataset(done[name])
        assert frame.equals(expected)
        assert card.signature == ordinary.signature


def test_a_window_is_computed_once_at_each_length_and_nothing_is_registered(harbour: Harbour, tmp_path: Path) -> None:
    columns = pl.read_parquet_schema(harbour.features.features)
    assert sorted(columns) == [
        "feature.calm__count@2h", "feature.calm__count@6h", "feature.wind__mean@12h", "feature.wind__mean@1h",
        "feature.wind__mean@3h",
    ]  # fmt: skip
    use_case = load_use_case(NAME)
    requests, _ = requests_and_truths(use_case, pl.read_parquet(harbour.parts["test"]))
    scratch = settings_on(use_case, harbour.snapshot, tmp_path)
    for left_by_another_test in (harbour.snapshot / "windows").glob("*.parquet"):
        left_by_another_test.unlink()
    features_at_lengths(use_case, requests, [WRONG], scratch)
    assert not (settings().home / "feast").exists()
    # Other lengths than the declared ones leave no changelog either.
    assert sorted(p.stem for p in (harbour.snapshot / "windows").glob("*.parquet")) == ["calm_2h", "wind_1h"]
    with pytest.raises(DataError, match=r"Not computed at the wanted length: feature\.wind__mean@2d"):
        write_choice(harbour.features, {"wind": "2d"}, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_better_lengths_win_by_validation_and_their_package_has_them(harbour: Harbour, tmp_path: Path) -> None:
    folders = [str(tmp_path / f"b{number}") for number in range(3)]
    for number, lengths in enumerate((DECLARED, RIGHT, WRONG)):
        started = monotonic()
        outcome = search_branch(branch(number, lengths), 0, harbour.features, folders[number])
        assert outcome.error is None, outcome.error
        assert outcome.seconds <= monotonic() - started
        assert outcome.seconds < 2 * 12.0 + PATIENCE
    chosen = choose_lengths(folders, 120.0)
    took = sum(outcome.seconds for outcome in read_outcomes(folders).values())
    assert chosen["lengths"] == RIGHT
    assert chosen["seconds"] == pytest.approx(120.0 - took, abs=0.2)
    sets = harbour.ordinary(RIGHT, tmp_path)
    files = {name: str(tmp_path / name) for name in ("package", "tuning", "table")}
    digest, values = search_further(
        folders=folders, seconds=10.0, seed=0, training=sets["training"], validation=sets["validation"], **files
    )
    manifest = verify_package(Path(files["package"]) / digest, digest)
    assert manifest.training["lengths"] == RIGHT
    assert [p.name for p in Path(files["package"]).iterdir() if p.is_dir()] == [digest]
    document = json.loads(Path(files["tuning"]).read_text())
    best = min(one["value"] for one in (*document["branches"], document["last"]) if one["value"] is not None)
    assert document["winner"]["value"] == best == values["validation mae"] == manifest.training["metric"]["validation"]
    assert document["declared"] > 1.1 * best
    sets = harbour.ordinary(WRONG, tmp_path)
    with pytest.raises(DataError, match="other window lengths"):
        search_further(
            folders=folders, seconds=10.0, seed=0, training=sets["training"], validation=sets["validation"], **files
        )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_branch_that_fails_or_dies_is_an_outcome_and_the_others_go_on(
    harbour: Harbour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [str(tmp_path / f"b{number}") for number in range(3)]
    missing = search_branch(branch(0, {"wind": "2d"}), 0, harbour.features, folders[0])
    assert "Not computed at the wanted length" in str(missing.error)
    monkeypatch.setenv("HARBOUR_DERIVE", "dies")
    died = search_branch(branch(1, RIGHT), 0, harbour.features, folders[1])
    assert died.error == "The search was killed by signal 9."
    with pytest.raises(
        DataError, match=r"All 2 branches failed\. wind 2d: .*; wind 3h, calm 6h: The search was killed"
    ):
        choose_lengths(folders[:2], 120.0)
    monkeypatch.delenv("HARBOUR_DERIVE")
    assert search_branch(branch(2, WRONG), 0, harbour.features, folders[2]).error is None
    assert choose_lengths(folders, 120.0)["lengths"] == WRONG
    sets = harbour.ordinary(WRONG, tmp_path)
    files = {name: str(tmp_path / name) for name in ("package", "tuning", "table")}
    # The search that follows has sets that it can't read: the branch's package is kept.
    Path(sets["validation"]).write_bytes(b"")
    digest, _ = search_further(
        folders=folders, seconds=10.0, seed=0, training=sets["training"], validation=sets["validation"], **files
    )
    document = json.loads(Path(files["tuning"]).read_text())
    assert (document["failed"], document["last"]["error"] is not None) == (2, True)
    assert verify_package(Path(files["package"]) / digest, digest).training["lengths"] == WRONG
    assert (Path(folders[1]) / OUTCOME).exists()


def test_the_plan_is_items_of_a_loop_with_the_declared_lengths_first() -> None:
    items = plan(NAME, 3, 120.0, 0)
    assert items[0]["lengths"] == DECLARED
    assert [item["seconds"] for item in items] == [20.0] * 3
    assert json.loads(json.dumps(items)) == items
