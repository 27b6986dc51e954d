"""The table of docs/search.md, from the results that are there: a cell that was not measured stays empty."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

NAMES = {
    "ninefold": "Ninefold",
    "flaml": "FLAML",
    "autogluon-best": "AutoGluon, best quality",
    "autogluon-medium": "AutoGluon, medium quality",
    "sklearn-boosting": "scikit-learn, histogram boosting",
    "sklearn-linear": "scikit-learn, linear",
}
PROBLEMS = ("deliveries", "churn", "reviews", "arrivals")
METRICS = {"mae": "MAE, min", "auc": "AUC"}
BEGIN, END = "<!-- made by bench.search -->", "<!-- end -->"


def lines_of(results: list[dict[str, Any]]) -> list[str]:
    """Markdown: a row a system; for each problem the mean over seeds (least–greatest) and one row's milliseconds."""
    latest = {
        (one["problem"], one["system"], one["seed"], one["seconds"]): one
        for one in results
        if not one["inside"] and "value" in one
    }
    found = list(latest.values())
    problems = [name for name in PROBLEMS if any(one["problem"] == name for one in found)]
    headers = []
    for name in problems:
        of = [one for one in found if one["problem"] == name]
        headers.append(f"{name}: {METRICS[of[0]['metric']]}, {of[0]['seconds']:g} s | one row, ms")
    lines = [f"| | {' | '.join(headers)} |", "|---|" + "---:|---:|" * len(problems)]
    for system, title in NAMES.items():
        cells = [
            _cell([one for one in found if (one["problem"], one["system"]) == (name, system)]) for name in problems
        ]
        if any(cell != (" | ") for cell in cells):
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _cell(found: list[dict[str, Any]]) -> str:
    if not found:
        return " | "
    values = [one["value"] for one in found]
    digits = 4 if found[0]["metric"] == "auc" else 3
    spread = f" ({min(values):.{digits}f}–{max(values):.{digits}f})" if len(values) > 1 else " (one seed)"
    return f"{mean(values):.{digits}f}{spread} | {mean(one['p50_ms'] for one in found):.3g}"


def write_table(results: Path, page: Path) -> None:
    """Renews the table between the page's marks."""
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    looks = sum(not one["inside"] and "value" in one for one in rows)
    text = page.read_text()
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    said = f"The test sets were opened {looks} times for this table, once a cell and seed."
    page.write_text(head + "\n".join([BEGIN, *lines_of(rows), "", said, END]) + tail)
