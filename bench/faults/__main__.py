"""``python -m bench.faults [--write FILE]``: plants all faults; exit code 1 when one is not caught, or its twin is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.faults.row import Fault, table
from bench.faults.run import plant_all

BEGIN, END = "<!-- made by bench.faults -->", "<!-- end -->"


def written(page: str, faults: list[Fault]) -> str:
    """A page with the table between its marks.

    Raises:
        ValueError: The page has no marks.
    """
    before, mark, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"The page has no place for the table: put {BEGIN!r} and {END!r} there.")
    return f"{before}{BEGIN}\n{table(faults)}\n{END}{after}"


def main() -> int:
    """Plants, prints, writes; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown page that gets the table.")
    page: Path | None = parser.parse_args().write
    if page is not None:
        written(page.read_text(), [])  # A page without marks is told before the minutes that the faults take.
    faults = plant_all()
    print(table(faults))
    if page is not None:
        page.write_text(written(page.read_text(), faults))
    missed = [fault for fault in faults if not fault.ok]
    print(f"{len(faults) - len(missed)} of {len(faults)} faults are caught by their check, which is no false alarm.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
