"""From answers to blocks: which loss counts, when a block counts, and what is told of what is missing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.errors import DataError
from ninefold.rollout.evidence import Answers, BlockLosses, cohort_blocks, covers_alike, paired_blocks
from ninefold.rollout.policy import RolloutPolicy

DAY = datetime(2013, 7, 1, 12, tzinfo=UTC)
OLD, NEW = 1, 2
POLICY = RolloutPolicy(closes_after=timedelta(hours=6), deadline=timedelta(days=2), coverage=0.9, least_coverage=0.5)
CLOSED = DAY + timedelta(hours=6)
LAPSED = CLOSED + timedelta(days=2)


def answers(*rows: tuple[Any, ...], chance: list[float] | None = None) -> Answers:
    """Rows of (key, version, loss) on one day, or with a fourth: minutes from the decision moment to the asking, and a
    fifth: days later."""
    key, version, loss, late, days = zip(*((*row, 0, 0)[:5] for row in rows), strict=True)
    decided = [DAY + timedelta(days=d) for d in days]
    micros = np.array([d.replace(tzinfo=None) for d in decided], dtype="datetime64[us]")
    return Answers(
        key=np.array(key, dtype=object),
        block=np.array([d.date().isoformat() for d in decided], dtype=object),
        version=np.array(version),
        decided_at=micros,
        received_at=micros + np.array(late, dtype="timedelta64[m]"),
        loss=np.array([np.nan if x is None else x for x in loss], dtype=float),
        chance=None if chance is None else np.array(chance),
    )


def only(rows: Answers, at: datetime = CLOSED, policy: RolloutPolicy = POLICY) -> BlockLosses:
    (block,) = paired_blocks(rows, incumbent=OLD, candidate=NEW, policy=policy, at=at)
    return block


def both(count: int, *, known: int, offset: float = 0.0) -> list[tuple[Any, ...]]:
    """Keys that both versions answered; the truth of ``known`` of them has come."""
    losses = [float(n) if n < known else None for n in range(count)]
    return [(f"k{n}", OLD, x) for n, x in enumerate(losses)] + [
        (f"k{n}", NEW, None if x is None else x + offset) for n, x in enumerate(losses)
    ]


def test_both_are_judged_on_the_same_keys() -> None:
    """The candidate never answered the hard key: it does not look better for that."""
    block = only(answers(("a", OLD, 2.0), ("b", OLD, 4.0), ("hard", OLD, 90.0), ("a", NEW, 1.0), ("b", NEW, 3.0)))
    assert (block.incumbent, block.candidate) == (3.0, 2.0)
    assert (block.asked, block.known) == ((3, 3), (3, 2))


def test_of_several_answers_the_last_before_it_was_too_late_counts() -> None:
    rows = answers(
        ("a", OLD, 1.0, -60), ("a", OLD, 2.0, 1), ("a", OLD, 50.0, 16),
        ("a", NEW, 7.0, 1), ("a", NEW, 9.0, -60), ("a", NEW, 0.0, 600),
    )  # fmt: skip
    block = only(rows)
    assert (block.incumbent, block.candidate, block.asked) == (2.0, 7.0, (1, 1))


def test_other_versions_are_not_looked_at() -> None:
    block = only(answers(("a", OLD, 1.0), ("a", NEW, 2.0), ("a", 7, 99.0), ("z", 7, 99.0)))
    assert (block.incumbent, block.candidate, block.asked) == (1.0, 2.0, (1, 1))


def test_a_block_is_open_until_nobody_asks_any_more() -> None:
    """At noon every morning flight has landed; that is not the day."""
    assert only(answers(*both(10, known=10)), CLOSED - timedelta(minutes=1)).standing == "open"
    assert only(answers(*both(10, known=10)), CLOSED).standing == "counted"


@pytest.mark.parametrize(
    ("known", "closed", "lapsed"),
    [(10, "counted", "counted"), (9, "counted", "counted"), (8, "waiting", "counted"), (5, "waiting", "counted"),
     (4, "waiting", "lapsed"), (0, "waiting", "lapsed")],
)  # fmt: skip
def test_a_block_counts_by_coverage_or_by_its_deadline(known: int, closed: str, lapsed: str) -> None:
    rows = answers(*both(10, known=known))
    assert only(rows, CLOSED).standing == closed
    assert only(rows, LAPSED - timedelta(seconds=1)).standing == closed
    assert only(rows, LAPSED).standing == lapsed


def test_a_clock_that_jumps_back_opens_the_block_again() -> None:
    rows = answers(*both(10, known=10))
    assert only(rows, LAPSED).standing == "counted"
    assert only(rows, DAY - timedelta(days=9)).standing == "open"


def test_nothing_known_is_no_loss() -> None:
    assert paired_blocks(answers(("a", 7, 1.0)), incumbent=OLD, candidate=NEW, policy=POLICY, at=LAPSED) == ()
    block = only(answers(("a", OLD, None), ("a", NEW, None)), LAPSED)
    assert np.isnan(block.incumbent)
    assert block.standing == "lapsed"


def test_truths_of_different_keys_make_no_pair() -> None:
    block = only(answers(("a", OLD, 1.0), ("b", OLD, None), ("a", NEW, None), ("b", NEW, 1.0)), LAPSED)
    assert block.standing == "lapsed"


def test_blocks_come_in_the_order_in_which_they_began() -> None:
    rows = answers(("a", OLD, 1.0, 0, 2), ("b", OLD, 1.0, 0, 0), ("c", OLD, 1.0, 0, 1))
    found = paired_blocks(rows, incumbent=OLD, candidate=NEW, policy=POLICY, at=LAPSED)
    assert [block.block for block in found] == ["2013-07-01", "2013-07-02", "2013-07-03"]
    assert found[0].began == found[0].closed == DAY


@given(st.permutations(range(20)))
def test_the_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    rows = both(10, known=9, offset=1.0)
    assert only(answers(*(rows[n] for n in order))) == only(answers(*rows))


def test_cohorts_are_weighed_by_the_chance_of_their_draw() -> None:
    """The share grew within the block, from 10 % in its easy half to 50 % in its hard half."""
    rows, chance = [], []
    for half, (share, loss) in enumerate(((0.1, 10.0), (0.5, 30.0))):
        for n in range(100):
            is_new = n < share * 100
            rows.append((f"{half}-{n}", NEW if is_new else OLD, loss))
            chance.append(share if is_new else 1 - share)
    found = cohort_blocks(answers(*rows, chance=chance), incumbent=OLD, candidate=NEW, policy=POLICY, at=CLOSED)
    assert found[0].incumbent == pytest.approx(20.0)
    assert found[0].candidate == pytest.approx(20.0)
    assert found[0].asked == (140, 60)
    assert found[0].standing == "counted"


def test_a_block_without_one_of_the_cohorts_never_counts() -> None:
    rows = answers(("a", OLD, 1.0), ("b", OLD, 1.0), chance=[0.5, 0.5])
    (block,) = cohort_blocks(rows, incumbent=OLD, candidate=NEW, policy=POLICY, at=LAPSED)
    assert block.standing == "lapsed"


@pytest.mark.parametrize("chance", [None, [0.0], [float("nan")], [1.5]])
def test_cohorts_without_a_chance_are_refused(chance: list[float] | None) -> None:
    with pytest.raises(DataError, match="chance"):
        cohort_blocks(answers(("a", OLD, 1.0), chance=chance), incumbent=OLD, candidate=NEW, policy=POLICY, at=CLOSED)


def test_columns_of_different_lengths_are_refused() -> None:
    rows = answers(("a", OLD, 1.0))
    with pytest.raises(DataError, match="loss"):
        Answers(
            key=rows.key, block=rows.block, version=rows.version, decided_at=rows.decided_at,
            received_at=rows.received_at, loss=np.zeros(2),
        )  # fmt: skip


@pytest.mark.parametrize(("dropped", "alike"), [(0, True), (2, True), (20, False)])
def test_a_candidate_that_drops_answers_is_not_covered_alike(dropped: int, alike: bool) -> None:
    rows = [row for row in both(200, known=200) if row[1] == OLD or int(row[0][1:]) >= dropped]
    found, gap = covers_alike([only(answers(*rows))], POLICY.max_coverage_gap)
    assert found == alike
    assert gap == pytest.approx(dropped / 200)
