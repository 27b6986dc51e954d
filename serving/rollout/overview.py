"""What people are shown of a rollout: where it stands, what was found, and what it waits for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ninefold.clock import format_instant
from ninefold.rollout.decide import RolloutDecision
from ninefold.rollout.evidence import BlockLosses
from ninefold.rollout.judge import judge
from ninefold.store import PublishedRoutes, RolloutStep, StoredRollout
from serving.rollout.controller import Standing
from serving.traffic.mirror import Mirror

_STANDINGS = ("counted", "waiting", "lapsed", "open")
_ACTIONS = {
    "start_shadow": "starts to shadow",
    "start_ab": "starts the A/B test",
    "advance": "goes on to the next share",
    "promote": "promotes",
    "rollback": "rolls back",
    "rebase": "is compared with the version that is live now",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A rollout at a glance.

    Args:
        found: How it stands.
        decision: What the controller decides on what is known now.
        action: The same in a word, ``rebase`` included.
        blocks: Blocks of the test.
        observed: Cohort → answers that clients got since the step began.
        unit: Of the loss.
        loss: Name of the loss.
        mirror: What a cluster's route shows of it.
        front_end: What the front end says of it; None where it did not answer.
        routes: The routes in force on a cluster; None where there is none.
    """

    found: Standing
    decision: RolloutDecision
    action: str
    blocks: tuple[BlockLosses, ...]
    observed: Mapping[str, int]
    loss: str
    unit: str
    mirror: Mirror
    front_end: Mapping[str, Any] | None = field(default=None)
    routes: PublishedRoutes | None = None

    @property
    def observed_share(self) -> float | None:
        """Share of the answers since the step began that were the candidate's; None where nobody asked."""
        total = sum(self.observed.values())
        return self.observed.get("candidate", 0) / total if total else None

    @property
    def counts(self) -> dict[str, int]:
        """Standing of a block → how many stand so."""
        return {standing: sum(block.standing == standing for block in self.blocks) for standing in _STANDINGS}

    def to_json(self) -> dict[str, Any]:
        """A JSON object, for programs."""
        rollout = self.found.rollout
        share = self.found.policy.share(rollout.stage, rollout.step)
        return {
            **rollout_json(self.found.kept),
            "stage": rollout.stage,
            "entered_at": format_instant(rollout.entered_at),
            "live": self.found.live,
            "share": {"configured": share, "observed": self.observed_share, "answers": dict(self.observed)},
            "blocks": self.counts,
            "losses": {
                "loss": self.loss,
                "incumbent": self.decision.numbers.get("incumbent_loss"),
                "candidate": self.decision.numbers.get("candidate_loss"),
            },
            "next": {"action": self.action, "words": self.decision.words},
            "reasons": [reason.to_json() for reason in self.decision.reasons],
            "numbers": self.decision.numbers,
            "front_end": None if self.front_end is None else dict(self.front_end),
            "recorded": {"share": self.mirror.share_words, "reasons": self.mirror.reason_words},
            "routes": None if self.routes is None else routes_json(self.routes),
        }

    def lines(self) -> Iterator[tuple[str, str]]:
        """What stands where, as name and words."""
        found, rollout, policy = self.found, self.found.rollout, self.found.policy
        paused = f", paused in {rollout.stage}" if rollout.state == "paused" else ""
        step = f", step {rollout.step + 1} of {len(policy.steps)}" if rollout.stage == "canary" else ""
        yield "state", f"{rollout.state}{paused}{step}, since {rollout.entered_at:%Y-%m-%d %H:%M}"
        yield "candidate", f"version {rollout.candidate}, against version {rollout.incumbent}"
        observed = "nobody asked yet" if self.observed_share is None else f"{self.observed_share:.2%} observed"
        counts = ", ".join(f"{cohort} {n:,}" for cohort, n in self.observed.items())
        yield "share", f"{policy.share(rollout.stage, rollout.step):.2%} configured, {observed} ({counts})"
        yield "blocks", ", ".join(f"{count} {standing}" for standing, count in self.counts.items())
        yield "losses", f"{judge(self.blocks, policy).words()} ({self.loss}{f', {self.unit}' if self.unit else ''})"
        if self.front_end is not None:
            yield "front end", _front_end(self.front_end)
        if self.mirror.reasons:
            yield "recorded", self.mirror.reason_words
        if self.routes is not None:
            since = f"revision {self.routes.revision}, since {self.routes.published_at:%Y-%m-%d %H:%M}"
            yield "routes", f"{since}; held: {self.routes.problem}" if self.routes.problem else since
        yield "opened", f"{found.kept.opened_at:%Y-%m-%d %H:%M}{_because(found.steps[0]) if found.steps else ''}"

    @property
    def outlook(self) -> str:
        """What comes next, in a sentence."""
        if self.action == "hold":
            return f"It waits: {self.decision.words}{_remedy(self.decision)}"
        return f"The next look {_ACTIONS[self.action]}: {self.decision.words}"


def _remedy(decision: RolloutDecision) -> str:
    first = decision.reasons[0] if decision.reasons else None
    if first is not None and first.name == "obstacle" and "derive" in first.words:
        return " Deploy the front end from the code that trained it, or end it: ninefold rollout abort."
    if first is not None and first.name == "clock":
        return " Check the clocks of the machines."
    return ""


def _front_end(said: Mapping[str, Any]) -> str:
    problem = said.get("problem")
    words = f"can't ask the candidate: {problem}" if problem else "ready" if said.get("ready") else "not ready"
    shadowed = said.get("shadowed") or {}
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in shadowed.items())
    return f"{words}; in shadow {counts}" if counts else words


def rollout_json(kept: StoredRollout) -> dict[str, Any]:
    """A rollout as JSON."""
    return {
        "rollout_id": kept.rollout_id,
        "use_case": kept.use_case,
        "incumbent": kept.incumbent,
        "candidate": kept.candidate,
        "state": kept.state,
        "step": kept.step,
        "revision": kept.revision,
        "opened_at": format_instant(kept.opened_at),
        "updated_at": format_instant(kept.updated_at),
        "ended_at": None if kept.ended_at is None else format_instant(kept.ended_at),
        "reason": kept.reason,
        "policy": dict(kept.policy),
    }


def routes_json(routes: PublishedRoutes) -> dict[str, Any]:
    """The routes in force on a cluster as JSON."""
    return {
        "revision": routes.revision,
        "published_at": format_instant(routes.published_at),
        "problem": routes.problem,
    }


def step_json(step: RolloutStep) -> dict[str, Any]:
    """An entry of a history as JSON."""
    return {
        "number": step.number,
        "at": format_instant(step.at),
        "actor": step.actor,
        "action": step.action,
        "from": step.from_state,
        "to": step.to_state,
        "revision": step.revision,
        "reasons": list(step.reasons),
        "numbers": dict(step.numbers),
    }


def step_cells(step: RolloutStep) -> tuple[str, ...]:
    """An entry of a history as a table shows it."""
    moved = step.to_state if step.from_state in (None, step.to_state) else f"{step.from_state} → {step.to_state}"
    share = step.numbers.get("share")
    number = f"{share:.0%}" if isinstance(share, float) and math.isfinite(share) else ""
    return f"{step.at:%Y-%m-%d %H:%M}", step.actor, step.action, moved, number, " ".join(step.reasons)


def _because(step: RolloutStep) -> str:
    return f" by {step.actor}" + (f": {'; '.join(step.reasons)}" if step.reasons else "")
