"""Every known fault, planted in real flights, and the check that catches it.

``make bench BENCH=faults`` says whether each is caught. ``python -m bench.faults --write docs/faults.md`` writes the
table of that page too.
"""

from __future__ import annotations

from typing import Any


def main() -> list[dict[str, Any]]:
    """Plants all, and says of each whether it was caught and its honest twin was not."""
    from bench.faults.run import plant_all

    return [fault.figure() for fault in plant_all()]
