"""Tests that stay valid while they are watched, over one number a block: the mean difference of two versions there.

Requests of a block move together (one storm delays a day of flights), so a request is never the unit. Two methods,
each where it is the better one; bench/rollout_error.py measures both on real losses, docs/rollouts.md has its numbers.

- *Which is better*, two-sided, from the 14th block on: the asymptotic confidence sequence of Waudby-Smith, Arbour,
  Sinha, Kennedy and Ramdas (2024), Time-uniform central limit theory and asymptotic confidence sequences, Annals of
  Statistics 52 (arXiv 2103.06476). It takes the standard deviation for known, so it may not begin early.
- *Harm*, one-sided, from the 5th block on: the mixture of t-likelihood ratios of Lai (1976), On confidence sequences,
  as in Wang and Ramdas (2024), Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance
  (arXiv 2310.03722). It allows for not knowing the standard deviation, so it may begin early; it is wider later.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

MINIMUM_HARM_BLOCKS = 5
"""Five blocks that all point one way are the fewest whose chance, 1 in 32, is below 5 % whatever their distribution."""
_PRIOR_VARIANCE = 1.0
"""Of the harm's size that the mixture expects, in standard deviations of a block, squared."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Count, mean and spread of the blocks so far: all that a test keeps of them, whatever their number.

    Args:
        count: Blocks.
        mean: Their mean.
        squares: Sum of squared deviations from the mean.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: Iterable[float]) -> Blocks:
        """The blocks of values in order."""
        blocks = cls()
        for value in values:
            blocks = blocks.add(value)
        return blocks

    def add(self, value: float) -> Blocks:
        """With one block more. Source: Welford (1962), Note on a method for calculating corrected sums of squares."""
        count = self.count + 1
        step = value - self.mean
        mean = self.mean + step / count
        return Blocks(count, mean, self.squares + step * (value - mean))

    @property
    def deviation(self) -> float:
        """Standard deviation of the blocks, as of a whole population; NaN where there are none."""
        return math.sqrt(self.squares / self.count) if self.count else math.nan


def interval(blocks: Blocks, *, alpha: float, tightest_at: int, minimum: int) -> tuple[float, float]:
    """Where the mean lies, with probability 1 − ``alpha`` at all times from ``minimum`` on at once.

    Args:
        blocks: What was seen.
        alpha: Chance that it is ever wrong.
        tightest_at: Number of blocks at which it is as narrow as it can be made.
        minimum: With fewer blocks it says nothing: (−∞, ∞).
    """
    if blocks.count < minimum:
        return -math.inf, math.inf
    variance = _mixed(blocks.count, alpha, tightest_at)
    reach = _reach(blocks, variance, math.log(math.sqrt(variance + 1.0) / alpha))
    return blocks.mean - reach, blocks.mean + reach


def lower_bound(blocks: Blocks, *, alpha: float, tightest_at: int, minimum: int) -> float:
    """What the mean lies above, with probability 1 − ``alpha`` at all times from ``minimum`` on at once.

    The one-sided form of ``interval``, with the normal mixture of Howard, Ramdas, McAuliffe and Sekhon (2021),
    Time-uniform, nonparametric, nonasymptotic confidence sequences, equation 14.
    """
    if blocks.count < minimum:
        return -math.inf
    variance = _mixed(blocks.count, 2.0 * alpha, tightest_at)
    return blocks.mean - _reach(blocks, variance, math.log1p(math.sqrt(variance + 1.0) / (2.0 * alpha)))


def _mixed(count: int, alpha: float, tightest_at: int) -> float:
    """``count`` times ρ², the variance of the mixture that is narrowest at ``tightest_at``."""
    doubt = -2.0 * math.log(alpha)
    return count * (doubt + math.log1p(doubt)) / tightest_at


def _reach(blocks: Blocks, variance: float, doubt: float) -> float:
    return blocks.deviation * math.sqrt(2.0 * (variance + 1.0) / (blocks.count * variance) * doubt)


def evidence_above_zero(blocks: Blocks, *, minimum: int = MINIMUM_HARM_BLOCKS) -> float:
    """How much more likely the blocks are if their mean lies above 0 than if it is 0: a likelihood ratio, as its log.

    It may be looked at after every block: where the mean of normal blocks is 0 or less, the chance that it ever exceeds
    log(1/α) is at most α. −∞ where fewer than ``minimum`` were seen, or their mean is not above 0.
    """
    count = blocks.count
    if count < minimum or blocks.mean <= 0.0:
        return -math.inf
    spread = 1.0 + count * _PRIOR_VARIANCE
    # t² over its degrees of freedom; without any spread the ratio is at its greatest.
    ratio = count * blocks.mean**2 / blocks.squares if blocks.squares > 0.0 else math.inf
    growth = math.log1p(ratio) - math.log1p(ratio / spread) if math.isfinite(ratio) else math.log(spread)
    both = count / 2.0 * growth - 0.5 * math.log(spread)
    # Half of the mixture lies below 0. As the mean is above, that half is at most 1, so the other is at least this.
    above = 2.0 - math.exp(-both) if both > -1.0 else 0.0
    return both + math.log(above) if above > 0.0 else -math.inf
