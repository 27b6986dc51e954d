"""What a use case lets a rollout do: how a candidate is judged, how it grows, and what stops it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from ninefold.cohorts import Audience
from ninefold.errors import ConfigurationError
from ninefold.fields import Metric
from ninefold.rollout.sequential import MINIMUM_HARM_BLOCKS
from ninefold.rollout.state import State

Mode = Literal["canary", "ab"]
Outcome = Literal["keep", "promote"]
FirstRelease = Literal["live", "rollout"]

_TIMES = ("deadline", "closes_after", "late_after")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrails:
    """Bounds on what a candidate does while it is watched. They stop it; they never promote it.

    Args:
        max_error_share: Greatest share of the candidate's answers that are errors: none, too late, not finite, of the
            wrong shape.
        minimum_errors: Fewer errors than this are bad luck, whatever their share.
        max_latency_ratio: Greatest 99th percentile of the candidate's latency, in those of the incumbent.
        latency_floor_ms: A 99th percentile below this is fast enough, whatever the ratio.
        max_fallback_increase: Greatest share of answers by the fallback beyond the incumbent's.
        max_null_increase: Greatest share of nulls in a feature beyond that of its training set, and beyond that of the
            incumbent where it has the feature too.
        minimum_requests: Fewer requests than this say nothing about latency, fallbacks and nulls.
    """

    max_error_share: float = 0.01
    minimum_errors: int = 5
    max_latency_ratio: float = 3.0
    latency_floor_ms: float = 10.0
    max_fallback_increase: float = 0.02
    max_null_increase: float = 0.05
    minimum_requests: int = 200

    def __post_init__(self) -> None:
        for name in ("max_error_share", "max_fallback_increase", "max_null_increase"):
            _share(f"guardrails.{name}", getattr(self, name))
        if not (self.max_latency_ratio >= 1.0 and self.latency_floor_ms >= 0.0):
            raise ConfigurationError("Rollout: a latency ratio below 1, or a negative floor, would stop the incumbent.")
        if self.minimum_errors < 1 or self.minimum_requests < 1:
            raise ConfigurationError("Rollout: guardrails need at least 1 error and 1 request to act on.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPolicy:
    """How a use case replaces one version by another.

    Args:
        first_release: ``live``: the first model that passes its gate replaces the baseline at once, with which the gate
            has compared it. ``rollout``: it opens a rollout like every other.
        mode: ``canary``: superiority is decided in shadow, then traffic moves in steps. ``ab``: both serve, a half
            each by default, and their cohorts' losses decide.
        steps: Shares of the audience that a canary serves, one after the other, growing, the last below 1: what the
            incumbent no longer answers, nothing can be compared with.
        ab_share: Share of the audience that the candidate serves in an A/B test.
        blocks_per_step: Blocks that a canary step has to last; they begin after it.
        minimum_blocks: Superiority is not decided on fewer.
        harm_blocks: Harm is not decided on fewer. The least is right where a block holds many answers; where it is one
            customer, some hundred even out what single answers do.
        minimum_effect: How much better the candidate has to be, as a share of the incumbent's loss.
        margin: Harm: how much worse it may be, as a share of the incumbent's loss.
        alpha: Chance to decide about equal models either way; the same for harm.
        tightest_at: Number of blocks at which the test sees most: about where decisions are expected.
        maximum_blocks: A test of more blocks than this ends, and so does a canary step.
        outcome_at_maximum: ``keep`` the incumbent, or ``promote`` a refresh that is shown to be no worse than by the
            margin. A candidate that truths never judged is not promoted by either.
        relative: Compare blocks by the difference as a share of their level, where levels differ much from block to
            block; by default by the difference itself.
        loss: Loss of one answer, a name of ``ninefold.metrics``; None for the use case's metric, where that is a mean
            of such losses, else ``log_loss`` (binary) or ``mae`` (regression).
        coverage: A block counts when this share of its keys have a truth,
        deadline: or when this much time has passed since it closed,
        least_coverage: provided that this share have one. Else it never counts.
        closes_after: A block is closed when nobody asked for one of its keys for so long.
        late_after: An answer given later than this after its decision moment is not judged.
        max_coverage_gap: Greatest difference between the two versions' coverage; a greater one is a hold, because what
            is missing is then not missing at random.
        max_lapsed_share: Greatest share of the blocks that never counted; more of them is a hold, for the same reason.
        diagnosis_blocks: In shadow, where nobody gets the candidate's answer, a candidate with missing features is
            watched for this many blocks or until its harm is shown, so that its end says what they cost.
        audience: Who may be asked to try it.
        guardrails: What stops it.
    """

    first_release: FirstRelease = "live"
    mode: Mode = "canary"
    steps: tuple[float, ...] = (0.05, 0.2, 0.5)
    ab_share: float = 0.5
    blocks_per_step: int = 2
    minimum_blocks: int = 14
    harm_blocks: int = MINIMUM_HARM_BLOCKS
    minimum_effect: float = 0.0
    margin: float = 0.02
    alpha: float = 0.05
    tightest_at: int = 30
    maximum_blocks: int = 60
    outcome_at_maximum: Outcome = "keep"
    relative: bool = False
    loss: str | None = None
    coverage: float = 0.9
    deadline: timedelta = timedelta(days=3)
    least_coverage: float = 0.5
    closes_after: timedelta = timedelta(hours=6)
    late_after: timedelta = timedelta(minutes=15)
    max_coverage_gap: float = 0.02
    max_lapsed_share: float = 0.2
    diagnosis_blocks: int = 10
    audience: Audience = field(default_factory=Audience)
    guardrails: Guardrails = field(default_factory=Guardrails)

    def __post_init__(self) -> None:
        if self.mode not in ("canary", "ab") or self.outcome_at_maximum not in ("keep", "promote"):
            raise ConfigurationError(
                f"Rollout: mode {self.mode!r} with outcome {self.outcome_at_maximum!r}.",
                remedy="A mode is canary or ab, an outcome keep or promote.",
            )
        if self.first_release not in ("live", "rollout"):
            raise ConfigurationError(
                f"Rollout: first_release {self.first_release!r} is none.", remedy="Write live or rollout."
            )
        grows = all(a < b for a, b in zip((0.0, *self.steps), (*self.steps, 1.0), strict=True))
        if not self.steps or not grows:
            raise ConfigurationError(
                f"Rollout: the steps {self.steps} do not grow between 0 and 1.", remedy="Write (0.05, 0.2, 0.5)."
            )
        if not 0.0 < self.ab_share < 1.0:
            raise ConfigurationError(f"Rollout: an A/B test with a share of {self.ab_share} has one cohort only.")
        for name in ("minimum_effect", "margin", "coverage", "least_coverage", "max_coverage_gap", "max_lapsed_share"):
            _share(name, getattr(self, name))
        if not 0.0 < self.alpha < 0.3:
            raise ConfigurationError(f"Rollout: alpha {self.alpha} is no small probability.", remedy="Write 0.05.")
        if self.least_coverage > self.coverage:
            raise ConfigurationError("Rollout: least_coverage is above coverage.")
        least = min(self.blocks_per_step, self.tightest_at, self.diagnosis_blocks)
        if least < 1 or not MINIMUM_HARM_BLOCKS <= self.harm_blocks <= self.minimum_blocks <= self.maximum_blocks:
            raise ConfigurationError(
                f"Rollout: harm from {self.harm_blocks} blocks on, a decision from {self.minimum_blocks} to "
                f"{self.maximum_blocks}, {self.blocks_per_step} a step.",
                remedy=f"At least {MINIMUM_HARM_BLOCKS} for harm, then no fewer each time, and at least 1 a step.",
            )
        if min(self.deadline, self.closes_after, self.late_after) < timedelta(0):
            raise ConfigurationError("Rollout: deadline, closes_after and late_after can't be negative.")

    def loss_of(self, metric: Metric, problem: Literal["regression", "binary"]) -> str:
        """Name of the loss of one answer (``ninefold.metrics.losses``) that the rollout compares.

        Raises:
            ConfigurationError: The policy names one that is none.
        """
        # Numpy is not needed to declare a policy.
        from ninefold.metrics import DEFINITIONS, OfMeans

        name = self.loss or ("mse" if metric.name == "rmse" else metric.name)
        found = DEFINITIONS.get(name)
        if isinstance(found, OfMeans) and found.row_loss and found.problem == problem:
            return name
        if self.loss is not None:
            raise ConfigurationError(
                f"Rollout: {self.loss!r} is no loss of a single answer in a {problem} problem.",
                remedy="Use mae or mse for regression, log_loss or brier for binary.",
            )
        return "log_loss" if problem == "binary" else "mae"

    def share(self, stage: State, step: int) -> float:
        """Share of the audience that gets the candidate's answer, where a rollout stands there."""
        match stage:
            case "canary":
                return self.steps[step]
            case "ab":
                return self.ab_share
            case "promoted":
                return 1.0
        return 0.0

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back. Times are in seconds."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "steps": list(self.steps),
            "audience": self.audience.to_json(),
            "guardrails": {name: getattr(self.guardrails, name) for name in Guardrails.__dataclass_fields__},
            **{name: getattr(self, name).total_seconds() for name in _TIMES},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RolloutPolicy:
        """Reads what ``to_json`` wrote; a term that it does not hold has its default."""
        known: dict[str, Any] = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        known |= {name: timedelta(seconds=known[name]) for name in _TIMES if name in known}
        if "steps" in known:
            known["steps"] = tuple(known["steps"])
        if "audience" in known:
            known["audience"] = Audience.from_json(known["audience"])
        if "guardrails" in known:
            known["guardrails"] = Guardrails(**known["guardrails"])
        return cls(**known)


def _share(name: str, value: float) -> None:
    if not (math.isfinite(value) and 0.0 <= value <= 1.0):
        raise ConfigurationError(f"Rollout: {name} {value} is no share.", remedy="Give 0 to 1.")
