"""One budget of seconds for all branches, and for the search that follows the best of them.

Half of the budget is divided equally between the branches, so that it holds if they run one after another. What they
took is counted by the clock, from when the first one began to when the last one ended, gaps left out: the more of them
run at once, the more is left for the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.tuner.lengths import Lengths, sample_lengths
from ninefold.errors import UsageError
from ninefold.windows.declaration import Window

SCREENING = 0.5
"""Of the budget, what all branches together may take one after another."""
SHORTEST_SHARE = 10.0
"""Seconds; with less a branch hardly fits anything but a linear model."""
SHORTEST = 2 * SHORTEST_SHARE / SCREENING
"""Seconds of a budget that two branches can be had for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One choice of lengths to try.

    Args:
        number: Its place; 0 has the declared lengths.
        lengths: Window name → length.
        seconds: What it may take, everything included.
    """

    number: int
    lengths: Lengths
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {"number": self.number, "lengths": dict(self.lengths), "seconds": self.seconds}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Branch:
        """Reads what ``to_json`` wrote; whole numbers may have become floats on their way."""
        return cls(number=int(document["number"]), lengths=document["lengths"], seconds=float(document["seconds"]))


def plan_branches(windows: Sequence[Window], *, branches: int, seconds: float, seed: int) -> tuple[Branch, ...]:
    """The branches that a budget is enough for: at most ``branches``, the declared lengths first.

    Args:
        windows: As declared.
        branches: How many are wanted.
        seconds: The whole budget.
        seed: Of the sample of lengths.

    Raises:
        UsageError: The budget is not enough for two.
    """
    if not seconds >= SHORTEST:
        raise UsageError(f"{seconds:g} s are too short to compare lengths.", remedy=f"Give at least {SHORTEST:.0f} s.")
    affordable = int(SCREENING * seconds / SHORTEST_SHARE)
    chosen = sample_lengths(windows, min(branches, affordable), seed)
    share = SCREENING * seconds / len(chosen)
    return tuple(Branch(number=i, lengths=lengths, seconds=share) for i, lengths in enumerate(chosen))


def seconds_left(seconds: float, spans: Sequence[tuple[float, float]]) -> float:
    """What is left of a budget.

    Args:
        seconds: The whole budget.
        spans: When each branch began and ended, in seconds by one clock or by clocks that nearly agree.
    """
    searched = 0.0
    end = float("-inf")
    for began, ended in sorted(spans):
        searched += max(0.0, ended - max(began, end))
        end = max(end, ended)
    # Clocks can jump: no branch takes less than its own time, and all of them no more than one after another.
    longest = max((ended - began for began, ended in spans), default=0.0)
    return seconds - min(max(searched, longest), sum(ended - began for began, ended in spans))
