"""The evaluator's steps from files to files: candidate and live version on one test set, decision and report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from components.evaluator.steps import decide_on, gather_evidence, package_and_evaluate_baseline, predict_test_set
from ninefold.dataset import write_dataset

REFERENCE = "evaluator_samples:RIDES"


@pytest.fixture
def sets(samples, tmp_path: Path) -> dict[str, str]:
    card = samples.card(samples.RIDES, REFERENCE)
    uris = {}
    for seed, part in enumerate(("training", "validation", "test")):
        uris[part] = str(tmp_path / f"{part}.parquet")
        write_dataset(uris[part], samples.rides(seed=seed), replace(card, part=part))
    return uris


def _judge(sets: dict[str, str], tmp_path: Path, live_test: str) -> tuple[dict[str, object], str]:
    """The baseline's package as candidate and as live version 3: the steps do not ask which kind a package is."""
    folder = str(tmp_path / "packages")
    digest, metrics = package_and_evaluate_baseline(sets["training"], sets["validation"], sets["test"], folder)
    assert metrics["mae"] > 0
    predictions, evidence = str(tmp_path / "predictions.json"), str(tmp_path / "evidence.json")
    live = (3, digest, str(Path(folder) / digest))
    predict_test_set(digest, folder, sets["test"], live, live_test, predictions)
    gather_evidence(REFERENCE, digest, folder, sets["test"], predictions, 3, evidence)
    report, summary = tmp_path / "report.html", tmp_path / "report.md"
    action = decide_on(REFERENCE, evidence, str(tmp_path / "decision.json"), str(report), str(summary))
    assert "<html" in report.read_text()
    assert summary.read_text().startswith("#")
    found: dict[str, object] = json.loads(Path(evidence).read_text())
    return found, action


def test_an_equal_candidate_is_not_released_over_the_live_version(sets: dict[str, str], tmp_path: Path) -> None:
    evidence, action = _judge(sets, tmp_path, sets["test"])
    assert evidence["incumbent_version"] == 3
    assert evidence["incumbent"] is not None
    assert action != "release"


def test_a_live_version_of_another_derive_is_not_asked(samples, sets: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "old"
    card = samples.card(samples.RIDES, REFERENCE)
    old = replace(card, signature=replace(card.signature, derive_digest="of another time"))
    for part in ("training", "validation"):
        write_dataset(str(folder / f"{part}.parquet"), samples.rides(seed=1), replace(old, part=part))
    live, _ = package_and_evaluate_baseline(
        str(folder / "training.parquet"), str(folder / "validation.parquet"), sets["test"], str(folder)
    )
    packages = str(tmp_path / "packages")
    digest, _ = package_and_evaluate_baseline(sets["training"], sets["validation"], sets["test"], packages)
    predictions, evidence = str(tmp_path / "predictions.json"), str(tmp_path / "evidence.json")
    predict_test_set(digest, packages, sets["test"], (3, live, str(folder / live)), sets["test"], predictions)
    gather_evidence(REFERENCE, digest, packages, sets["test"], predictions, 3, evidence)
    found = json.loads(Path(evidence).read_text())
    assert (found["incumbent_version"], found["unserved_version"], found["incumbent"]) == (None, 3, None)


def test_a_live_version_may_take_fewer_inputs_than_the_candidate(samples, sets: dict[str, str], tmp_path: Path) -> None:
    card = samples.card(samples.RIDES, REFERENCE)
    fewer = replace(card, signature=replace(card.signature, inputs=card.signature.inputs[:1]))
    for part in ("training", "validation"):
        frame = samples.rides(seed=1).drop(f"input.{card.signature.inputs[1].name}")
        write_dataset(str(tmp_path / "old" / f"{part}.parquet"), frame, replace(fewer, part=part))
    folder = tmp_path / "old"
    live, _ = package_and_evaluate_baseline(
        str(folder / "training.parquet"), str(folder / "validation.parquet"), sets["test"], str(folder)
    )
    packages, predictions = str(tmp_path / "packages"), tmp_path / "predictions.json"
    digest, _ = package_and_evaluate_baseline(sets["training"], sets["validation"], sets["test"], packages)
    live_is = (3, live, str(folder / live))
    predict_test_set(digest, packages, sets["test"], live_is, sets["test"], str(predictions))
    found = json.loads(predictions.read_text())
    assert found["live"]["predictions"] == found["candidate"]["predictions"]
    assert found["live"]["latency"]["p99_ms"] > 0
