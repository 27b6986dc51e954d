"""Reports: what they say, in Markdown and as one page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from components.evaluator.evidence import Answers, Evidence, gather
from components.evaluator.gate import GateDecision, gate
from components.evaluator.latency import Latency
from components.evaluator.report import to_html, to_markdown, write_report
from components.evaluator.testset import TestSet, read_test_set
from ninefold.dataset import write_dataset
from ninefold.signature import InputStatistics

FAST = Latency(p50_ms=0.02, p99_ms=0.05, rows_per_second=1e6, calls=1000)


@pytest.fixture
def test_set(samples, tmp_path) -> TestSet:
    card = samples.card(samples.RIDES, "x").with_notes(split={"dropped": {"truth not known in time": 87}})
    write_dataset(str(tmp_path / "t.parquet"), samples.rides(), card)
    return read_test_set(str(tmp_path / "t.parquet"))


def _decided(samples, test: TestSet, skill: float) -> tuple[Evidence, GateDecision]:
    def answers(version: int | None, share: float) -> Answers:
        return Answers(version=version, prediction=test.baseline + share * (test.truth - test.baseline), latency=FAST)

    nulls = {name: InputStatistics(null_share=0.0) for name in ("distance", "zone")}
    evidence = gather(
        samples.RIDES, test, candidate=answers(None, skill), incumbent=answers(3, 0.4), incumbent_version=3,
        statistics=nulls, parity=True,
    )  # fmt: skip
    return evidence, gate(samples.RIDES.gates, evidence)


def test_a_report_says_what_was_decided_why_and_on_what(samples, test_set) -> None:
    evidence, decision = _decided(samples, test_set, 0.5)
    text = to_markdown(samples.RIDES, evidence, decision)
    assert text.startswith("# How long a ride takes\n\n**Release: all 9 checks passed.**")
    for check in decision.reasons:
        assert "- ✓" in text
        assert check.words.split(":")[0].replace("_", "\\_") in text
    assert "| | Baseline | Incumbent (version 3) | Candidate |" in text.replace("|  |", "| |")
    assert "Promises kept" in text
    assert "split · dropped · truth not known in time | 87 |" in text
    assert "zone = tiny | 10 (small)" in text
    assert "(errors.svg)" not in text


def test_a_rejection_says_by_how_much(samples, test_set) -> None:
    evidence, decision = _decided(samples, test_set, -0.2)
    page = to_html(samples.RIDES, evidence, decision)
    assert '<p class="decision reject"><b>REJECT</b>' in page
    assert "20.0% worse" in page


def test_the_page_is_self_contained_and_well_formed(samples, test_set, tmp_path) -> None:
    evidence, decision = _decided(samples, test_set, 0.5)
    page = write_report(tmp_path / "report", samples.RIDES, evidence, decision)
    text = page.read_text()
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert text.count("data:image/svg+xml") == 3
    for name in ("errors", "blocks", "slices"):
        ET.parse(tmp_path / "report" / f"{name}.svg")
        assert f"({name}.svg)" in (tmp_path / "report" / "report.md").read_text()
    assert write_report(tmp_path / "again", samples.RIDES, evidence, decision).read_text() == text


def test_labels_from_data_cannot_break_a_page_or_a_table(samples, test_set) -> None:
    import dataclasses

    zone = np.where(np.arange(len(test_set)) % 2, '<script>alert("1")</script>', "a|b*c")
    evil = dataclasses.replace(test_set, request={**test_set.request, "zone": zone.astype(object)})
    evidence, decision = _decided(samples, evil, 0.5)
    assert "<script" not in to_html(samples.RIDES, evidence, decision)
    text = to_markdown(samples.RIDES, evidence, decision)
    assert "<script" not in text.replace("\\<", "")
    assert "a\\|b\\*c" in text


def test_a_classification_shows_calibration_and_confusion(samples, tmp_path) -> None:
    random = np.random.default_rng(0)
    truth = (random.random(500) < 0.3).astype(float)
    customers = np.array([f"c{i}" for i in range(500)], dtype=object)
    test = TestSet(
        keys=tuple(customers), truth=truth, baseline=np.full(500, 0.3), blocks=customers,
        request={"customer": customers, "senior": np.ones(500)}, inputs={"tenure": np.ones(500)},
        card=samples.card(samples.CHURN, "x"),
    )  # fmt: skip
    prediction = np.clip(0.3 + 0.4 * (truth - 0.3) + 0.1 * random.normal(size=500), 0, 1)
    evidence = gather(samples.CHURN, test, candidate=Answers(version=None, prediction=prediction))
    write_report(tmp_path, samples.CHURN, evidence)
    text = (tmp_path / "report.md").read_text()
    assert "Predicted 1, is 0" in text
    assert "(calibration.svg)" in text
    # A customer a block: too many to draw block by block.
    assert "Block by block" not in text


def test_nothing_evaluated_is_reported_as_such(samples) -> None:
    nothing = Evidence(
        baseline=None,
        incumbent=None,
        candidate=None,
        incumbent_version=None,
        against_baseline=None,
        against_incumbent=None,
    )
    decision = gate(samples.RIDES.gates, nothing)
    assert "Nothing was evaluated." in to_html(samples.RIDES, nothing, decision)
    assert "**Hold: The baseline was not evaluated." in to_markdown(samples.RIDES, nothing, decision)
