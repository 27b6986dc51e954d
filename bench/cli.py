"""The command line's start: ``ninefold --help`` against ``python -c pass``, and what it must not import."""

from __future__ import annotations

import resource
import subprocess
import sys
from statistics import median
from typing import Any

ROUNDS = 9
BOUND = 12
HEAVY = ("feast", "kfp", "evidently", "lightgbm", "optuna")
_HELP = "import sys; sys.argv = ['ninefold', '--help']; from ninefold.cli import main; main()"
_IMPORTED = f"""
import sys
sys.argv = ["ninefold", "--help"]
from ninefold.cli import main
try:
    main()
except SystemExit:
    pass
print("IMPORTED", *[name for name in {HEAVY!r} if name in sys.modules])
"""


def main() -> list[dict[str, Any]]:
    """Measures in turns, so that both see the same machine."""
    ratios = []
    for _ in range(ROUNDS):
        nothing = _seconds("pass")
        ratios.append(_seconds(_HELP) / nothing)
    ratio = median(ratios)
    output = subprocess.run([sys.executable, "-c", _IMPORTED], capture_output=True, text=True, check=True).stdout
    imported = output.splitlines()[-1].split()[1:]
    return [
        {
            "name": "ninefold --help / python -c pass, CPU",
            "value": ratio,
            "bound": f"<= {BOUND}",
            "unit": "x",
            "ok": ratio <= BOUND,
        },
        {
            "name": f"of {', '.join(HEAVY)}, imported by --help",
            "value": ", ".join(imported) or "none",
            "bound": "none",
            "unit": "",
            "ok": not imported,
        },
    ]


def _seconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    for row in main():
        print(row)
