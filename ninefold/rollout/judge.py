"""What the losses say: is the candidate better, is it harmful, is it at least no worse; and may they be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ninefold.rollout.evidence import BlockLosses, covers_alike
from ninefold.rollout.policy import RolloutPolicy
from ninefold.rollout.reason import Reason
from ninefold.rollout.sequential import (
    Blocks,
    evidence_above_zero,
    interval,
    lower_bound,
)


def gain(block: BlockLosses, policy: RolloutPolicy, *, beyond: float) -> float:
    """How much better the candidate is in a block than an incumbent would be whose loss is lower by a share ``beyond``.

    In the loss's unit; where the policy compares relatively, as a share of the block's level (twice the difference over
    the sum, which lies within ±2, so that one bad block can't outweigh all others).
    """
    incumbent, candidate = block.incumbent, block.candidate
    if not policy.relative:
        return (1.0 - beyond) * incumbent - candidate
    level = incumbent + candidate
    return (2.0 * (incumbent - candidate) / level if level else 0.0) - beyond


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the counted blocks say.

    Args:
        blocks: Counted blocks.
        lapsed: Blocks whose deadline passed with too little known.
        waiting: Closed blocks whose truths are awaited.
        incumbent: Mean loss over the counted blocks; NaN where there are none.
        candidate: Likewise.
        better: Interval of the gain beyond the minimum effect.
        harm: Evidence that the candidate is worse by more than the margin, as log of a likelihood ratio.
        harmful: Whether that is enough.
        no_worse: What the gain beyond a loss higher by the margin is above; above 0, the candidate is non-inferior.
        trusted: Whether the losses may be believed: blocks and truths are not missing in a way that matters.
    """

    blocks: int
    lapsed: int
    waiting: int
    incumbent: float
    candidate: float
    better: tuple[float, float]
    harm: float
    harmful: bool
    no_worse: float
    trusted: Reason

    @property
    def settled(self) -> int:
        """Blocks of which nothing more is expected."""
        return self.blocks + self.lapsed

    @property
    def change(self) -> float:
        """How much worse the candidate is, as a share of the incumbent's loss; NaN where unknown."""
        return self.candidate / self.incumbent - 1.0 if self.incumbent else math.nan

    def words(self) -> str:
        """The losses in a sentence, as far as they are known."""
        if not self.blocks:
            return "No block is judged yet"
        over = f"Over {self.blocks} block{'' if self.blocks == 1 else 's'}"
        if not math.isfinite(self.change):
            return f"{over} the loss is {self.candidate:.4g} against {self.incumbent:.4g}"
        side = "worse" if self.change > 0 else "better"
        return (
            f"{over} the loss is {self.candidate:.4g} against the incumbent's {self.incumbent:.4g}, "
            f"{abs(self.change):.1%} {side}"
        )


def judge(blocks: Sequence[BlockLosses], policy: RolloutPolicy) -> Judgement:
    """Judges the blocks, as whoever looked after each of them: what was shown once stays shown."""
    counted = [block for block in blocks if block.standing == "counted"]
    better, within, beyond = Blocks(), Blocks(), Blocks()
    low, high, harm, no_worse = -math.inf, math.inf, -math.inf, -math.inf
    alpha, tightest_at, minimum = policy.alpha, policy.tightest_at, policy.minimum_blocks
    for block in counted:
        better = better.add(gain(block, policy, beyond=policy.minimum_effect))
        within = within.add(gain(block, policy, beyond=-policy.margin))
        # What is not gained on an incumbent that is worse by the margin is lost beyond it.
        beyond = beyond.add(-gain(block, policy, beyond=-policy.margin))
        lower, upper = interval(better, alpha=alpha, tightest_at=tightest_at, minimum=minimum)
        low, high = max(low, lower), min(high, upper)
        no_worse = max(no_worse, lower_bound(within, alpha=alpha, tightest_at=tightest_at, minimum=minimum))
        harm = max(harm, evidence_above_zero(beyond, minimum=policy.harm_blocks))
    lapsed = sum(block.standing == "lapsed" for block in blocks)
    return Judgement(
        blocks=len(counted),
        lapsed=lapsed,
        waiting=sum(block.standing == "waiting" for block in blocks),
        incumbent=Blocks.of(block.incumbent for block in counted).mean if counted else math.nan,
        candidate=Blocks.of(block.candidate for block in counted).mean if counted else math.nan,
        better=(low, high),
        harm=harm,
        harmful=harm >= -math.log(alpha),
        no_worse=no_worse,
        trusted=_trusted(counted, lapsed, policy),
    )


def harm_reason(found: Judgement, policy: RolloutPolicy) -> Reason:
    """Whether the candidate is worse by more than the margin."""
    bound = -math.log(policy.alpha)
    margin = f"the margin of {policy.margin:.1%}"
    if found.blocks < policy.harm_blocks:
        words = f"{found.words()}; harm is tested from block {policy.harm_blocks} on."
        return Reason("harm", "unknown", words, None, bound)
    if found.harmful:
        words = f"{found.words()}: it is worse by more than {margin} (error {policy.alpha:g})."
        return Reason("harm", "failed", words, found.harm, bound)
    return Reason("harm", "passed", f"{found.words()}: not shown to be worse by more than {margin}.", found.harm, bound)


def _trusted(counted: Sequence[BlockLosses], lapsed: int, policy: RolloutPolicy) -> Reason:
    if not counted:
        return Reason("coverage", "unknown", "No truth is known of a whole block yet.", None, policy.max_coverage_gap)
    share = lapsed / (lapsed + len(counted))
    if share > policy.max_lapsed_share:
        words = (
            f"{lapsed} of {lapsed + len(counted)} blocks never got enough truths ({policy.least_coverage:.0%}): the "
            "others may be the easy ones."
        )
        return Reason("coverage", "unknown", words, share, policy.max_lapsed_share)
    bound = policy.max_coverage_gap
    alike, gap = covers_alike(counted, bound)
    words = f"The candidate's coverage is {abs(gap):.2%} {'lower' if gap > 0 else 'higher'} than the incumbent's"
    if not alike:
        return Reason("coverage", "unknown", f"{words}: what is missing is not missing at random.", gap, bound)
    return Reason("coverage", "passed", f"{words}; {bound:.2%} are allowed.", gap, bound)
