"""What stops a candidate at once: errors, latency, fallbacks, features that are missing. Bounds, not tests.

Guardrails stop; they never promote. What nobody measured is unknown, and whoever wants to go on has to wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ninefold.rollout.evidence import Evidence, NullShare, Traffic
from ninefold.rollout.policy import Guardrails
from ninefold.rollout.reason import Reason

FEATURES_NULL = "null_share"


def watch(guardrails: Guardrails, evidence: Evidence) -> tuple[Reason, ...]:
    """Every guardrail, with what was found: ``failed``, ``passed`` or ``unknown``."""
    return (
        _errors(guardrails, evidence.candidate),
        _latency(guardrails, evidence.candidate, evidence.incumbent),
        _fallbacks(guardrails, evidence.candidate, evidence.incumbent),
        _nulls(guardrails, evidence.nulls),
    )


def _errors(guardrails: Guardrails, candidate: Traffic) -> Reason:
    bound, least = guardrails.max_error_share, guardrails.minimum_errors
    if candidate.requests == 0:
        return Reason("errors", "unknown", "The candidate was not asked yet.", None, bound)
    share = candidate.errors / candidate.requests
    words = (
        f"{candidate.errors:,} of {candidate.requests:,} requests ({share:.2%}) failed; {bound:.2%} are allowed, and "
        f"fewer than {least} are bad luck."
    )
    if candidate.errors >= least and share > bound:
        return Reason("errors", "failed", words, share, bound)
    enough = candidate.requests >= guardrails.minimum_requests
    return Reason("errors", "passed" if enough else "unknown", words, share, bound)


def _latency(guardrails: Guardrails, candidate: Traffic, incumbent: Traffic) -> Reason:
    bound, least = guardrails.max_latency_ratio, guardrails.minimum_requests
    ours, theirs = candidate.p99_ms, incumbent.p99_ms
    if ours is None or not math.isfinite(ours) or candidate.requests < least:
        return Reason("latency", "unknown", f"The latency of {least:,} requests is not known yet.", None, bound)
    if ours <= guardrails.latency_floor_ms:
        words = f"The 99th percentile is {ours:.3g} ms; below {guardrails.latency_floor_ms:g} ms is fast enough."
        return Reason("latency", "passed", words, ours, guardrails.latency_floor_ms)
    if theirs is None or not theirs > 0.0 or incumbent.requests < least:
        return Reason("latency", "unknown", "The incumbent's latency, to compare with, is not known.", None, bound)
    words = f"The 99th percentile is {ours:.3g} ms, {ours / theirs:.2f} times the incumbent's; {bound:g} is allowed."
    return Reason("latency", "failed" if ours / theirs > bound else "passed", words, ours / theirs, bound)


def _fallbacks(guardrails: Guardrails, candidate: Traffic, incumbent: Traffic) -> Reason:
    bound, least = guardrails.max_fallback_increase, guardrails.minimum_requests
    if min(candidate.requests, incumbent.requests) < least:
        return Reason("fallbacks", "unknown", f"Fewer than {least:,} requests were answered by each.", None, bound)
    ours, theirs = candidate.fallbacks / candidate.requests, incumbent.fallbacks / incumbent.requests
    words = (
        f"The fallback answers {ours:.2%} in the candidate's place, {theirs:.2%} in the incumbent's; {bound:.2%} more "
        "are allowed."
    )
    return Reason("fallbacks", "failed" if ours - theirs > bound else "passed", words, ours - theirs, bound)


def _nulls(guardrails: Guardrails, nulls: Sequence[NullShare] | None) -> Reason:
    bound, least = guardrails.max_null_increase, guardrails.minimum_requests
    if nulls is None:
        return Reason(FEATURES_NULL, "unknown", "Nobody counted the nulls of the candidate's features.", None, bound)
    judged = [n for n in nulls if n.requests >= least and math.isfinite(n.training) and math.isfinite(n.serving)]
    failed = sorted((n for n in judged if n.excess > bound), key=lambda n: -n.excess)
    if failed:
        named = ", ".join(f"{n.feature} ({n.serving:.1%}, in training {n.training:.1%})" for n in failed[:5])
        more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
        words = f"Missing more often than in training, by over {bound:.1%}: {named}{more}."
        return Reason(FEATURES_NULL, "failed", words, failed[0].excess, bound)
    unknown = [n.feature for n in nulls if n not in judged]
    if unknown:
        words = f"Too little is known of the nulls of {', '.join(unknown[:5])}."
        return Reason(FEATURES_NULL, "unknown", words, None, bound)
    greatest = max((n.excess for n in judged), default=0.0)
    shared = max(judged, key=lambda n: n.serving - n.training, default=None)
    words = f"No feature is missing more often than in training by over {bound:.1%}."
    if shared is not None and shared.serving - shared.training > bound:
        words = (
            f"No feature is missing more often than in training, or than for the incumbent, by over {bound:.1%}; "
            f"{shared.feature} is missing for both ({shared.serving:.1%}, in training {shared.training:.1%})."
        )
    return Reason(FEATURES_NULL, "passed", words, greatest, bound)
