"""What is decided, and why: each rule of a rollout on the smallest evidence that shows it."""

import dataclasses
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.rollout.decide import RolloutDecision, decide
from ninefold.rollout.evidence import BlockLosses, Evidence, NullShare, Traffic
from ninefold.rollout.policy import RolloutPolicy
from ninefold.rollout.state import Rollout as RolloutState
from ninefold.rollout.state import State, apply

START = datetime(2013, 7, 1, tzinfo=UTC)
POLICY = RolloutPolicy(steps=(0.05, 0.5), blocks_per_step=2, minimum_blocks=14, maximum_blocks=40, margin=0.02)
HEALTHY = Traffic(requests=5_000, errors=0, fallbacks=10, p99_ms=2.0)
FULL = NullShare(feature="weather__temperature", training=0.01, serving=0.01, requests=5_000)


def rollout(state: State = "shadow", **changes: Any) -> RolloutState:
    return RolloutState(
        rollout_id="r1", use_case="arrivals", incumbent=1, candidate=2, salt="s", opened_at=START,
        entered_at=changes.pop("entered_at", START), state=state, **changes,
    )  # fmt: skip


def days(
    count: int, *, gain: float = 0.0, noise: float = 0.02, first: int = 0, standing: Any = "counted", asked: int = 800,
    known: tuple[int, int] = (800, 800), seed: int = 0,
) -> list[BlockLosses]:  # fmt: skip
    """Days on which the incumbent loses about 12 and the candidate ``gain`` (a share) less."""
    rng = np.random.default_rng(seed)
    found = []
    for n in range(first, first + count):
        level, luck = 12.0 + rng.normal(0, 3), rng.normal(0, noise)
        began = START + timedelta(days=n, hours=9)
        found.append(
            BlockLosses(
                block=began.date().isoformat(),
                began=began,
                closed=began + timedelta(hours=14),
                standing=standing,
                incumbent=level,
                candidate=level * (1 - gain + luck),
                asked=(asked, asked),
                known=known,
            )
        )
    return found


def evidence(blocks: list[BlockLosses] | None = None, **changes: Any) -> Evidence:
    known: dict[str, Any] = {"incumbent": HEALTHY, "candidate": HEALTHY, "nulls": (FULL,)}
    return Evidence(at=START + timedelta(days=50), blocks=blocks or [], **(known | changes))


def happened(before: RolloutState, decision: RolloutDecision) -> RolloutState:
    event = decision.event()
    assert event is not None
    return apply(before, event)


def reason(decision: RolloutDecision, name: str) -> Any:
    return next(r for r in decision.reasons if r.name == name)


def test_a_candidate_that_is_ready_is_shadowed() -> None:
    decision = decide(rollout("pending"), evidence(), POLICY)
    assert (decision.action, decision.share) == ("start_shadow", 0.0)


def test_an_obstacle_is_waited_for() -> None:
    decision = decide(rollout("pending"), evidence(obstacle="The window origin_gain_5h is not filled back."), POLICY)
    assert (decision.action, decision.words) == ("hold", "The window origin_gain_5h is not filled back.")


def test_nothing_known_is_a_hold() -> None:
    decision = decide(rollout(), Evidence(at=START), POLICY)
    assert decision.action == "hold"
    assert "No truth" in decision.words
    assert all(number is None or number == 0 for number in decision.numbers.values())


def test_a_better_candidate_starts_its_canary() -> None:
    decision = decide(rollout(), evidence(days(20, gain=0.05)), POLICY)
    assert (decision.action, decision.step, decision.share) == ("advance", 0, 0.05)
    assert "20 blocks" in decision.words
    assert reason(decision, "better").number > 0.0
    moved = happened(rollout(), decision)
    assert (moved.state, moved.step) == ("canary", 0)


def test_better_is_not_said_before_the_14th_block() -> None:
    decision = decide(rollout(), evidence(days(13, gain=0.2)), POLICY)
    assert decision.action == "hold"
    assert "from block 14 on" in decision.words


def test_what_was_shown_once_stays_shown() -> None:
    blocks = days(20, gain=0.05) + days(3, gain=-0.2, first=20)
    assert decide(rollout(), evidence(blocks), POLICY).action == "advance"
    assert decide(rollout(), evidence(blocks[::-1]), POLICY).action == "hold"


def test_better_by_less_than_the_minimum_effect_ends_it() -> None:
    policy = dataclasses.replace(POLICY, minimum_effect=0.05)
    decision = decide(rollout(), evidence(days(30, gain=0.02)), policy)
    assert decision.action == "rollback"
    assert "not better by 5.0%" in decision.words


@pytest.mark.parametrize(
    ("changes", "unknown"),
    [({"nulls": None}, "null_share"), ({"candidate": Traffic(requests=5_000)}, "latency"),
     ({"candidate": Traffic(requests=20, p99_ms=1.0)}, "errors"), ({"incumbent": Traffic()}, "fallbacks")],
)  # fmt: skip
def test_a_better_candidate_waits_until_its_service_is_known(changes: dict[str, Any], unknown: str) -> None:
    decision = decide(rollout(), evidence(days(20, gain=0.05), **changes), POLICY)
    assert decision.action == "hold"
    assert reason(decision, unknown).finding == "unknown"


def test_harm_ends_it_from_the_5th_block_on() -> None:
    assert decide(rollout(), evidence(days(4, gain=-0.3)), POLICY).action == "hold"
    decision = decide(rollout(), evidence(days(5, gain=-0.3)), POLICY)
    assert (decision.action, decision.share) == ("rollback", 0.0)
    assert "worse by more than the margin" in decision.words


def test_worse_within_the_margin_is_no_harm() -> None:
    decision = decide(rollout(), evidence(days(12, gain=-0.01, noise=0.005)), POLICY)
    assert reason(decision, "harm").finding == "passed"
    assert decision.action == "hold"


@pytest.mark.parametrize("state", ["shadow", "canary", "ab", "paused"])
def test_errors_end_it_at_once_wherever_it_stands(state: State) -> None:
    before = rollout(state, paused_in="canary" if state == "paused" else None)
    decision = decide(before, evidence(candidate=Traffic(requests=40, errors=5)), POLICY)
    assert decision.action == "rollback"
    assert "5 of 40 requests (12.50%) failed" in decision.words
    assert happened(before, decision).state == "rolled_back"


def test_few_errors_are_bad_luck() -> None:
    assert decide(rollout(), evidence(candidate=Traffic(requests=40, errors=4)), POLICY).action == "hold"


@pytest.mark.parametrize(("p99", "action"), [(9.0, "hold"), (29.0, "hold"), (31.0, "rollback"), (None, "hold")])
def test_a_slow_candidate_is_stopped(p99: float | None, action: str) -> None:
    found = evidence(candidate=Traffic(requests=500, p99_ms=p99), incumbent=Traffic(requests=500, p99_ms=10.0))
    assert decide(rollout(), found, POLICY).action == action


def test_a_candidate_that_the_fallback_answers_for_is_stopped() -> None:
    decision = decide(rollout(), evidence(candidate=Traffic(requests=1_000, fallbacks=30, p99_ms=2.0)), POLICY)
    assert decision.action == "rollback"
    assert "fallback" in decision.words


MISSING = NullShare(feature="air_time", training=0.0, serving=1.0, requests=800)


def test_in_a_canary_a_missing_feature_ends_it_at_once() -> None:
    decision = decide(rollout("canary"), evidence(nulls=(FULL, MISSING)), POLICY)
    assert decision.action == "rollback"
    assert "air_time (100.0%, in training 0.0%)" in decision.words


def test_in_shadow_a_missing_feature_is_named_at_once_and_ends_it_with_what_it_costs() -> None:
    """Nobody gets the answers; the loss says what the nulls cost, a few blocks later."""
    early = decide(rollout(), evidence(days(3, gain=-0.3), nulls=(MISSING,)), POLICY)
    assert early.action == "hold"
    assert "air_time" in early.words
    shown = decide(rollout(), evidence(days(5, gain=-0.3), nulls=(MISSING,)), POLICY)
    assert shown.action == "rollback"
    assert "air_time" in shown.words
    assert "worse by more than the margin" in shown.words


@pytest.mark.parametrize("standing", ["counted", "lapsed"])
def test_in_shadow_a_missing_feature_that_costs_nothing_ends_it_too(standing: str) -> None:
    found = evidence(days(POLICY.diagnosis_blocks, standing=standing), nulls=(MISSING,))
    assert decide(rollout(), found, POLICY).action == "rollback"


def test_a_missing_feature_never_lets_a_better_candidate_through() -> None:
    policy = dataclasses.replace(POLICY, diagnosis_blocks=30)
    assert decide(rollout(), evidence(days(20, gain=0.1), nulls=(MISSING,)), policy).action == "hold"


@pytest.mark.parametrize(
    ("incumbent", "finding"),
    [(1.0, "passed"), (0.96, "passed"), (0.94, "failed"), (0.0, "failed"), (math.nan, "failed")],
)
def test_what_is_missing_for_the_incumbent_too_is_no_fault_of_the_candidates(incumbent: float, finding: str) -> None:
    shared = dataclasses.replace(MISSING, feature="pressure", incumbent=incumbent)
    found = reason(decide(rollout("canary"), evidence(nulls=(FULL, shared)), POLICY), "null_share")
    assert found.finding == finding
    if finding == "passed":
        assert "pressure is missing for both (100.0%, in training 0.0%)" in found.words


def test_an_incumbent_that_was_asked_with_fewer_nulls_than_training_had_excuses_nothing_less() -> None:
    usual = NullShare(feature="pressure", training=0.1, serving=0.12, requests=800, incumbent=0.0)
    assert reason(decide(rollout("canary"), evidence(nulls=(usual,)), POLICY), "null_share").finding == "passed"


def test_nulls_of_too_few_requests_are_unknown() -> None:
    few = dataclasses.replace(MISSING, requests=50)
    decision = decide(rollout("canary"), evidence(nulls=(few,)), POLICY)
    assert (decision.action, reason(decision, "null_share").finding) == ("hold", "unknown")


def test_answers_that_are_missing_from_one_version_are_a_hold() -> None:
    decision = decide(rollout(), evidence(days(20, gain=0.1, known=(800, 740))), POLICY)
    assert decision.action == "hold"
    assert "not missing at random" in decision.words


def test_blocks_that_never_counted_are_a_hold() -> None:
    blocks = days(20, gain=0.1) + days(6, first=20, standing="lapsed", known=(100, 100))
    decision = decide(rollout(), evidence(blocks), POLICY)
    assert decision.action == "hold"
    assert "6 of 26 blocks" in decision.words


def test_blocks_that_are_waited_for_decide_nothing() -> None:
    decision = decide(rollout(), evidence(days(30, gain=0.1, standing="waiting")), POLICY)
    assert (decision.action, decision.numbers["blocks_waiting"]) == ("hold", 30)


def canary(step: int, since: int) -> RolloutState:
    return rollout("canary", step=step, entered_at=START + timedelta(days=since))


@pytest.mark.parametrize(("blocks", "action"), [(20, "hold"), (21, "hold"), (22, "advance")])
def test_a_step_lasts_its_blocks(blocks: int, action: str) -> None:
    decision = decide(canary(0, 20), evidence(days(blocks, gain=0.05)), POLICY)
    assert decision.action == action
    if action == "advance":
        assert (decision.step, decision.share) == (1, 0.5)
    else:
        assert decision.share == 0.05


@pytest.mark.parametrize(
    ("blocks", "changes", "unknown"),
    [
        (days(22, gain=0.05), {"nulls": None}, "null_share"),
        (days(22, gain=0.05), {"candidate": Traffic(requests=5_000)}, "latency"),
        (days(22, gain=0.05), {"candidate": Traffic(requests=30, p99_ms=1.0)}, "errors"),
        (days(22, gain=0.05, known=(800, 700)), {}, "coverage"),
    ],
)
def test_a_step_does_not_end_before_its_service_is_known(
    blocks: list[BlockLosses], changes: dict[str, Any], unknown: str
) -> None:
    decision = decide(canary(1, 20), evidence(blocks, **changes), POLICY)
    assert (decision.action, reason(decision, unknown).finding) == ("hold", "unknown")


def test_a_block_that_began_before_the_step_is_not_its() -> None:
    after_nine = dataclasses.replace(canary(0, 20), entered_at=START + timedelta(days=20, hours=10))
    assert decide(after_nine, evidence(days(22)), POLICY).action == "hold"


def test_after_the_last_step_it_is_promoted() -> None:
    decision = decide(canary(1, 20), evidence(days(22, gain=0.05)), POLICY)
    assert (decision.action, decision.share) == ("promote", 1.0)
    assert happened(canary(1, 20), decision).state == "promoted"


def test_a_canary_does_not_test_superiority_again() -> None:
    assert (
        decide(canary(1, 20), evidence(days(20, gain=0.05) + days(2, first=20, noise=0.05)), POLICY).action == "promote"
    )


def test_a_canary_without_truths_holds_and_ends_at_the_maximum() -> None:
    blocks = days(20, gain=0.05)
    assert decide(canary(0, 20), evidence(blocks + days(9, first=20, standing="waiting")), POLICY).action == "hold"
    decision = decide(canary(0, 20), evidence(blocks + days(40, first=20, standing="lapsed")), POLICY)
    assert decision.action == "rollback"
    assert "can't go on" in decision.words


def test_harm_ends_a_canary() -> None:
    blocks = days(5, gain=0.0, noise=0.001) + days(20, gain=-0.2, first=5)
    assert decide(canary(1, 20), evidence(blocks), POLICY).action == "rollback"


def test_an_undecided_candidate_ends_at_the_maximum_with_the_incumbent() -> None:
    decision = decide(rollout(), evidence(days(40, noise=0.01)), POLICY)
    assert decision.action == "rollback"
    assert "undecided" in decision.words


def test_a_refresh_that_is_no_worse_goes_on_at_the_maximum_and_not_before() -> None:
    policy = dataclasses.replace(POLICY, outcome_at_maximum="promote")
    assert decide(rollout(), evidence(days(39, noise=0.01)), policy).action == "hold"
    decision = decide(rollout(), evidence(days(40, noise=0.01)), policy)
    assert (decision.action, decision.step) == ("advance", 0)
    assert "no worse than by the margin of 2.0%" in decision.words


@pytest.mark.parametrize("outcome", ["keep", "promote"])
@pytest.mark.parametrize("known", [0, 300])
def test_what_truths_never_judged_is_not_promoted_at_the_maximum(outcome: Any, known: int) -> None:
    policy = dataclasses.replace(POLICY, outcome_at_maximum=outcome)
    blocks = days(40, standing="lapsed", known=(known, known))
    decision = decide(rollout(), evidence(blocks), policy)
    assert decision.action == "rollback"
    assert "can't be judged" in decision.words


def test_a_refresh_of_unknown_quality_is_not_promoted() -> None:
    policy = dataclasses.replace(POLICY, outcome_at_maximum="promote")
    assert decide(rollout(), evidence(days(40, noise=0.2)), policy).action == "rollback"


def test_an_ab_test_promotes_the_better_one() -> None:
    policy = dataclasses.replace(POLICY, mode="ab")
    started = decide(rollout("pending"), evidence(), policy)
    assert (started.action, started.share) == ("start_ab", 0.5)
    assert decide(rollout("ab"), evidence(days(10, gain=0.05)), policy).action == "hold"
    decision = decide(rollout("ab"), evidence(days(20, gain=0.05)), policy)
    assert (decision.action, decision.share) == ("promote", 1.0)


def test_an_ab_test_ends_with_the_incumbent_where_that_is_better() -> None:
    policy = dataclasses.replace(POLICY, mode="ab", margin=0.2)
    assert decide(rollout("ab"), evidence(days(30, gain=-0.05)), policy).action == "rollback"


def test_a_pause_holds_and_stays_guarded() -> None:
    before = rollout("paused", paused_in="canary", step=1)
    decision = decide(before, evidence(days(30, gain=0.1)), POLICY)
    assert (decision.action, decision.share) == ("hold", 0.5)
    assert decide(before, evidence(days(30, gain=-0.3)), POLICY).action == "rollback"


@pytest.mark.parametrize("state", ["promoted", "rolled_back", "superseded"])
def test_what_is_over_is_left_alone(state: State) -> None:
    decision = decide(rollout(state), evidence(days(30, gain=-0.5), candidate=Traffic(requests=9, errors=9)), POLICY)
    assert decision.action == "hold"
    assert decision.event() is None


def test_relative_differences_bound_what_one_bad_block_can_do() -> None:
    """One storm, in which the candidate loses thirty times as much, hides a gain from the absolute comparison only."""
    storm = dataclasses.replace(days(1)[0], incumbent=10.0, candidate=300.0)
    blocks = [*days(25, gain=0.5, noise=0.01), storm, *days(10, gain=0.5, noise=0.01, first=26)]
    late = dataclasses.replace(POLICY, minimum_blocks=30, margin=1.0)
    assert decide(rollout(), evidence(blocks), late).action == "hold"
    assert decide(rollout(), evidence(blocks), dataclasses.replace(late, relative=True)).action == "advance"


traffic = st.builds(
    Traffic, requests=st.integers(0, 1_000), errors=st.integers(0, 3), fallbacks=st.just(0),
    p99_ms=st.none() | st.floats(0, 5),
)  # fmt: skip


@given(
    state=st.sampled_from(["pending", "shadow", "canary", "ab"]),
    blocks=st.integers(0, 45),
    gain=st.floats(-0.5, 0.5),
    standing=st.sampled_from(["open", "waiting", "lapsed"]),
    outcome=st.sampled_from(["keep", "promote"]),
    candidate=traffic,
)
def test_without_a_judged_block_nothing_is_promoted_or_advanced(
    state: State, blocks: int, gain: float, standing: str, outcome: Any, candidate: Traffic
) -> None:
    policy = dataclasses.replace(POLICY, outcome_at_maximum=outcome)
    found = evidence(days(blocks, gain=gain, standing=standing), candidate=candidate)
    assert decide(rollout(state), found, policy).action in ("hold", "rollback", "start_shadow")


@given(
    state=st.sampled_from(["shadow", "canary", "ab"]),
    blocks=st.integers(0, 45),
    gain=st.floats(-0.3, 0.3),
    step=st.integers(0, 1),
)
def test_every_decision_says_why_in_words_and_numbers_and_can_happen(
    state: State, blocks: int, gain: float, step: int
) -> None:
    before = rollout(state, step=step)
    decision = decide(before, evidence(days(blocks, gain=gain)), POLICY)
    assert decision.words.endswith(".")
    document = json.loads(json.dumps(decision.to_json(), allow_nan=False))
    assert {r["name"] for r in document["reasons"]} >= {"harm", "errors", "latency", "fallbacks", "null_share"}
    event = decision.event(by="controller")
    if event is not None:
        after = apply(before, event)
        assert after.revision == before.revision + 1
        assert POLICY.share(after.stage, after.step) == decision.share
