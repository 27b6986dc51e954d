"""Why a prediction is what it is, group by group, in words with the row's own values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Said = Callable[[Mapping[str, Any]], Mapping[str, str]]
"""Inputs of one row → group → what is so of it, as the end of a sentence (``pays month to month``)."""

_LITTLE = 0.005
"""Less than half a point of probability is no reason."""


def reasons(said: Said | None, inputs: Mapping[str, Any], amounts: Mapping[str, float], unit: str) -> dict[str, str]:
    """Group → its reason: ``pays month to month, which adds 12 points``; groups that nothing is said of are left out.

    Args:
        said: The use case's; None where it has none.
        inputs: Input name → its value; None where it is missing.
        amounts: Group → what it adds.
        unit: Of the amounts; ``probability`` is told in points of a hundred.
    """
    if said is None:
        return {}
    words = said(inputs)
    return {group: f"{words[group]}, {_adds(amount, unit)}" for group, amount in amounts.items() if words.get(group)}


def _adds(amount: float, unit: str) -> str:
    verb = "adds" if amount > 0 else "takes away"
    if unit != "probability":
        return f"which {verb} {abs(amount):.3g} {unit}".rstrip()
    if abs(amount) < _LITTLE:
        return "which changes little"
    points = round(100 * abs(amount))
    return f"which {verb} {points} point{'' if points == 1 else 's'}"
