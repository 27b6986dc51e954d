"""The windows that a window is held against: history, then production's own as they pass.

A window that was itself over its limit is left out, or one bad day would make the next quiet ones look odd, and the
return to normal an alarm. What stays over for half of the reference's length is the new usual.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.monitor.drift import psi
from components.monitor.reference import Reference
from ninefold.monitoring import MonitorPolicy

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """How far each window of production is from those before it.

    Args:
        distances: Column → [windows of production] of population stability indexes; NaN where nothing lies before.
    """

    distances: Mapping[str, Array]

    @classmethod
    def of(
        cls, reference: Reference, counts: Mapping[str, Array], bounds: Mapping[str, float], policy: MonitorPolicy
    ) -> Trail:
        """Walks along production's windows.

        Args:
            reference: History.
            counts: Column → [windows, bins] of production, oldest first.
            bounds: Column → limit; a column without one leaves no window out.
            policy: Says how many windows are looked back on.
        """
        found = {}
        for column, history in reference.counts.items():
            if not reference.ordered:
                total = history.sum(axis=0)
                found[column] = np.array([psi(total, row) for row in counts[column]])
                continue
            found[column] = _walk(history, counts[column], bounds.get(column, np.inf), policy.reference_windows)
        return cls(distances=found)


def _walk(history: Array, production: Array, limit: float, span: int) -> Array:
    kept = list(history[-span:])
    usual = np.sum(kept, axis=0) if kept else np.zeros(production.shape[1])
    away: list[Array] = []
    distances = []
    for row in production:
        distance = psi(usual, row)
        distances.append(distance)
        if distance > limit:
            away.append(row)
            if len(away) < max(1, span // 2):
                continue
            kept, usual = [], np.zeros(production.shape[1])
            added, away = away, []
        else:
            added, away = [row], []
        for new in added:
            kept.append(new)
            usual = usual + new
            if len(kept) > span:
                usual = usual - kept.pop(0)
    return np.array(distances)
