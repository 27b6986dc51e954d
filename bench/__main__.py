"""``python -m bench [NAME…]``: runs the benches, each in a process of its own, and says which bound is missed.

A bench is a module of this folder with ``main() -> list[dict]``, one dict a figure: ``name``, ``value``, ``bound`` (as
text), ``unit`` and ``ok``. The report is written to ``reports/bench.json`` of the home. Exit code 1 when one misses.
"""

from __future__ import annotations

import argparse
import json
import os
import pkgutil
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import bench
from ninefold.settings import settings

HELPERS = frozenset({"load", "joint_tuning", "words_fast", "__main__"})
_RUN = "import importlib, json, sys; json.dump(importlib.import_module(sys.argv[1]).main(), open(sys.argv[2], 'w'))"


def known() -> list[str]:
    """Names of the benches."""
    return sorted(m.name for m in pkgutil.iter_modules(bench.__path__) if m.name not in HELPERS)


def run_one(name: str) -> list[dict[str, Any]]:
    """Runs one bench; one that breaks is a figure that misses its bound."""
    root = Path(bench.__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        # The child finds this folder by name; nothing else changes for it.
        paths = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH", ""))))
        child = subprocess.run(
            [sys.executable, "-c", _RUN, f"bench.{name}", str(path)],
            env={**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"},
            check=False,
        )
        if child.returncode != 0:
            text = f"ended with {child.returncode}"
            return [{"name": f"{name}: {text}", "value": None, "bound": "to run", "unit": "", "ok": False}]
        figures: list[dict[str, Any]] = json.loads(path.read_text())
        return figures


def main() -> int:
    """Runs what is asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(known())}; all by default")
    names = parser.parse_args().names or known()
    unknown = sorted(set(names) - set(known()))
    if unknown:
        parser.error(f"There is no bench {', '.join(unknown)}. There are {', '.join(known())}.")
    console = Console(highlight=False)
    figures: list[dict[str, Any]] = []
    for place, name in enumerate(names, start=1):
        console.print(f"[{place}/{len(names)}] {name} …", markup=False)
        started = time.perf_counter()
        found = run_one(name)
        console.print(f"      {time.perf_counter() - started:.0f} s", markup=False)
        figures += [{"bench": name, **figure} for figure in found]
    table = Table(box=None, pad_edge=False)
    for column in ("", "figure", "value", "bound"):
        table.add_column(column, justify="right" if column == "value" else "left", overflow="fold")
    for figure in figures:
        # A figure without a bound is there to be read.
        mark = {True: "[green]ok[/]", False: "[red]MISSED[/]", None: ""}[figure["ok"]]
        table.add_row(
            mark, figure["name"], f"{_number(figure['value'])} {figure['unit']}".strip(), figure["bound"] or ""
        )
    console.print(table)
    report = settings().folder("reports") / "bench.json"
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "figures": figures,
    }
    report.write_text(json.dumps(document, indent=1))
    console.print(f"Written to {report}", markup=False)
    return 0 if all(figure["ok"] is not False for figure in figures) else 1


def _number(value: Any) -> str:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return "–" if value is None else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 or float(value).is_integer() else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main())
