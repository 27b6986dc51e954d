"""The whole way of a rollout in event time: what production writes, and what the controller makes of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from rollout_house import POLICY, Production, controller, found, register, reopen, run

from ninefold.cohorts import Audience
from ninefold.records import Truth


def test_a_better_candidate_is_shadowed_canaried_and_promoted(production_on_both: Production) -> None:
    production, store = production_on_both, production_on_both.store
    acted = run(production, 17)
    assert [(d.action, d.share) for d in acted] == [
        ("start_shadow", 0.0),
        ("advance", 0.2),
        ("advance", 0.5),
        ("promote", 1.0),
    ]
    rollout = production.rollout
    assert (rollout.state, rollout.candidate, production.live) == ("promoted", 2, 2)
    assert {v.version: v.state for v in store.versions("parcels")} == {1: "retired", 2: "live", 3: "registered"}
    # The day on which the shadow began is not judged: no block of it was asked whole.
    assert acted[1].numbers["blocks"] == 6
    assert acted[1].numbers["incumbent_loss"] == pytest.approx(2.0, rel=0.1)
    assert acted[1].numbers["candidate_loss"] == pytest.approx(1.6, rel=0.1)
    steps = store.steps(rollout.rollout_id)
    assert {step.actor for step in steps} == {"release", "controller"}
    advance = next(step for step in steps if step.action == "advance")
    assert advance.at == acted[1].at == production.clock.now() - timedelta(days=17 - 8)
    assert "better by more than" in advance.reasons[0]
    assert {reason["name"]: reason["finding"] for reason in advance.numbers["looked_at"]} == {
        "better": "passed",
        "harm": "passed",
        "errors": "passed",
        "latency": "passed",
        "fallbacks": "passed",
        "null_share": "passed",
        "coverage": "passed",
    }
    # A hold stands there when something else was found, and not for every look.
    holds = [step for step in steps if step.action == "hold"]
    assert 3 <= len(holds) <= 6
    assert run(production, 1) == []
    assert store.steps(rollout.rollout_id) == steps


def test_a_worse_candidate_is_rolled_back_and_retired(production: Production) -> None:
    production.errors[2] = 2.6
    acted = run(production, 12)
    assert [d.action for d in acted] == ["start_shadow", "rollback"]
    assert found(acted[1])["harm"] == "failed"
    assert acted[1].numbers["blocks"] == 5
    assert "worse by more than the margin" in production.rollout.reason
    assert (production.rollout.state, production.live) == ("rolled_back", 1)
    change = production.store.version_changes("parcels")[-1]
    assert (change.version, change.to_state, change.actor) == (2, "retired", "controller")
    assert change.reason == production.rollout.reason


def test_a_field_that_is_null_when_asked_is_named_with_what_it_costs(production: Production, tmp_path: Path) -> None:
    version = register(production.store, tmp_path, 4, inputs=("weight", "depot_size", "toll"))
    production.clock.advance(production.clock.now() + timedelta(seconds=1))
    production.store.open_rollout("parcels", incumbent=1, candidate=version, policy=POLICY.to_json(), actor="release")
    production.toll, production.errors[version] = None, 2.6
    leading = controller(production)
    acted = run(production, 3, leading)
    assert [d.action for d in acted] == ["start_shadow"]
    hold = leading.look()
    assert found(hold)["null_share"] == "unknown"
    assert "toll (100.0%, in training 0.0%)" in str(hold)
    acted = run(production, 8, leading)
    assert [d.action for d in acted] == ["rollback"]
    named = [reason.name for reason in acted[0].deciding]
    assert named == ["harm", "null_share"]
    assert max(step.numbers.get("share", 0.0) for step in production.store.steps(production.rollout.rollout_id)) == 0.0


@pytest.mark.parametrize(("incumbent", "excused"), [(4, True), (0, False)])
def test_what_is_missing_for_both_models_is_no_fault_of_the_candidates(
    production: Production, tmp_path: Path, incumbent: int, excused: bool
) -> None:
    inputs = ("weight", "depot_size", "toll")
    live = register(production.store, tmp_path, 4, inputs=inputs, version=incumbent)
    production.store.set_state("parcels", live, "live")
    candidate = register(production.store, tmp_path, 5, inputs=inputs)
    production.store.open_rollout(
        "parcels", incumbent=live, candidate=candidate, policy=POLICY.to_json(), actor="release"
    )
    production.toll = None
    leading = controller(production)
    run(production, 3, leading)
    look = leading.look()
    assert found(look)["null_share"] == ("passed" if excused else "unknown")
    assert ("toll is missing for both (100.0%, in training 0.0%)" in str(look)) == excused


def test_a_candidate_that_answers_with_nan_is_rolled_back_at_once(production: Production) -> None:
    production.failing[2] = "model_error"
    production.failing_share = 0.1
    acted = run(production, 3)
    assert [d.action for d in acted] == ["start_shadow", "rollback"]
    [reason] = acted[1].deciding
    assert reason.name == "errors"
    assert "of 120 requests" in reason.words


def test_a_slow_candidate_and_one_that_leaves_more_to_the_fallback_are_rolled_back(production: Production) -> None:
    production.slow[2] = 80.0
    assert [r.name for r in run(production, 3)[1].deciding] == ["latency"]
    reopen(production)
    production.failing[3], production.failing_share = "feature_missing", 0.2
    assert [r.name for r in run(production, 3)[1].deciding] == ["fallbacks"]


def test_answers_by_the_fallback_are_no_evidence_of_the_version(production: Production) -> None:
    # The fallback answers perfectly in the candidate's place: the candidate gains nothing by it.
    production.errors[2] = 2.6
    reopen(production, guardrails=replace(POLICY.guardrails, max_error_share=1.0, max_fallback_increase=1.0))
    production.errors[3] = 2.6
    production.failing[3], production.failing_share = "model_slow", 0.5
    leading = controller(production)
    run(production, 9, leading)
    decision = leading.look()
    assert decision is not None
    # Half of its keys were never answered by it. Its blocks wait for their deadline, and are then not comparable.
    assert decision.numbers["candidate_loss"] is None or decision.numbers["candidate_loss"] > 2.0
    assert decision.action in ("hold", "rollback")
    assert production.live == 1


def test_missing_truths_hold_and_are_never_a_promotion(production: Production) -> None:
    production.truths_kept = 0.0
    leading = controller(production)
    assert [d.action for d in run(production, 12, leading)] == ["start_shadow"]
    decision = leading.look()
    assert found(decision)["coverage"] == "unknown"
    assert decision is not None
    assert decision.numbers["blocks"] == 0
    # The truths that come after all are judged.
    production.truths_kept = 1.0
    assert "advance" in [d.action for d in run(production, 9, leading)] or production.rollout.state == "shadow"


def test_a_truth_that_is_corrected_counts_as_it_was_known(production: Production) -> None:
    leading = controller(production)
    run(production, 5, leading)
    before = leading.look()
    assert before is not None
    corrected = [
        Truth(truth_id=f"again-{n}", use_case="parcels", key=f"p1-{n}", value=1000.0,
              known_at=production.clock.now() + timedelta(hours=1), received_at=production.clock.now())
        for n in range(120)
    ]  # fmt: skip
    production.store.write_truths(corrected)
    now = leading.look()
    assert now is not None
    assert now.numbers["incumbent_loss"] == before.numbers["incumbent_loss"]
    production.clock.advance(production.clock.now() + timedelta(hours=2))
    later = leading.look()
    assert later is not None
    assert (later.numbers["incumbent_loss"] or 0.0) > 100.0


def test_an_ab_test_compares_the_cohorts(production: Production) -> None:
    reopen(production, mode="ab", ab_share=0.4, minimum_blocks=6)
    acted = run(production, 14)
    assert [d.action for d in acted] == ["start_ab", "promote"]
    assert acted[0].share == 0.4
    asked = acted[1].numbers
    share = (asked["candidate_requests"] or 0) / (
        (asked["candidate_requests"] or 0) + (asked["incumbent_requests"] or 1)
    )
    assert 0.33 < share < 0.47
    assert production.live == 3


def test_an_ab_test_leaves_out_whom_chance_did_not_draw(production: Production) -> None:
    # The incumbent answers all of the south, where everything is harder; that says nothing of the two models.
    production.depots, production.hardness = ("north", "south"), {"south": 5.0}
    production.errors[3] = 2.0
    north = Audience(attributes={"depot": frozenset({"north"})})
    reopen(production, mode="ab", minimum_blocks=20, audience=north)
    leading = controller(production)
    assert [d.action for d in run(production, 9, leading)] == ["start_ab"]
    decision = leading.look()
    assert decision is not None
    assert decision.numbers["incumbent_loss"] == pytest.approx(2.0, rel=0.15)
    assert decision.numbers["candidate_loss"] == pytest.approx(2.0, rel=0.15)


def test_the_block_in_which_the_shadow_begins_is_judged_by_what_was_asked_since(production: Production) -> None:
    leading = controller(production)
    production.part(0.0, 12.0)
    leading.look()
    assert production.rollout.state == "shadow"
    production.part(12.0, 24.0)
    production.days += 1
    run(production, 2, leading)
    decision = leading.look()
    assert decision is not None
    # Its morning was never asked of the candidate: taken for missing answers, it would cast doubt on all that follows.
    assert found(decision)["coverage"] == "passed"
    assert decision.numbers["blocks"] == 2


def test_the_fallbacks_answers_are_not_the_baselines_where_it_is_the_incumbent(
    production: Production, tmp_path: Path
) -> None:
    register(production.store, tmp_path, 0, version=0)
    production.store.set_state("parcels", 0, "live")
    production.errors[0] = 2.0
    # Both bear version 0, and the fallback's are perfect here.
    production.failing[0], production.failing_share = "out_of_range", 0.3
    leading = controller(production)
    run(production, 6, leading)
    decision = leading.look()
    assert decision is not None
    assert production.rollout.incumbent == 0
    assert (decision.numbers["blocks"] or 0) >= 3
    assert decision.numbers["incumbent_loss"] == pytest.approx(2.0, rel=0.15)


def test_an_obstacle_holds_a_pending_rollout_and_nothing_else(production: Production) -> None:
    obstacle = "Version 2 was trained with another derive."
    leading = controller(production, obstacle=lambda candidate: obstacle if candidate.version == 2 else "")
    assert run(production, 3, leading) == []
    held = leading.look()
    assert held is not None
    assert held.words == obstacle
    assert [s.action for s in production.store.steps(production.rollout.rollout_id)] == ["open", "hold"]
    obstacle = ""
    assert [d.action for d in run(production, 1, leading)] == ["start_shadow"]
    # The front end is out of reach now, and the candidate errs: the guardrail needs no front end.
    obstacle = "The front end can't be asked."
    production.failing[2] = "model_unreachable"
    assert [d.action for d in run(production, 2, leading)] == ["rollback"]


def test_a_newer_candidate_takes_the_place_of_one_that_waits(production: Production) -> None:
    first = production.rollout
    reopen(production)
    superseded = production.store.find_rollout(first.rollout_id)
    assert superseded is not None
    assert superseded.state == "superseded"
    assert production.store.version("parcels", 2).state == "retired"  # type: ignore[union-attr]
    acted = run(production, 1)
    assert [d.action for d in acted] == ["start_shadow"]
    assert production.rollout.candidate == 3


def test_one_that_waits_begins_when_the_one_before_has_ended(production: Production) -> None:
    leading = controller(production)
    run(production, 1, leading)
    reopen(production)
    production.failing[2] = "model_error"
    acted = run(production, 2, leading)
    assert [d.action for d in acted] == ["rollback", "start_shadow"]
    assert production.store.rollout("parcels").candidate == 3  # type: ignore[union-attr]


def test_a_pending_rollout_follows_the_live_version(production: Production) -> None:
    production.store.set_state("parcels", 3, "live")
    leading = controller(production)
    decision = leading.look()
    assert decision is not None
    assert "Version 3 is live now in place of 1" in decision.words
    assert (production.rollout.incumbent, production.rollout.state, production.rollout.revision) == (3, "pending", 2)
    assert [d.action for d in run(production, 1, leading)] == ["start_shadow"]
    assert production.history == [("open", "pending"), ("rebase", "pending"), ("start_shadow", "shadow")]


def test_a_rollout_ends_when_its_incumbent_is_live_no_more(production: Production) -> None:
    leading = controller(production)
    run(production, 2, leading)
    production.store.set_state("parcels", 3, "live")
    decision = leading.look()
    assert decision is not None
    assert decision.action == "rollback"
    assert "Version 3 went live in place of 1" in production.rollout.reason
    assert production.live == 3


def test_a_candidate_that_is_live_or_retired_by_hand_ends_its_rollout(production: Production) -> None:
    production.store.set_state("parcels", 2, "live")
    leading = controller(production)
    leading.look()
    assert (production.rollout.state, production.live) == ("promoted", 2)
    production.clock.advance(production.clock.now() + timedelta(seconds=1))
    production.store.open_rollout("parcels", incumbent=2, candidate=3, policy=POLICY.to_json(), actor="r")
    production.store.set_state("parcels", 3, "retired")
    leading.look()
    assert (production.rollout.state, production.live) == ("rolled_back", 2)


def test_answers_that_name_no_rollout_are_no_evidence(production: Production) -> None:
    leading = controller(production)
    run(production, 1, leading)
    production.names_rollout = False
    run(production, 8, leading)
    decision = leading.look()
    assert decision is not None
    assert (decision.action, decision.numbers["blocks"], decision.numbers["incumbent_requests"]) == ("hold", 0, 0)
