"""One row of the table: a fault, what it costs, which check caught it, and what that check says without the fault."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal["schema", "gate", "parity", "monitor", "rollout"]

_LONGEST = 380


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What became of one fault.

    Args:
        name: What is wrong, in a line.
        kind: The stage that should catch it.
        check: The check of that stage, by its name.
        caught: Whether it did.
        words: What it said.
        twin_passes: Whether the same check lets the same thing pass without the fault.
        twin: What it says of that.
        offline: MAE in July by the test set that the fault leaves, in minutes; None where it comes to no test.
        online: MAE in July of what would be answered, in minutes; None where nothing would be.
    """

    name: str
    kind: Kind
    check: str
    caught: bool
    words: str
    twin_passes: bool
    twin: str
    offline: float | None = None
    online: float | None = None

    @property
    def ok(self) -> bool:
        """Caught, and by no false alarm."""
        return self.caught and self.twin_passes

    def figure(self) -> dict[str, Any]:
        """A figure of the bench: 1 where the fault is caught and its twin passes."""
        state = "caught" if self.ok else "NOT caught" if not self.caught else "caught, and so is its honest twin"
        name = f"faults: {self.name}: {state} by {self.kind} ({self.check})".replace("`", "")
        return {"name": name, "value": float(self.ok), "bound": "caught", "unit": "", "ok": self.ok}


def table(faults: Sequence[Fault]) -> str:
    """All faults as a Markdown table."""
    lines = [
        "| fault | offline MAE | online MAE | caught by | in its words | the same without the fault |",
        "|---|---:|---:|---|---|---|",
    ]
    for fault in sorted(faults, key=lambda fault: get_args(Kind).index(fault.kind)):
        by = f"{fault.kind}: {fault.check}" if fault.caught else f"**NOT caught** by {fault.kind}: {fault.check}"
        twin = fault.twin if fault.twin_passes else f"**FALSE ALARM** {fault.twin}"
        cells = (fault.name, _minutes(fault.offline), _minutes(fault.online), by, _cell(fault.words), _cell(twin))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _minutes(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _cell(words: str) -> str:
    """One line of Markdown, cut at a word where it is long."""
    plain = re.sub(r"\s+", " ", words).replace("|", "\\|").strip()
    plain = re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1…", plain)
    return plain if len(plain) <= _LONGEST else plain[:_LONGEST].rsplit(" ", 1)[0] + " …"
