"""The gate: whether a candidate may be released, as a frozen decision with its reasons and the numbers behind them.

Release needs every check passed. Reject needs one that failed: the evidence is against the candidate. Everything else
is hold: what is missing, undefined or undecided is never taken for good.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from components.evaluator.calibration import expected_by_chance
from components.evaluator.comparison import Comparison, signed
from components.evaluator.distribution import ScoreDistribution
from components.evaluator.evaluation import Evaluation
from components.evaluator.evidence import Evidence
from ninefold.usecase import Gates

Action = Literal["release", "hold", "reject"]
Outcome = Literal["passed", "failed", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One reason of a decision.

    Args:
        name: What was checked (``beats_baseline``).
        outcome: ``passed``, ``failed``, or ``unknown``.
        number: What was found; None where nothing was.
        bound: What it was held against; None where it is no number.
        words: The same for people, one sentence or two.
    """

    name: str
    outcome: Outcome
    number: float | None
    bound: float | None
    words: str

    def to_json(self) -> dict[str, Any]:
        """A JSON object that the constructor reads back."""
        return {
            "name": self.name,
            "outcome": self.outcome,
            "number": self.number,
            "bound": self.bound,
            "words": self.words,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """What is to be done with a candidate, and why.

    Args:
        action: ``release``, ``hold`` or ``reject``.
        reasons: Every check, in the order baseline, incumbent, candidate.
    """

    action: Action
    reasons: tuple[Check, ...]

    @property
    def numbers(self) -> dict[str, float]:
        """Check → the number that it rests on, where there is one."""
        return {check.name: check.number for check in self.reasons if check.number is not None}

    @property
    def summary(self) -> str:
        """The decision in one sentence or two: what decided it."""
        if self.action == "release":
            return f"Release: all {len(self.reasons)} checks passed."
        decisive = [c for c in self.reasons if c.outcome == ("failed" if self.action == "reject" else "unknown")]
        return f"{self.action.capitalize()}: " + " ".join(check.words for check in decisive)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {"action": self.action, "reasons": [check.to_json() for check in self.reasons], "summary": self.summary}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> GateDecision:
        """Reads what ``to_json`` wrote."""
        return cls(action=document["action"], reasons=tuple(Check(**check) for check in document["reasons"]))


def gate(gates: Gates, evidence: Evidence) -> GateDecision:
    """Decides on a candidate.

    Args:
        gates: What the use case asks of a candidate.
        evidence: What is known.
    """
    reasons = tuple(_checks(gates, evidence))
    outcomes = {check.outcome for check in reasons}
    action: Action = "reject" if "failed" in outcomes else "hold" if "unknown" in outcomes else "release"
    return GateDecision(action=action, reasons=reasons)


def _checks(gates: Gates, evidence: Evidence) -> Iterator[Check]:
    yield _evaluated("baseline_evaluated", "baseline", evidence.baseline, gates)
    if evidence.unserved_version is not None:
        yield _check(
            "incumbent_evaluated", "passed",
            f"Version {evidence.unserved_version} was made with another derive, which today's code can't serve: "
            "the baseline answers in its place, so there is no other incumbent to compare with.",
        )  # fmt: skip
    elif evidence.incumbent_version is None:
        yield _check(
            "incumbent_evaluated", "passed", "No version is live yet, so there is no incumbent to compare with."
        )
    elif evidence.incumbent is not None and evidence.incumbent.version != evidence.incumbent_version:
        yield _check(
            "incumbent_evaluated", "unknown",
            f"Version {evidence.incumbent_version} is live, but {evidence.incumbent.label} was evaluated.",
        )  # fmt: skip
    else:
        yield _evaluated("incumbent_evaluated", "incumbent", evidence.incumbent, gates)
    yield _evaluated("candidate_evaluated", "candidate", evidence.candidate, gates)
    yield _parity(evidence)
    yield _beats_baseline(gates, evidence.against_baseline)
    if evidence.incumbent_version is not None:
        yield _no_worse_than_incumbent(gates, evidence.against_incumbent)
    yield _slices(gates, evidence)
    if gates.max_calibration_error is not None:
        yield _calibration(gates.max_calibration_error, evidence.candidate)
    yield _nulls(gates, evidence)
    if evidence.nominal is not None:
        yield _interval_coverage(gates, evidence.nominal, evidence.candidate)
    yield _latency(gates, evidence)


def _check(name: str, outcome: Outcome, words: str, number: float | None = None, bound: float | None = None) -> Check:
    known = number if number is not None and math.isfinite(number) else None
    return Check(name=name, outcome=outcome, number=known, bound=bound, words=words)


def _evaluated(name: str, who: str, evaluation: Evaluation | None, gates: Gates) -> Check:
    if evaluation is None:
        return _check(name, "unknown", f"The {who} was not evaluated.")
    value, metric = evaluation.value.value, evaluation.metric
    if not math.isfinite(value):
        return _check(name, "unknown", f"The {who}'s {metric.name} is undefined on {evaluation.rows:,} rows.")
    if evaluation.rows < evaluation.expected_rows:
        return _check(
            name, "unknown",
            f"The {who} has predictions for {evaluation.rows:,} of {evaluation.expected_rows:,} test rows only.",
            evaluation.coverage, 1.0,
        )  # fmt: skip
    if evaluation.blocks < gates.minimum_blocks:
        return _check(
            name, "unknown",
            f"The {who} was evaluated on {evaluation.blocks:,} blocks; under {gates.minimum_blocks} decide nothing.",
            evaluation.blocks, gates.minimum_blocks,
        )  # fmt: skip
    return _check(
        name, "passed",
        f"The {who}'s {metric.name} is {_value(value, metric.unit)} on {evaluation.rows:,} rows in "
        f"{evaluation.blocks:,} blocks.",
        value,
    )  # fmt: skip


def _parity(evidence: Evidence) -> Check:
    if evidence.parity is None:
        return _check("parity", "unknown", "Nobody compared the packaged model with the trained one.")
    if not evidence.parity:
        return _check("parity", "failed", "The packaged model does not predict what the trained one does.")
    return _check("parity", "passed", "The packaged model predicts what the trained one does.")


def _beats_baseline(gates: Gates, comparison: Comparison | None) -> Check:
    name, bound = "beats_baseline", gates.beat_baseline_by
    if comparison is None:
        return _check(name, "unknown", "The candidate was not compared with the baseline.", None, bound)
    outcome = _outcome(gates, comparison, bound, may_equal=False)
    verdict = {
        "passed": "The candidate beats the baseline",
        "failed": "The candidate does not beat the baseline",
        "unknown": "It is not shown that the candidate beats the baseline",
    }[outcome]
    asked = f" by more than {bound:.1%}" if bound else ""
    return _check(
        name, outcome, f"{verdict}{asked}. It has {comparison.words('baseline')}", comparison.relative.low, bound
    )


def _no_worse_than_incumbent(gates: Gates, comparison: Comparison | None) -> Check:
    name, bound = "no_worse_than_incumbent", -gates.incumbent_margin
    if comparison is None:
        return _check(name, "unknown", "The candidate was not compared with the incumbent.", None, bound)
    outcome = _outcome(gates, comparison, bound, may_equal=True)
    verdict = {
        "passed": "The candidate is not worse than the incumbent",
        "failed": "The candidate is worse than the incumbent",
        "unknown": "It is not shown that the candidate is not worse than the incumbent",
    }[outcome]
    words = f"{verdict} by more than {gates.incumbent_margin:.1%}. It has {comparison.words('incumbent')}"
    return _check(name, outcome, words, comparison.relative.low, bound)


def _outcome(gates: Gates, comparison: Comparison, bound: float, *, may_equal: bool) -> Outcome:
    """Passed where the whole interval is better than the bound, failed where none of it is.

    Args:
        gates: For the least number of blocks.
        comparison: What was found.
        bound: The least relative improvement.
        may_equal: Whether just reaching the bound is enough: a margin may be used up, an improvement has to be one.
    """
    low, high = comparison.relative.low, comparison.relative.high
    if not (math.isfinite(low) and math.isfinite(high)) or comparison.blocks < gates.minimum_blocks:
        return "unknown"
    if low > bound or (may_equal and low == bound):
        return "passed"
    return "failed" if high <= bound else "unknown"


def _slices(gates: Gates, evidence: Evidence) -> Check:
    name, bound = "slices", -gates.slice_margin
    if evidence.candidate is not None and not evidence.candidate.slices:
        return _check(name, "passed", "The use case declares no slices.", None, bound)
    judged = [
        s for s in evidence.slices
        if s.comparison.blocks >= gates.minimum_blocks and math.isfinite(s.comparison.relative.low)
    ]  # fmt: skip
    left_out = len(evidence.slices) - len(judged) + evidence.small_slices
    if not judged:
        return _check(name, "unknown", f"None of {left_out} slices is large enough to be judged.", None, bound)
    judged.sort(key=lambda s: s.comparison.relative.value)
    worst = judged[0]
    shown = [s for s in judged if s.comparison.relative.high < bound]
    suspected = [s for s in judged if s.comparison.relative.value < bound and s not in shown]
    rest = f"; {left_out} more are too small to judge" if left_out else ""
    if found := shown or suspected:
        listed = ", ".join(f"{s.field}={s.value} ({signed(s.comparison.relative.value)})" for s in found[:5])
        what = "shown to be" if shown else "seemingly, but not surely,"
        return _check(
            name, "failed" if shown else "unknown",
            f"{len(found)} of {len(judged)} slices {'is' if len(found) == 1 else 'are'} {what} worse than the baseline "
            f"by more than {gates.slice_margin:.1%}: {listed}{rest}.",
            worst.comparison.relative.value, bound,
        )  # fmt: skip
    return _check(
        name, "passed",
        f"None of {len(judged)} slices is worse than the baseline by more than {gates.slice_margin:.1%}; the least "
        f"improved is {worst.field}={worst.value} ({signed(worst.comparison.relative.value)}){rest}.",
        worst.comparison.relative.value, bound,
    )  # fmt: skip


def _interval_coverage(gates: Gates, nominal: float, candidate: Evaluation | None) -> Check:
    name, bound = "interval_coverage", nominal - gates.interval_margin
    quality = candidate.interval if candidate else None
    if candidate is None or quality is None:
        return _check(name, "unknown", f"The candidate gives no intervals; {nominal:.0%} are promised.", None, bound)
    if quality.rows < candidate.rows:
        return _check(
            name, "unknown", f"The candidate gives {quality.rows:,} intervals for {candidate.rows:,} rows.", None, bound
        )
    value, low, high = quality.coverage.value, quality.coverage.low, quality.coverage.high
    if not math.isfinite(high) or candidate.blocks < gates.minimum_blocks:
        return _check(name, "unknown", "It is not known how sure the intervals' coverage is.", value, bound)
    words = (
        f"The intervals hold {value:.1%} of the truths [{low:.1%} to {high:.1%}], {quality.width.value:.3g} wide on "
        f"average; {nominal:.0%} are promised, and {gates.interval_margin:.1%} less is allowed."
    )
    return _check(name, "failed" if high < bound else "passed", words, value, bound)


def _calibration(bound: float, candidate: Evaluation | None) -> Check:
    name = "calibration"
    if candidate is None or not isinstance(candidate.distribution, ScoreDistribution):
        return _check(name, "unknown", "There are no probabilities of the candidate to look at.", None, bound)
    error = candidate.metrics.get("calibration_error", math.nan)
    chance = expected_by_chance(candidate.distribution)
    if not math.isfinite(error) or not math.isfinite(chance):
        return _check(name, "unknown", "The candidate's calibration error is undefined.", None, bound)
    words = (
        f"The candidate's probabilities are off by {error:.3f} on average; {chance:.3f} would be chance on so few "
        f"rows, and {bound:g} beyond it is allowed."
    )
    if error - chance > bound:
        return _check(name, "failed", words, error, bound)
    if chance > bound:
        return _check(name, "unknown", f"{words} Fewer rows than that show nothing.", error, bound)
    return _check(name, "passed", words, error, bound)


def _nulls(gates: Gates, evidence: Evidence) -> Check:
    name, bound = "null_share", gates.max_null_share
    if not evidence.nulls:
        return _check(name, "unknown", "Shares of nulls in the model's inputs are not known.", None, bound)
    unknown = [n.input for n in evidence.nulls if not math.isfinite(n.training) or not math.isfinite(n.test)]
    if unknown:
        return _check(name, "unknown", f"The share of nulls is not known for {', '.join(unknown[:5])}.", None, bound)
    worst = max(evidence.nulls, key=lambda n: n.test - n.training)
    excess = worst.test - worst.training
    words = f"{worst.input} is null in {worst.test:.1%} of the test rows, against {worst.training:.1%} in training"
    if excess > bound:
        return _check(name, "failed", f"{words}: more than {bound:.1%} beyond it.", excess, bound)
    return _check(
        name, "passed", f"No input has more nulls than in training by over {bound:.1%}; {words}.", excess, bound
    )


def _latency(gates: Gates, evidence: Evidence) -> Check:
    name, bound = "latency", gates.max_latency_ms
    latency = evidence.candidate.latency if evidence.candidate else None
    if latency is None or not math.isfinite(latency.p99_ms):
        return _check(name, "unknown", "Nobody measured how long the candidate takes to predict one row.", None, bound)
    within = latency.p99_ms <= bound
    return _check(
        name, "passed" if within else "failed",
        f"Predicting one row takes {latency.p99_ms:.3g} ms at the 99th percentile; {bound:g} ms are allowed.",
        latency.p99_ms, bound,
    )  # fmt: skip


def _value(value: float, unit: str) -> str:
    return f"{value:.4g} {unit}".strip()
