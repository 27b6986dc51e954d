"""What a tuning run tried, as a table, and what it chose by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table


def branches_table(result: Mapping[str, Any]) -> Table:
    """A line a branch: its window lengths, its best validation value, what it took; then the search that followed."""
    tuning = result["tuning"]
    unit = f" ({result['unit']})" if result["unit"] else ""
    table = Table(title="Branches, by the validation set", title_justify="left")
    names = list(tuning["winner"]["lengths"])
    for name in names:
        table.add_column(name)
    for column in (f"{tuning['metric']}{unit}", "family", "trials", "seconds"):
        table.add_column(column, justify="right")
    for one in tuning["branches"]:
        mark = "bold" if one["lengths"] == tuning["winner"]["lengths"] else ""
        table.add_row(*one["lengths"].values(), *_numbers(one), style=mark)
    table.add_section()
    table.add_row(*tuning["last"]["lengths"].values(), *_numbers(tuning["last"]), style="bold")
    return table


def _numbers(one: Mapping[str, Any]) -> tuple[str, ...]:
    value = "failed" if one["value"] is None else f"{one['value']:.3f}"
    return value, one["family"] or "", str(one["trials"]), f"{one['seconds']:.1f}"


def branches_words(result: Mapping[str, Any]) -> Iterator[str]:
    """What failed and why, and how much better than the baseline the winner is where it was chosen and where it wasn't.

    The best of many on the validation set is better there than it is; the test set says how much.
    """
    # It needs numpy, which a table does not.
    from components.tuner.outcome import named

    tuning = result["tuning"]
    for one in (*tuning["branches"], tuning["last"]):
        if one["error"] is not None:
            yield f"Failed: {named(one['lengths'])}: {one['error']}"
    winner = tuning["winner"]
    values = {row["name"]: row["value"] for row in result["rows"]}
    if "candidate" in values and winner["baseline"] and values["baseline"]:
        chosen = _better(winner["value"], winner["baseline"])
        tested = _better(values["candidate"], values["baseline"])
        yield (
            f"Against the baseline's {tuning['metric']}: {chosen:+.1%} on the validation set, by which it was chosen; "
            f"{tested:+.1%} on the test set, by which it is judged."
        )


def _better(value: float, baseline: float) -> float:
    return (value - baseline) / abs(baseline)
