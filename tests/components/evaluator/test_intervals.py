"""Whether intervals hold what they promise: by numbers that can be counted by hand, in the gate, and in the report."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from components.evaluator.evaluation import Evaluation, evaluate
from components.evaluator.evidence import Answers, Evidence, gather
from components.evaluator.gate import gate
from components.evaluator.latency import Latency
from components.evaluator.report import to_html, to_markdown
from components.evaluator.testset import TestSet
from ninefold.errors import DataError
from ninefold.signature import InputStatistics
from ninefold.usecase import Gates

GATES = Gates(minimum_blocks=10)
FAST = Latency(p50_ms=0.02, p99_ms=0.05, rows_per_second=1e6, calls=1000)
STATISTICS = {"distance": InputStatistics(null_share=0.0), "zone": InputStatistics(null_share=0.0)}


@pytest.fixture
def rides(samples):
    """Rides that promise intervals; what is promised is kept by 5 minutes for each that is missing without."""

    def gains(request, truth, prediction, interval):
        upper = np.where(np.isnan(interval[:, 1]), prediction + 5.0, interval[:, 1])
        return {"promises_kept": float(np.mean(truth <= upper))}

    return dataclasses.replace(
        samples.RIDES, interval=0.8, decide=lambda request, prediction, interval: None, application_metrics=gains
    )


@pytest.fixture
def test_set(samples) -> TestSet:
    from ninefold.dataset import INPUT, REQUEST, columns_of, to_numpy

    frame = samples.rides()
    return TestSet(
        keys=tuple(frame["key"].to_list()),
        truth=to_numpy(frame["truth"]),
        baseline=to_numpy(frame["baseline"]),
        blocks=to_numpy(frame["block"]),
        request=columns_of(frame, REQUEST),
        inputs=columns_of(frame, INPUT),
        card=samples.card(samples.RIDES, "evaluator_samples:RIDES"),
    )


def _answers(test: TestSet, share: float, **changes) -> Answers:
    """Answers nearer to the truth than the baseline, whose intervals hold this share of the truths, 4 minutes wide."""
    inside = np.random.default_rng(5).random(len(test)) < share
    middle = np.where(inside, test.truth, test.truth + 3.0)
    given = {
        "version": None,
        "prediction": middle,
        "interval": np.stack([middle - 2.0, middle + 2.0], axis=1),
        "latency": FAST,
    }
    return Answers(**{**given, **changes})


def _gather(use_case, test: TestSet, candidate: Answers | None) -> Evidence:
    return gather(use_case, test, candidate=candidate, statistics=STATISTICS, parity=True)


def test_coverage_and_width_are_what_one_counts(rides, test_set) -> None:
    answers = _answers(test_set, 0.8)
    answers.interval[::4] = np.nan
    judged = evaluate(
        rides, test_set.request, test_set.truth, answers.prediction, blocks=test_set.blocks, version=1,
        interval=answers.interval,
    )  # fmt: skip
    quality = judged.interval
    lower, upper = answers.interval.T
    has = ~np.isnan(lower)
    inside = (lower <= test_set.truth) & (test_set.truth <= upper)
    assert (quality.nominal, quality.rows) == (0.8, has.sum())
    assert quality.coverage.value == pytest.approx(inside[has].mean())
    assert quality.coverage.low < quality.coverage.value < quality.coverage.high
    assert quality.width.value == pytest.approx(4.0)
    north = test_set.request["zone"] == "north"
    (found,) = [s for s in quality.slices if (s.field, s.value) == ("zone", "north")]
    assert (found.rows, found.coverage) == (np.sum(has & north), pytest.approx(inside[has & north].mean()))
    assert [s.small for s in quality.slices if s.value == "tiny"] == [True]
    assert judged.application["promises_kept"] > 0.9
    assert Evaluation.from_json(json.loads(json.dumps(judged.to_json()))) == judged


def test_rows_count_by_their_weights(rides, test_set) -> None:
    answers = _answers(test_set, 0.5)
    inside = test_set.truth == answers.prediction
    weight = np.where(inside, 3.0, 1.0)
    judged = evaluate(
        rides, test_set.request, test_set.truth, answers.prediction, blocks=test_set.blocks, version=1, weight=weight,
        interval=answers.interval,
    )  # fmt: skip
    assert judged.interval.coverage.value == pytest.approx(weight[inside].sum() / weight.sum())


@pytest.mark.parametrize(("share", "outcome"), [(0.8, "passed"), (0.95, "passed"), (0.79, "passed"), (0.6, "failed")])
def test_the_gate_refuses_what_holds_surely_fewer_truths_than_promised(rides, test_set, share, outcome) -> None:
    decision = gate(GATES, _gather(rides, test_set, _answers(test_set, share)))
    (check,) = [c for c in decision.reasons if c.name == "interval_coverage"]
    assert (check.outcome, check.bound) == (outcome, pytest.approx(0.78))
    assert check.number == pytest.approx(share, abs=0.05)
    assert decision.action == ("release" if outcome == "passed" else "reject")


def test_promised_intervals_that_are_not_there_hold_a_candidate(rides, test_set) -> None:
    some = _answers(test_set, 0.8)
    some.interval[0] = np.nan
    for answers in (_answers(test_set, 0.8, interval=None), some):
        decision = gate(GATES, _gather(rides, test_set, answers))
        assert [c.outcome for c in decision.reasons if c.name == "interval_coverage"] == ["unknown"]
        assert decision.action == "hold"


def test_without_a_declared_interval_nothing_is_checked(samples, test_set) -> None:
    evidence = _gather(samples.RIDES, test_set, _answers(test_set, 0.1))
    assert evidence.candidate.interval is None
    assert "interval_coverage" not in {c.name for c in gate(GATES, evidence).reasons}


def test_bounds_that_cross_are_an_error_of_whoever_made_them(rides, test_set) -> None:
    crossed = _answers(test_set, 0.8)
    crossed.interval[3] = crossed.interval[3, ::-1]
    with pytest.raises(DataError, match=r"1 of 1,000 intervals have a lower bound above"):
        _gather(rides, test_set, crossed)


def test_the_report_tells_coverage_and_width_whole_and_by_slice(rides, test_set) -> None:
    evidence = Evidence.from_json(json.loads(json.dumps(_gather(rides, test_set, _answers(test_set, 0.8)).to_json())))
    decision = gate(GATES, evidence)
    page, text = to_html(rides, evidence, decision), to_markdown(rides, evidence, decision)
    for shown in (page, text):
        assert "80.0% of the truths are promised to lie inside" in shown
        assert "zone = north" in shown
        assert "4 min" in shown
    assert "Truths inside" in text
