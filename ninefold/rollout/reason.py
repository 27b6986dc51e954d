"""One reason of a decision: what was looked at, what was found, and what it was held against."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

Finding = Literal["passed", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason.

    Args:
        name: What was looked at (``harm``).
        finding: ``passed`` lets the rollout go on, ``failed`` ends it, ``unknown`` lets it wait.
        words: The same for people, in a sentence.
        number: What was found; None where nothing was.
        bound: What it was held against; None where it is no number.
    """

    name: str
    finding: Finding
    words: str
    number: float | None = None
    bound: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object; numbers that are not finite are null."""
        numbers = {"number": self.number, "bound": self.bound}
        finite = {name: n if n is not None and math.isfinite(n) else None for name, n in numbers.items()}
        return {"name": self.name, "finding": self.finding, "words": self.words, **finite}
