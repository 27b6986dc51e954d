"""What answers were worth apart by who told the truth, and whether users find them worse than is usual.

Users' truths are of no account to the checks of losses. What they say can warn a person; it asks for no training, and
ends no rollout: users who are wrong, or of one mind, or not users, look just the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from components.monitor.alerts import Finding
from ninefold.metrics import compute
from ninefold.truths import SAID, SOURCE
from ninefold.usecase import UseCase

if TYPE_CHECKING:
    from components.monitor.windows import Judged

FEEDBACK = "feedback"
"""Name of the check."""


def by_source(use_case: UseCase, rows: pl.DataFrame) -> dict[str, tuple[int, float]]:
    """Source → keys that it told a truth of, and the metric by these.

    Args:
        use_case: Says what the metric is.
        rows: Of one version, with ``truth``, ``truth_source``, ``said`` and ``value``.
    """
    (users,) = SAID
    told = {
        str(source): part.select("value", told="truth")
        for (source,), part in rows.filter(pl.col("truth").is_not_null()).group_by(SOURCE)
    }
    told[users] = rows.filter(pl.col("said").is_not_null()).select("value", told="said")
    name = use_case.metric.name
    return {
        source: (len(part), compute(name, part["told"].to_numpy(), part["value"].to_numpy()))
        for source, part in sorted(told.items())
        if len(part)
    }


def check_feedback(use_case: UseCase, judged: Sequence[Judged], worst: float) -> Iterator[Finding]:
    """Whether the metric by what users say is worse than any that is usual; nothing where too few said anything.

    Args:
        use_case: Says what the metric is, and how many rows it takes.
        judged: The versions of a window.
        worst: The worst value of the metric that is usual, by history; NaN where there is none.
    """
    (users,) = SAID
    for one in judged:
        rows, value = one.by_source.get(users, (0, float("nan")))
        if one.cohort or rows < use_case.monitor.minimum_rows or np.isnan(value) or np.isnan(worst):
            continue
        over = value > worst if use_case.metric.direction == "minimize" else value < worst
        who, unit = f"version {one.version}", f" {use_case.metric.unit}".rstrip()
        yield Finding(
            check=FEEDBACK, subject=who, window=one.window.label, outcome="over" if over else "within",
            value=value, limit=worst,
            message=f"{who}: {use_case.metric.name} {value:.3f}{unit} by what users say of {rows:,} answers; the worst "
            f"that is usual is {worst:.3f}. Look into it: feedback decides nothing.",
        )  # fmt: skip


def told(judged: Judged, metric: str) -> Mapping[str, float]:
    """Measurement → value: ``mae.by_user`` and ``truths.by_user`` for each source."""
    found: dict[str, float] = {}
    for source, (rows, value) in judged.by_source.items():
        found[f"{metric}.by_{source}"] = value
        found[f"truths.by_{source}"] = float(rows)
    return found
