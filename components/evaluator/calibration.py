"""Whether probabilities come true as often as they say, as a check: what decisions by cost rest on."""

from __future__ import annotations

import math

from components.evaluator.distribution import ScoreDistribution


def expected_by_chance(distribution: ScoreDistribution) -> float:
    """The calibration error that probabilities which are exactly right are expected to show on so few rows.

    Of a bin's share of ones around its mean probability p, the mean distance is √(2/π · p(1 − p) / rows): the mean of
    a half-normal, the binomial's limit.
    """
    total = sum(rows for rows, _, _ in distribution.calibration)
    if not total:
        return math.nan
    spread = sum(
        rows / total * math.sqrt(2.0 / math.pi * p * (1.0 - p) / rows)
        for rows, p, _ in distribution.calibration
        if rows
    )
    return float(spread)
