"""The gate: releases what is shown to be better, rejects what is shown to be bad, holds everything else."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

from components.evaluator.blocks import Interval
from components.evaluator.evidence import Answers, Evidence, NullShare, gather, null_shares
from components.evaluator.gate import GateDecision, gate
from components.evaluator.latency import Latency
from components.evaluator.testset import TestSet
from ninefold.errors import DataError
from ninefold.signature import InputStatistics
from ninefold.usecase import Gates

FAST = Latency(p50_ms=0.02, p99_ms=0.05, rows_per_second=1e6, calls=1000)
STATISTICS = {"distance": InputStatistics(null_share=0.0), "zone": InputStatistics(null_share=0.0)}


def _test_set(samples, **arguments) -> TestSet:
    from ninefold.dataset import INPUT, REQUEST, columns_of, to_numpy

    frame = samples.rides(**arguments)
    return TestSet(
        keys=tuple(frame["key"].to_list()),
        truth=to_numpy(frame["truth"]),
        baseline=to_numpy(frame["baseline"]),
        blocks=to_numpy(frame["block"]),
        request=columns_of(frame, REQUEST),
        inputs=columns_of(frame, INPUT),
        card=samples.card(samples.RIDES, "evaluator_samples:RIDES"),
    )


def _candidate(test: TestSet, skill: float = 0.5, version: int | None = None) -> Answers:
    """Answers that are nearer to the truth than the baseline by the given share of its error."""
    return Answers(version=version, prediction=test.baseline + skill * (test.truth - test.baseline), latency=FAST)


def _gather(samples, test: TestSet, candidate: Answers | None, **more) -> Evidence:
    return gather(samples.RIDES, test, candidate=candidate, **{"statistics": STATISTICS, "parity": True, **more})


def _outcomes(decision: GateDecision) -> dict[str, str]:
    return {check.name: check.outcome for check in decision.reasons}


GATES = Gates(minimum_blocks=10)


def test_a_candidate_that_passes_everything_is_released_with_reasons_and_numbers(samples) -> None:
    test = _test_set(samples)
    decision = gate(GATES, _gather(samples, test, _candidate(test)))
    assert decision.action == "release"
    assert set(_outcomes(decision).values()) == {"passed"}
    assert decision.numbers["beats_baseline"] == pytest.approx(0.5)
    assert decision.numbers["latency"] == 0.05
    assert "Release: all" in decision.summary
    with pytest.raises(dataclasses.FrozenInstanceError):
        decision.action = "hold"  # type: ignore[misc]


def test_the_order_of_checks_is_baseline_incumbent_candidate(samples) -> None:
    test = _test_set(samples)
    evidence = _gather(samples, test, _candidate(test, 0.5), incumbent=_candidate(test, 0.4, 3), incumbent_version=3)
    names = [check.name for check in gate(GATES, evidence).reasons]
    assert names[:3] == ["baseline_evaluated", "incumbent_evaluated", "candidate_evaluated"]
    assert names.index("beats_baseline") < names.index("no_worse_than_incumbent")


def test_a_candidate_worse_than_the_baseline_is_rejected(samples) -> None:
    test = _test_set(samples)
    decision = gate(GATES, _gather(samples, test, _candidate(test, -0.2)))
    assert decision.action == "reject"
    assert _outcomes(decision)["beats_baseline"] == "failed"
    assert "does not beat the baseline" in decision.summary


def test_the_baseline_itself_does_not_beat_the_baseline(samples) -> None:
    test = _test_set(samples)
    assert gate(GATES, _gather(samples, test, _candidate(test, 0.0))).action == "reject"


def test_a_difference_within_the_noise_of_the_blocks_is_held(samples) -> None:
    test = _test_set(samples)
    noise = np.random.default_rng(1).normal(0, 1.0, 20).repeat(50)
    decision = gate(
        GATES, _gather(samples, test, Answers(version=None, prediction=test.baseline + noise, latency=FAST))
    )
    assert _outcomes(decision)["beats_baseline"] == "unknown"
    assert decision.action == "hold"
    assert "not shown that the candidate beats the baseline" in decision.summary


def test_beating_the_baseline_by_less_than_was_asked_is_not_enough(samples) -> None:
    test = _test_set(samples)
    evidence = _gather(samples, test, _candidate(test, 0.05))
    assert gate(dataclasses.replace(GATES, beat_baseline_by=0.04), evidence).action == "release"
    assert gate(dataclasses.replace(GATES, beat_baseline_by=0.06), evidence).action == "reject"


@pytest.mark.parametrize(
    ("incumbent", "candidate", "margin", "action"),
    [(0.4, 0.5, 0.0, "release"), (0.5, 0.5, 0.0, "release"), (0.5, 0.497, 0.01, "release"), (0.5, 0.4, 0.01, "reject")],
)
def test_a_candidate_may_be_worse_than_the_incumbent_by_the_margin(
    samples, incumbent: float, candidate: float, margin: float, action: str
) -> None:
    test = _test_set(samples)
    evidence = _gather(
        samples, test, _candidate(test, candidate), incumbent=_candidate(test, incumbent, 3), incumbent_version=3
    )
    decision = gate(dataclasses.replace(GATES, incumbent_margin=margin), evidence)
    assert decision.action == action, decision.summary


def test_a_live_baseline_is_its_own_incumbent(samples) -> None:
    test = _test_set(samples)
    evidence = _gather(samples, test, _candidate(test), incumbent_version=0)
    assert evidence.incumbent == evidence.baseline
    assert gate(GATES, evidence).action == "release"


def test_missing_data_is_held_and_never_released(samples) -> None:
    test = _test_set(samples)
    whole = _gather(samples, test, _candidate(test), incumbent=_candidate(test, 0.4, 3), incumbent_version=3)
    assert gate(GATES, whole).action == "release"
    nan = Interval(math.nan, math.nan, math.nan)
    assert whole.candidate is not None
    assert whole.against_baseline is not None
    missing = {
        "candidate_evaluated": [
            dataclasses.replace(whole, candidate=None),
            dataclasses.replace(whole, candidate=dataclasses.replace(whole.candidate, value=nan)),
            dataclasses.replace(whole, candidate=dataclasses.replace(whole.candidate, expected_rows=1001)),
        ],
        "baseline_evaluated": [dataclasses.replace(whole, baseline=None)],
        "incumbent_evaluated": [
            dataclasses.replace(whole, incumbent=None),
            dataclasses.replace(whole, incumbent_version=4),
        ],
        "beats_baseline": [
            dataclasses.replace(whole, against_baseline=None),
            dataclasses.replace(whole, against_baseline=dataclasses.replace(whole.against_baseline, relative=nan)),
            dataclasses.replace(whole, against_baseline=dataclasses.replace(whole.against_baseline, blocks=9)),
        ],
        "no_worse_than_incumbent": [dataclasses.replace(whole, against_incumbent=None)],
        "slices": [dataclasses.replace(whole, slices=())],
        "null_share": [
            dataclasses.replace(whole, nulls=None),
            dataclasses.replace(whole, nulls=(NullShare(input="distance", training=math.nan, test=0.0),)),
        ],
        "parity": [dataclasses.replace(whole, parity=None)],
        "latency": [dataclasses.replace(whole, candidate=dataclasses.replace(whole.candidate, latency=None))],
    }
    for check, cases in missing.items():
        for evidence in cases:
            decision = gate(GATES, evidence)
            assert decision.action == "hold", check
            assert _outcomes(decision)[check] == "unknown"


def test_whatever_is_missing_beside_whatever_else_never_releases(samples) -> None:
    test = _test_set(samples)
    whole = _gather(samples, test, _candidate(test), incumbent=_candidate(test, 0.4, 3), incumbent_version=3)
    parts = ("baseline", "incumbent", "candidate", "against_baseline", "against_incumbent", "nulls", "parity")
    for count in range(1, len(parts) + 1):
        for gone in itertools.combinations(parts, count):
            decision = gate(GATES, dataclasses.replace(whole, **dict.fromkeys(gone)))
            assert decision.action == "hold", gone


def test_no_test_rows_are_held(samples) -> None:
    test = _test_set(samples)
    nothing = dataclasses.replace(
        test, keys=(), truth=test.truth[:0], baseline=test.baseline[:0], blocks=test.blocks[:0],
        request={n: c[:0] for n, c in test.request.items()}, inputs={n: c[:0] for n, c in test.inputs.items()},
    )  # fmt: skip
    evidence = _gather(samples, nothing, Answers(version=None, prediction=np.empty(0), latency=FAST))
    assert gate(GATES, evidence).action == "hold"


def test_too_few_blocks_decide_nothing(samples) -> None:
    test = _test_set(samples, days=9)
    decision = gate(GATES, _gather(samples, test, _candidate(test)))
    assert decision.action == "hold"
    assert "9 blocks" in decision.summary


def test_a_slice_that_is_shown_to_be_worse_than_the_baseline_rejects(samples) -> None:
    test = _test_set(samples)
    skill = np.where(test.request["zone"] == "north", -0.2, 0.8)
    answers = Answers(version=None, prediction=test.baseline + skill * (test.truth - test.baseline), latency=FAST)
    decision = gate(GATES, _gather(samples, test, answers))
    assert _outcomes(decision)["beats_baseline"] == "passed"
    assert _outcomes(decision)["slices"] == "failed"
    assert decision.action == "reject"
    assert "zone=north (−20.0%)" in decision.summary


def test_small_slices_are_counted_and_not_judged(samples) -> None:
    test = _test_set(samples)
    skill = np.where(test.request["zone"] == "tiny", -5.0, 0.8)
    answers = Answers(version=None, prediction=test.baseline + skill * (test.truth - test.baseline), latency=FAST)
    decision = gate(GATES, _gather(samples, test, answers))
    assert decision.action == "release", decision.summary
    assert "1 more are too small to judge" in {c.name: c.words for c in decision.reasons}["slices"]


def test_an_input_that_is_null_far_more_often_than_in_training_rejects(samples) -> None:
    test = _test_set(samples)
    distance = test.inputs["distance"].copy()
    distance[:100] = np.nan
    with_nulls = dataclasses.replace(test, inputs={**test.inputs, "distance": distance})
    decision = gate(GATES, _gather(samples, with_nulls, _candidate(test)))
    assert _outcomes(decision)["null_share"] == "failed"
    assert "distance is null in 10.0% of the test rows" in decision.summary
    assert null_shares({"zone": np.array(["a", None], dtype=object)}, {})[0].test == 0.5


def test_a_slow_or_unfaithful_candidate_is_rejected(samples) -> None:
    test = _test_set(samples)
    slow = dataclasses.replace(_candidate(test), latency=dataclasses.replace(FAST, p99_ms=11.0))
    assert _outcomes(gate(GATES, _gather(samples, test, slow)))["latency"] == "failed"
    decision = gate(GATES, _gather(samples, test, _candidate(test), parity=False))
    assert decision.action == "reject"
    assert "does not predict what the trained one does" in decision.summary


def test_predictions_of_some_rows_are_compared_on_those_rows_and_held(samples) -> None:
    test = _test_set(samples)
    places, values = test.align({key: float(test.truth[i]) for i, key in enumerate(test.keys) if i % 4})
    evidence = _gather(samples, test, Answers(version=None, prediction=values, places=places, latency=FAST))
    assert evidence.candidate is not None
    assert evidence.against_baseline is not None
    assert (evidence.candidate.coverage, evidence.candidate.value.value) == (0.75, 0.0)
    assert evidence.against_baseline.reference == pytest.approx(np.abs(test.truth - test.baseline)[places].mean())
    assert "750 of 1,000 test rows" in gate(GATES, evidence).summary
    with pytest.raises(DataError, match="1 of 1 predictions have a key that is not in the test set: 'x'"):
        test.align({"x": 1.0})


def test_evidence_and_decision_survive_json(samples) -> None:
    test = _test_set(samples)
    evidence = _gather(samples, test, _candidate(test), incumbent=_candidate(test, 0.4, 3), incumbent_version=3)
    again = Evidence.from_json(json.loads(json.dumps(evidence.to_json(), allow_nan=False)))
    assert again == evidence
    decision = gate(GATES, again)
    assert GateDecision.from_json(json.loads(json.dumps(decision.to_json(), allow_nan=False))) == decision


def test_a_version_that_todays_code_cant_serve_is_no_incumbent_and_is_named(samples) -> None:
    test = _test_set(samples)
    evidence = Evidence.from_json(
        json.loads(json.dumps(_gather(samples, test, _candidate(test), unserved_version=4).to_json()))
    )
    decision = gate(GATES, evidence)
    assert decision.action == "release"
    (check,) = [c for c in decision.reasons if c.name == "incumbent_evaluated"]
    assert "Version 4 was made with another derive" in check.words


def test_a_live_version_that_was_not_evaluated_holds(samples) -> None:
    test = _test_set(samples)
    decision = gate(GATES, _gather(samples, test, _candidate(test), incumbent_version=4))
    assert decision.action == "hold"


def test_a_slice_whose_rows_all_stand_for_nothing_is_one_that_can_not_be_judged(samples) -> None:
    test = _test_set(samples)
    weight = np.where(test.request["zone"] == "north", 0.0, 1.0)
    evidence = _gather(samples, dataclasses.replace(test, weight=weight), _candidate(test))
    plain = _gather(samples, test, _candidate(test))
    north = {("zone", "north")}
    assert {(s.field, s.value) for s in evidence.slices} == {(s.field, s.value) for s in plain.slices} - north
    assert evidence.small_slices == plain.small_slices + 1
