"""The decision about a rollout, as a function of where it stands, what is known, and what its use case allows.

Guardrails and harm stop a candidate at any time. Superiority is decided once: in shadow, or in an A/B test. Canary
steps go on by guardrails and a number of blocks. What is missing is a hold, never a promotion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ninefold.clock import format_instant
from ninefold.rollout.evidence import Evidence
from ninefold.rollout.guardrails import FEATURES_NULL, watch
from ninefold.rollout.judge import Judgement, harm_reason, judge
from ninefold.rollout.policy import RolloutPolicy
from ninefold.rollout.reason import Reason
from ninefold.rollout.state import ENDED, Event, Rollout

Action = Literal["hold", "start_shadow", "start_ab", "advance", "promote", "rollback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutDecision:
    """What to do, why, and the numbers behind it.

    Args:
        action: What to do.
        at: The moment of the look.
        revision: Revision of the rollout that it rests on.
        step: The step that begins, for ``advance``.
        share: Share of the audience that gets the candidate's answer from now on.
        reasons: What decided it first, then all else that was looked at.
        numbers: Counts and losses; null where unknown.
    """

    action: Action
    at: datetime
    revision: int
    step: int | None
    share: float
    reasons: tuple[Reason, ...]
    numbers: dict[str, float | int | None] = field(default_factory=dict)

    @property
    def deciding(self) -> tuple[Reason, ...]:
        """The reasons that decided."""
        return tuple(reason for reason in self.reasons if reason.finding == "failed") or self.reasons[:1]

    @property
    def words(self) -> str:
        """Why, in words: the reasons that decided."""
        return " ".join(reason.words for reason in self.deciding)

    def event(self, *, by: str = "controller") -> Event | None:
        """What it does to the rollout; None for ``hold``."""
        if self.action == "hold":
            return None
        return Event(kind=self.action, at=self.at, revision=self.revision, step=self.step, by=by, words=self.words)

    def to_json(self) -> dict[str, Any]:
        """A JSON object, for history."""
        return {
            "action": self.action,
            "at": format_instant(self.at),
            "revision": self.revision,
            "step": self.step,
            "share": self.share,
            "reasons": [reason.to_json() for reason in self.reasons],
            "numbers": self.numbers,
        }


def decide(rollout: Rollout, evidence: Evidence, policy: RolloutPolicy) -> RolloutDecision:
    """What to do about a rollout now."""
    look = _Look(rollout, evidence, policy)
    if rollout.state in ENDED:
        return look.hold(Reason("state", "passed", f"The rollout is over: {rollout.state}."))
    if rollout.state == "pending":
        return look.begin()
    return look.stop() or look.go_on()


class _Look:
    """One look at one rollout: its parts share what was found."""

    def __init__(self, rollout: Rollout, evidence: Evidence, policy: RolloutPolicy) -> None:
        self._rollout, self._evidence, self._policy = rollout, evidence, policy
        self._found = judge(evidence.blocks, policy)
        self._harm = harm_reason(self._found, policy)
        self._watched = watch(policy.guardrails, evidence)

    def begin(self) -> RolloutDecision:
        if self._evidence.obstacle:
            return self.hold(Reason("obstacle", "unknown", self._evidence.obstacle))
        ab = self._policy.mode == "ab"
        reason = Reason("state", "passed", f"Nothing stands in the way of {'an A/B test' if ab else 'shadowing'}.")
        return self._act("start_ab" if ab else "start_shadow", (reason,))

    def stop(self) -> RolloutDecision | None:
        failed = [reason for reason in (self._harm, *self._watched) if reason.finding == "failed"]
        # In shadow nobody gets the candidate's answer, so its end can wait until its losses say what the nulls cost.
        if [reason.name for reason in failed] == [FEATURES_NULL] and self._rollout.stage == "shadow":
            blocks = self._policy.diagnosis_blocks
            if self._found.settled < blocks:
                words = f"{failed[0].words} Its loss is watched for {blocks} blocks, then it ends."
                named = Reason(FEATURES_NULL, "unknown", words, failed[0].number, failed[0].bound)
                return self.hold(named)
        return self._act("rollback", failed) if failed else None

    def go_on(self) -> RolloutDecision:
        rollout, found = self._rollout, self._found
        if rollout.state == "paused":
            return self.hold(Reason("state", "unknown", f"The rollout is paused in {rollout.stage}."))
        if rollout.state == "canary":
            return self._canary()
        if found.trusted.finding == "passed":
            if found.better[0] > 0.0:
                return self._after_test(self._better("passed", "better by more than"))
            if found.better[1] < 0.0 and self._policy.outcome_at_maximum == "keep":
                return self._act("rollback", (self._better("failed", "not better by"),))
        if found.settled >= self._policy.maximum_blocks:
            return self._maximum()
        if found.trusted.finding != "passed":
            return self.hold(found.trusted)
        return self.hold(self._better("unknown", "not shown to be better by more than"))

    def _after_test(self, reason: Reason) -> RolloutDecision:
        """The test is over and speaks for the candidate; what it did to the service has to be known as well."""
        unknown = [watched for watched in self._watched if watched.finding == "unknown"]
        if unknown:
            return self.hold(*unknown, reason)
        if self._rollout.state == "ab":
            return self._act("promote", (reason,))
        return self._act("advance", (reason,), step=0)

    def _maximum(self) -> RolloutDecision:
        found, policy = self._found, self._policy
        words = f"{found.settled} blocks have passed, {policy.maximum_blocks} at most are waited for"
        if found.trusted.finding != "passed":
            reason = Reason("maximum", "failed", f"{words}, and the losses can't be judged: the incumbent stays.")
            return self._act("rollback", (reason, found.trusted))
        if policy.outcome_at_maximum == "promote" and found.no_worse > 0.0:
            words = f"{words}. {found.words()}: no worse than by the margin of {policy.margin:.1%}."
            return self._after_test(Reason("non_inferior", "passed", words, found.no_worse, 0.0))
        words = f"{words}. {found.words()}: undecided, so the incumbent stays."
        return self._act("rollback", (Reason("maximum", "failed", words, found.settled, policy.maximum_blocks),))

    def _canary(self) -> RolloutDecision:
        rollout, policy = self._rollout, self._policy
        since = [block for block in self._evidence.blocks if block.began >= rollout.entered_at]
        counted = sum(block.standing == "counted" for block in since)
        lapsed = sum(block.standing == "lapsed" for block in since)
        share = policy.share("canary", rollout.step)
        lasted = Reason(
            "step", "passed" if counted >= policy.blocks_per_step else "unknown",
            f"The step at {share:.0%} has lasted {counted} of {policy.blocks_per_step} blocks.",
            counted, policy.blocks_per_step,
        )  # fmt: skip
        needed = (lasted, self._found.trusted, *self._watched)
        unknown = [reason for reason in needed if reason.finding == "unknown"]
        if not unknown:
            last = rollout.step + 1 >= len(policy.steps)
            return self._act("promote", (lasted,)) if last else self._act("advance", (lasted,), step=rollout.step + 1)
        if counted + lapsed >= policy.maximum_blocks:
            words = f"The step at {share:.0%} has had {counted + lapsed} blocks and can't go on: {unknown[0].words}"
            return self._act("rollback", (Reason("maximum", "failed", words, counted + lapsed, policy.maximum_blocks),))
        return self.hold(*unknown)

    def _better(self, finding: Literal["passed", "failed", "unknown"], verdict: str) -> Reason:
        found, policy = self._found, self._policy
        words = f"{found.words()}: {verdict} {policy.minimum_effect:.1%} (error {policy.alpha:g})."
        if found.blocks < policy.minimum_blocks:
            words = f"{found.words()}; it is judged from block {policy.minimum_blocks} on."
        low = found.better[1] if finding == "failed" else found.better[0]
        return Reason("better", finding, words, low if math.isfinite(low) else None, 0.0)

    def hold(self, *reasons: Reason) -> RolloutDecision:
        return self._act("hold", reasons)

    def _act(self, action: Action, reasons: Sequence[Reason], *, step: int | None = None) -> RolloutDecision:
        rollout, policy = self._rollout, self._policy
        share = {
            "start_ab": policy.ab_share, "start_shadow": 0.0, "rollback": 0.0, "promote": 1.0,
            "advance": policy.share("canary", step or 0), "hold": policy.share(rollout.stage, rollout.step),
        }[action]  # fmt: skip
        named = {reason.name for reason in reasons}
        others = () if rollout.state in (*ENDED, "pending") else (self._harm, *self._watched, self._found.trusted)
        return RolloutDecision(
            action=action,
            at=self._evidence.at,
            revision=rollout.revision,
            step=step,
            share=share,
            reasons=(*reasons, *(reason for reason in others if reason.name not in named)),
            numbers=_numbers(self._found, self._evidence),
        )


def _numbers(found: Judgement, evidence: Evidence) -> dict[str, float | int | None]:
    numbers: dict[str, float | int] = {
        "blocks": found.blocks,
        "blocks_waiting": found.waiting,
        "blocks_lapsed": found.lapsed,
        "incumbent_loss": found.incumbent,
        "candidate_loss": found.candidate,
        "candidate_worse_by": found.change,
        "gain_at_least": found.better[0],
        "gain_at_most": found.better[1],
        "harm_evidence": found.harm,
        "incumbent_requests": evidence.incumbent.requests,
        "candidate_requests": evidence.candidate.requests,
    }
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}
