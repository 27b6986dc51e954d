"""Whole rollouts, simulated on real daily losses of arrivals (bench/rollout_error.py makes them, and runs many more).

What was shown once stays shown, so one decision over all days says whether any look would have decided.
"""

import csv
import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

from ninefold.cohorts import CohortRules, cohort_of
from ninefold.rollout.decide import RolloutDecision, decide
from ninefold.rollout.evidence import Answers, BlockLosses, Evidence, NullShare, Traffic, cohort_blocks, paired_blocks
from ninefold.rollout.judge import judge
from ninefold.rollout.policy import RolloutPolicy
from ninefold.rollout.state import Rollout, State

Array = np.ndarray[Any, Any]

START = datetime(2013, 6, 1, tzinfo=UTC)
OLD, NEW = 1, 2
POLICY = RolloutPolicy(maximum_blocks=1_000)
HEALTHY = Traffic(requests=5_000, p99_ms=2.0)
OTHERS = ("other_rows", "no_weather", "no_history", "no_hot", "one_month", "baseline")

with (Path(__file__).parent / "daily_losses.csv").open() as file:
    DAILY = {name: np.array(values) for name, *values in zip(*csv.reader(file), strict=True)}
LOSSES = {name: DAILY[name].astype(float) for name in ("full", *OTHERS)}


def blocks(incumbent: Array, candidate: Array) -> list[BlockLosses]:
    began = [START + timedelta(days=n, hours=9) for n in range(len(incumbent))]
    return [
        BlockLosses(
            block=at.date().isoformat(),
            began=at,
            closed=at + timedelta(hours=15),
            standing="counted",
            incumbent=a,
            candidate=b,
            asked=(800, 800),
            known=(790, 790),
        )
        for at, a, b in zip(began, incumbent.tolist(), candidate.tolist(), strict=True)
    ]


def decided(
    found: list[BlockLosses] | tuple[BlockLosses, ...], *, state: State = "shadow", policy: RolloutPolicy = POLICY
) -> RolloutDecision:
    rollout = Rollout(
        rollout_id="r", use_case="arrivals", incumbent=OLD, candidate=NEW, salt="s", opened_at=START, entered_at=START,
        state=state,
    )  # fmt: skip
    nulls = (NullShare(feature="seats", training=0.1, serving=0.1, requests=5_000),)
    evidence = Evidence(at=START + timedelta(days=300), blocks=found, incumbent=HEALTHY, candidate=HEALTHY, nulls=nulls)
    return decide(rollout, evidence, policy)


@pytest.mark.parametrize("other", OTHERS)
def test_equal_models_are_seldom_decided_about(other: str) -> None:
    """Which of two real models is the candidate is drawn for each whole day: 300 rollouts of 100 days each."""
    rng = np.random.default_rng(1)
    full, others = LOSSES["full"], LOSSES[other]
    actions = []
    for _ in range(300):
        order = rng.permutation(len(full))[:100]
        swap = rng.random(100) < 0.5
        pair = np.where(swap, others[order], full[order]), np.where(swap, full[order], others[order])
        actions.append(decided(blocks(*pair)).action)
    assert set(actions) <= {"hold", "advance", "rollback"}
    assert np.mean([action != "hold" for action in actions]) <= 0.065


@pytest.mark.parametrize("other", OTHERS)
def test_a_better_model_is_found_in_18_days_at_a_daily_mean_of_0_7_deviations(other: str) -> None:
    rng = np.random.default_rng(2)
    difference = LOSSES["full"] - LOSSES[other]
    spread = (difference - difference.mean()) / difference.std()
    found = []
    for _ in range(60):
        gain = rng.choice(spread, 60) * rng.choice([-1.0, 1.0]) + 0.7
        days = blocks(np.full(60, 20.0), 20.0 - gain)
        found.append(next((n for n in range(14, 61) if judge(days[:n], POLICY).better[0] > 0.0), 999))
    assert median(found) <= 18


def test_the_real_models_are_judged_in_the_order_of_their_losses() -> None:
    """From the first of June on, as it was: clear differences are decided, small ones are not."""
    full = LOSSES["full"]
    actions = {other: decided(blocks(full, LOSSES[other])[:60]).action for other in OTHERS}
    assert actions == {
        "other_rows": "hold", "no_weather": "hold", "no_history": "hold",
        "no_hot": "rollback", "one_month": "rollback", "baseline": "rollback",
    }  # fmt: skip
    assert decided(blocks(LOSSES["baseline"], full)[:60]).action == "advance"


def test_looking_every_day_decides_what_looking_once_shows() -> None:
    days = blocks(LOSSES["baseline"], LOSSES["full"])[:40]
    daily = [decided(days[:n]).action for n in range(1, 41)]
    assert daily == sorted(daily, key=["hold", "advance"].index)
    assert daily[-1] == "advance"


class Traffics:
    """Keys of days: each has a level, a truth that comes some time later, and two versions' losses."""

    def __init__(self, rng: np.random.Generator, *, days: int, keys: int, difference: float = 0.0) -> None:
        self.day = np.repeat(np.arange(days), keys)
        count = len(self.day)
        storm = np.repeat(rng.gamma(2.0, 3.0, days), keys)
        self.hard = rng.random(count) < 0.3
        self.losses = storm + rng.gamma(2.0, 3.0, (2, count)) + np.array([[0.0], [difference]])
        self.delay = rng.exponential(4.0, count)
        minute = rng.integers(9 * 60, 23 * 60, count)
        self.decided = np.datetime64(START.replace(tzinfo=None), "us") + self.day.astype("timedelta64[D]")
        self.decided = self.decided + minute.astype("timedelta64[m]")
        self.key = np.array([f"{d}-{n}" for n, d in enumerate(self.day)], dtype=object)

    def rows(self, version: Array, places: Array, known: Array, chance: Array | None = None) -> Answers:
        decided = self.decided[places]
        return Answers(
            key=self.key[places], block=self.day[places].astype(str).astype(object), version=version,
            decided_at=decided, received_at=decided, chance=chance,
            loss=np.where(known, self.losses[version - OLD, places], np.nan),
        )  # fmt: skip

    def shadowed(self, at: datetime | None = None) -> Answers:
        places = np.tile(np.arange(len(self.day)), 2)
        version = np.repeat([OLD, NEW], len(self.day))
        now = np.datetime64((at or datetime.max).replace(tzinfo=None), "us")
        known = self.decided + (self.delay * 3600e6).astype("timedelta64[us]") <= now
        asked = self.decided[places] <= now
        rows = self.rows(version, places, known[places])
        return Answers(
            **{n: getattr(rows, n)[asked] for n in ("key", "block", "version", "decided_at", "received_at", "loss")}
        )


def test_truths_that_come_hours_later_delay_a_decision_and_don_t_change_it() -> None:
    traffic = Traffics(np.random.default_rng(3), days=25, keys=60, difference=-2.0)
    at_once = traffic.shadowed()
    end = START + timedelta(days=60)
    final = paired_blocks(at_once, incumbent=OLD, candidate=NEW, policy=POLICY, at=end)
    seen = []
    for hours in range(9, 24 * 28, 5):
        at = START + timedelta(hours=hours)
        found = paired_blocks(traffic.shadowed(at), incumbent=OLD, candidate=NEW, policy=POLICY, at=at)
        counted = [block for block in found if block.standing == "counted"]
        assert all(block.coverage >= POLICY.coverage and at >= block.closed + POLICY.closes_after for block in counted)
        seen.append(decided(found).action)
    assert seen == sorted(seen, key=["hold", "advance"].index)
    assert seen[-1] == decided(final).action == "advance"
    assert paired_blocks(traffic.shadowed(end), incumbent=OLD, candidate=NEW, policy=POLICY, at=end) == final


def test_a_candidate_that_is_better_where_truths_come_early_is_not_taken_for_better() -> None:
    """It wins on easy keys and loses more on hard ones, whose truths take two days: at every look the truths that are
    known speak for it."""
    traffic = Traffics(np.random.default_rng(4), days=25, keys=60)
    traffic.losses[NEW - OLD] += np.where(traffic.hard, 6.0, -2.0)
    traffic.delay = np.where(traffic.hard, 48.0, traffic.delay)
    flattered = 0
    for day in range(1, 30):
        at = START + timedelta(days=day, hours=6)
        rows = traffic.shadowed(at)
        if day <= 25:
            today = rows.block == str(day - 1)
            flattered += np.nanmean(rows.loss[today & (rows.version == NEW)]) < np.nanmean(
                rows.loss[today & (rows.version == OLD)]
            )
        found = paired_blocks(rows, incumbent=OLD, candidate=NEW, policy=POLICY, at=at)
        assert decided(found).action in ("hold", "rollback")
    assert flattered >= 20


def cohorts(traffic: Traffics, salt: str, share: float) -> Array:
    rules = CohortRules(salt=salt, share=share)
    return np.array([NEW if cohort_of(rules, {}, key) == "candidate" else OLD for key in traffic.key])


def cohort_answers(traffic: Traffics, version: Array, known: Array, share: float) -> Answers:
    return traffic.rows(version, np.arange(len(version)), known, np.where(version == NEW, share, 1 - share))


def test_cohorts_of_equal_models_are_seldom_told_apart_and_others_are() -> None:
    rng = np.random.default_rng(5)
    policy = dataclasses.replace(POLICY, mode="ab", max_coverage_gap=0.05)
    ended = {0.0: 0, -3.0: 0}
    for difference in ended:
        for n in range(100):
            traffic = Traffics(rng, days=30, keys=60, difference=difference)
            version = cohorts(traffic, f"salt-{n}", 0.3)
            rows = cohort_answers(traffic, version, np.full(len(version), True), 0.3)
            at = START + timedelta(days=40)
            found = cohort_blocks(rows, incumbent=OLD, candidate=NEW, policy=policy, at=at)
            ended[difference] += decided(found, state="ab", policy=policy).action != "hold"
    assert ended[0.0] <= 8
    assert ended[-3.0] >= 90


def test_a_cohort_whose_bad_truths_get_lost_is_not_promoted() -> None:
    """The candidate is worse; half of its hard keys never get a truth, and what is left looks better."""
    traffic = Traffics(np.random.default_rng(6), days=30, keys=200)
    traffic.losses += np.where(traffic.hard, 30.0, 0.0)
    traffic.losses[NEW - OLD] += 1.0
    version = cohorts(traffic, "salt", 0.5)
    lost = (version == NEW) & traffic.hard & (np.arange(len(version)) % 2 == 0)
    rows = cohort_answers(traffic, version, ~lost, 0.5)
    found = cohort_blocks(rows, incumbent=OLD, candidate=NEW, policy=POLICY, at=START + timedelta(days=60))
    judged = judge(found, POLICY)
    assert judged.candidate < judged.incumbent
    assert judged.better[0] > 0.0
    decision = decided(found, state="ab")
    assert decision.action == "hold"
    assert "not missing at random" in decision.words
