"""The tests behind a rollout say what their definitions say, and keep their level where it is known exactly."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ninefold.rollout.sequential import MINIMUM_HARM_BLOCKS, Blocks, evidence_above_zero, interval, lower_bound

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80)
LOOKS = 60


@given(values)
def test_blocks_one_by_one_have_the_mean_and_spread_of_all(numbers: list[float]) -> None:
    blocks = Blocks.of(numbers)
    assert blocks.count == len(numbers)
    assert blocks.mean == pytest.approx(np.mean(numbers), abs=1e-6)
    assert blocks.deviation == pytest.approx(np.std(numbers), rel=1e-6, abs=1e-5)


def test_the_interval_is_the_published_one() -> None:
    """Written out by hand for 20 blocks of mean 1 and deviation 2."""
    rho2 = (-2 * math.log(0.05) + math.log(1 - 2 * math.log(0.05))) / 30
    reach = 2 * math.sqrt(2 * (20 * rho2 + 1) / (20**2 * rho2) * math.log(math.sqrt(20 * rho2 + 1) / 0.05))
    low, high = interval(Blocks(20, 1.0, 80.0), alpha=0.05, tightest_at=30, minimum=14)
    assert (low, high) == (pytest.approx(1 - reach), pytest.approx(1 + reach))


@given(st.integers(1, 13), st.floats(0.1, 10))
def test_too_few_blocks_say_nothing(count: int, mean: float) -> None:
    blocks = Blocks(count, mean, 1e-6)
    assert interval(blocks, alpha=0.05, tightest_at=30, minimum=14) == (-math.inf, math.inf)
    assert lower_bound(blocks, alpha=0.05, tightest_at=30, minimum=14) == -math.inf


@given(st.integers(14, 200), st.floats(-5, 5), st.floats(0.1, 1e3))
def test_a_one_sided_bound_lies_above_the_end_of_the_two_sided(count: int, mean: float, squares: float) -> None:
    blocks = Blocks(count, mean, squares)
    low, _ = interval(blocks, alpha=0.05, tightest_at=30, minimum=14)
    assert low < lower_bound(blocks, alpha=0.05, tightest_at=30, minimum=14) < mean


def test_it_is_narrowest_for_its_count_where_it_was_to_be() -> None:
    blocks = Blocks(30, 0.0, 30.0)
    widths = {at: interval(blocks, alpha=0.05, tightest_at=at, minimum=14)[1] for at in (5, 20, 30, 45, 200)}
    assert min(widths, key=lambda at: widths[at]) == 30


@given(st.integers(MINIMUM_HARM_BLOCKS, 100), st.floats(0.01, 5), st.floats(0.01, 100), st.floats(1e-3, 1e3))
def test_evidence_does_not_depend_on_the_unit(count: int, mean: float, squares: float, unit: float) -> None:
    plain = evidence_above_zero(Blocks(count, mean, squares))
    scaled = evidence_above_zero(Blocks(count, mean * unit, squares * unit**2))
    assert scaled == pytest.approx(plain, rel=1e-6, abs=1e-6) or scaled == plain


@pytest.mark.parametrize("size", [0.3, 0.8, 2.0])
def test_evidence_is_a_mixture_of_likelihood_ratios_of_t(size: float) -> None:
    """Against numerical integration over the effects above 0, with a normal prior; what it takes off is at most 1."""
    sample = np.random.default_rng(3).normal(size, 1.0, 12)
    t = sample.mean() / sample.std(ddof=1) * math.sqrt(len(sample))
    effects = np.linspace(1e-3, 8.0, 2_000)
    ratios = stats.nct.pdf(t, len(sample) - 1, effects * math.sqrt(len(sample))) / stats.t.pdf(t, len(sample) - 1)
    mixture = 2.0 * np.trapezoid(ratios * stats.norm.pdf(effects), effects)
    found = math.exp(evidence_above_zero(Blocks.of(sample)))
    assert mixture - 1.0 <= found <= mixture * 1.001


@given(st.floats(0.1, 100), st.floats(0, 1))
def test_four_blocks_are_no_evidence_however_clear(mean: float, squares: float) -> None:
    assert evidence_above_zero(Blocks(MINIMUM_HARM_BLOCKS - 1, mean, squares)) == -math.inf


def test_blocks_without_spread_are_evidence_as_far_as_their_number_goes() -> None:
    same = [evidence_above_zero(Blocks(count, 1.0, 0.0)) for count in (5, 10, 50)]
    assert all(math.isfinite(found) for found in same)
    assert same == sorted(same)
    assert evidence_above_zero(Blocks(50, 0.0, 0.0)) == -math.inf


def test_harm_is_seen_on_normal_blocks_without_a_difference_at_most_as_often_as_declared() -> None:
    """2,000 rollouts of 60 blocks, a look after each; declared is 5 %."""
    draws = np.random.default_rng(5).standard_normal((2_000, LOOKS))
    assert 0.01 < _share_ever(draws, 0.05) <= 0.05


def test_harm_is_soon_seen_where_it_is_large() -> None:
    draws = np.random.default_rng(6).standard_normal((200, 8)) + 3.0
    assert _share_ever(draws, 0.05) == 1.0


def _share_ever(draws: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", alpha: float) -> float:
    seen = 0
    for row in draws.tolist():
        blocks = Blocks()
        for value in row:
            blocks = blocks.add(value)
            if evidence_above_zero(blocks) >= -math.log(alpha):
                seen += 1
                break
    return seen / len(draws)
