"""What users say moves no gate; probabilities are held to what they say; gains have intervals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from components.evaluator.calibration import expected_by_chance
from components.evaluator.distribution import ScoreDistribution
from components.evaluator.evaluation import evaluate
from components.evaluator.gate import gate
from components.evaluator.steps import decide_on, gather_evidence, package_and_evaluate_baseline, predict_test_set
from components.evaluator.testset import read_test_set
from ninefold.dataset import write_dataset
from ninefold.truths import SOURCES
from ninefold.usecase import Gates

REFERENCE = "evaluator_samples:RIDES"


def _judged(samples: Any, folder: Path, said: pl.DataFrame) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Evidence, decision and summary with what users say in the test set."""
    card, uris = samples.card(samples.RIDES, REFERENCE), {}
    for seed, part in enumerate(("training", "validation", "test")):
        own = samples.rides(seed=seed).with_columns(truth_source=pl.lit("system"))
        uris[part] = str(folder / f"{part}.parquet")
        frame = pl.concat([own, said]) if part == "test" else own
        write_dataset(uris[part], frame, replace(card, part=part))
    packages = str(folder / "packages")
    digest, _ = package_and_evaluate_baseline(uris["training"], uris["validation"], uris["test"], packages)
    predictions, evidence = str(folder / "predictions.json"), str(folder / "evidence.json")
    predict_test_set(digest, packages, uris["test"], (-1, "", ""), uris["test"], predictions)
    gather_evidence(REFERENCE, digest, packages, uris["test"], predictions, -1, evidence)
    decide_on(REFERENCE, evidence, str(folder / "decision.json"), str(folder / "r.html"), str(folder / "r.md"))
    found, decided = (json.loads((folder / f"{name}.json").read_text()) for name in ("evidence", "decision"))
    for model in ("baseline", "candidate"):
        found[model].pop("latency")
    decided["reasons"] = [check for check in decided["reasons"] if check["name"] != "latency"]
    return found, decided, (folder / "r.md").read_text()


def test_no_number_that_the_gate_decides_by_moves_whatever_users_say(samples: Any, tmp_path: Path) -> None:
    ours = samples.rides(seed=7, days=60).with_columns(truth_source=pl.lit("user"))
    said = ours.with_columns(key="u" + pl.col("key"), truth=pl.col("baseline") + 0.01)
    (tmp_path / "clean").mkdir()
    (tmp_path / "said").mkdir()
    clean, clean_decision, _ = _judged(samples, tmp_path / "clean", said.clear())
    found, decision, summary = _judged(samples, tmp_path / "said", said)
    sources = {one["source"]: one for one in found.pop("sources")}
    assert [one["source"] for one in clean.pop("sources")] == ["system"]
    assert found == clean
    assert decision["reasons"] == clean_decision["reasons"]
    assert sources["user"]["rows"] == len(said) > len(read_test_set(str(tmp_path / "said" / "test.parquet")))
    assert sources["user"]["values"]["candidate"] == pytest.approx(0.01, abs=0.02)
    assert "By who told the truth" in summary


def test_a_test_set_gives_users_rows_to_who_asks_for_them_alone(samples: Any, tmp_path: Path) -> None:
    frame = samples.rides().with_columns(truth_source=pl.Series(["user", "labeller", "system", None] * 250))
    path = str(tmp_path / "test.parquet")
    write_dataset(path, frame, samples.card(samples.RIDES, REFERENCE))
    assert len(read_test_set(path)) == 750
    assert len(read_test_set(path, SOURCES)) == 1_000
    assert set(read_test_set(path).sources) == {"labeller", "system"}


@pytest.mark.parametrize(
    ("rows", "sharpened", "outcome"), [(20_000, 1.0, "passed"), (20_000, 3.0, "failed"), (60, 1.0, "unknown")]
)
def test_probabilities_that_do_not_come_true_are_refused_and_too_few_rows_show_nothing(
    samples: Any, rows: int, sharpened: float, outcome: str
) -> None:
    rng = np.random.default_rng(3)
    chance = rng.uniform(0.02, 0.98, rows)
    truth = (rng.uniform(size=rows) < chance).astype(float)
    odds = (chance / (1 - chance)) ** sharpened
    keys = np.array([f"c{n}" for n in range(rows)], dtype=object)
    request = {"customer": keys, "senior": np.zeros(rows)}
    judged = evaluate(samples.CHURN, request, truth, odds / (1 + odds), blocks=keys, version=None)
    evidence = _evidence(samples, judged)
    (check,) = [c for c in gate(Gates(max_calibration_error=0.03), evidence).reasons if c.name == "calibration"]
    assert check.outcome == outcome, check.words
    assert all(c.name != "calibration" for c in gate(Gates(), evidence).reasons)


def _evidence(samples: Any, judged: Any) -> Any:
    from components.evaluator.evidence import Evidence

    return Evidence(
        baseline=None, incumbent=None, candidate=judged, incumbent_version=None, against_baseline=None,
        against_incumbent=None,
    )  # fmt: skip


def test_exact_probabilities_show_about_the_error_that_chance_is_said_to_make() -> None:
    rng = np.random.default_rng(5)
    found, expected = [], []
    for _ in range(200):
        chance = rng.uniform(size=400)
        spread = ScoreDistribution.of((rng.uniform(size=400) < chance).astype(float), chance)
        found.append(sum(rows / 400 * abs(p - share) for rows, p, share in spread.calibration if rows))
        expected.append(expected_by_chance(spread))
    assert np.mean(expected) == pytest.approx(np.mean(found), rel=0.1)


def test_gains_have_an_interval_that_holds_the_truth_as_often_as_it_says(samples: Any) -> None:
    rng = np.random.default_rng(11)
    inside = 0
    for _ in range(100):
        days = rng.integers(0, 40, 400)
        kept = rng.uniform(size=400) < 0.7
        truth, days = np.where(kept, 0.0, 10.0), days.astype(str).astype(object)
        request = {"zone": np.full(400, "north", dtype=object), "distance": np.ones(400)}
        judged = evaluate(samples.RIDES, request, truth, np.zeros(400), blocks=days, version=None, sure_of_gains=True)
        gain = judged.gains["promises_kept"]
        assert gain.value == pytest.approx(judged.application["promises_kept"])
        inside += gain.low <= 0.7 <= gain.high
    assert 88 <= inside <= 100
    assert evaluate(samples.RIDES, request, truth, np.zeros(400), blocks=days, version=None).gains == {}
