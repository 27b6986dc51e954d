"""A run as a person sees it: a line a step, alive while it works, and a table at its end."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.branches import branches_table, branches_words
from pipelines.run import Step

DOING: Mapping[str, str] = {
    "look-up": "looking up what is live and what production holds",
    "extract": "reading history from the sources and production",
    "split": "dividing into training, validation and test",
    "featurize": "joining features point in time",
    "prepare": "sanitising and balancing",
    "evaluate-baseline": "evaluating the baseline",
    "build": "searching for the best model",
    "plan-branches": "choosing the window lengths to try",
    "featurize-lengths": "computing windows at every length that is tried",
    "search-branch": "searching at one choice of lengths",
    "choose-lengths": "taking the best on the validation set",
    "search-further": "searching on at the best lengths, with the time that is left",
    "record-tuning": "recording the branches",
    "predict": "predicting the test set",
    "evaluate": "comparing baseline, incumbent and candidate",
    "decide": "deciding by the gates",
    "release": "recording, and releasing when it passed",
    "monitor": "judging production, and alerting",
    "collect-labels": "bringing home what experts said",
    "send-tasks": "picking what experts look at next, and sending it",
    "materialize": "reading history anew and writing its newest rows online",
    "prune": "removing what is past its age",
}
"""Step → what it does, in words."""


class StepLines:
    """Prints a line a step when it ends, and shows the running one with its time.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Any = None

    def __call__(self, step: Step) -> None:
        """Takes a step's news."""
        # A task that a pipeline has twice is called prepare-2.
        words = DOING.get(re.sub(r"-\d+$", "", step.name), "")
        if step.state == "running":
            self._show(f"[bold]{step.name}[/bold]: {words} …")
            return
        self._hide()
        mark = {"done": "[green]✓[/green]", "cached": "[cyan]=[/cyan]", "failed": "[red]✗[/red]"}[step.state]
        took = "cached" if step.state == "cached" else f"{step.seconds:.1f} s"
        self._console.print(f"  {mark} {step.name:<18} {took:>8}  [dim]{words}[/dim]", highlight=False, soft_wrap=True)

    def _show(self, text: str) -> None:
        self._hide()
        if self._console.is_terminal:
            self._status = self._console.status(text)
            self._status.start()
        else:
            self._console.print(f"  … {text.removesuffix(' …')}", highlight=False, soft_wrap=True)

    def _hide(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def close(self) -> None:
        """Ends what still moves on the screen."""
        self._hide()


@contextmanager
def step_lines(console: Console) -> Iterator[StepLines]:
    """``StepLines`` that is closed whatever happens."""
    lines = StepLines(console)
    try:
        yield lines
    finally:
        lines.close()


@contextmanager
def working(console: Console, words: str) -> Iterator[None]:
    """Shows that something is going on, and how long it took."""
    started = time.monotonic()
    if console.is_terminal:
        with console.status(f"{words} …"):
            yield
    else:
        console.print(f"  … {words}", highlight=False)
        yield
    console.print(f"  [green]✓[/green] {words} [dim]({time.monotonic() - started:.1f} s)[/dim]", highlight=False)


def result_table(result: Mapping[str, Any]) -> Table:
    """Baseline, incumbent and candidate side by side, as a run's last step recorded them."""
    unit = f" ({result['unit']})" if result["unit"] else ""
    table = Table(title=f"{result['use_case']} on the test set", title_justify="left")
    table.add_column("")
    for column in ("rows", f"{result['metric']}{unit}", "better than the baseline by", "one row, p99"):
        table.add_column(column, justify="right")
    for row in result["rows"]:
        better = ""
        if row["improvement"] is not None and None not in row["improvement"]:
            value, low, high = row["improvement"]
            better = f"{value:.3f} ({low:.3f} to {high:.3f})"
        latency = "" if row["p99_ms"] is None else f"{row['p99_ms']:.2f} ms"
        table.add_row(row["name"], f"{row['count']:,}", f"{row['value']:.3f}", better, latency)
    return table


def print_result(console: Console, result: Mapping[str, Any]) -> None:
    """What a run came to, and where to look further."""
    console.print()
    if "state" in result:
        _print_monitoring(console, result)
    elif "title" in result:
        _print_table(console, result)
    else:
        if "tuning" in result:
            _print_branches(console, result)
        _print_training(console, result)
    for sentence in result.get("then", ()):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Report: {result['report']}", highlight=False, soft_wrap=True)


def _print_table(console: Console, result: Mapping[str, Any]) -> None:
    table = Table(*result["header"], title=result["title"], title_justify="left")
    for row in result["rows"]:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)
    console.print(result["summary"], highlight=False)


def _print_monitoring(console: Console, result: Mapping[str, Any]) -> None:
    table = Table(*result["header"], title=f"{result['use_case']} in production", title_justify="left")
    for row in result["rows"]:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)
    colour = {"alerts": "red", "blind": "yellow", "well": "green"}[result["state"]]
    console.print(f"[{colour}]{escape(result['summary'])}[/{colour}]", highlight=False)
    for alert in result["standing"]:
        console.print(f"  {alert['window']}: {escape(alert['message'])}", highlight=False, soft_wrap=True)


def _print_branches(console: Console, result: Mapping[str, Any]) -> None:
    console.print(branches_table(result))
    for sentence in branches_words(result):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def _print_training(console: Console, result: Mapping[str, Any]) -> None:
    console.print(result_table(result))
    colour = {"release": "green", "hold": "yellow", "reject": "red"}[result["action"]]
    console.print(f"Decision: [{colour}]{result['action']}[/{colour}]", highlight=False)
    marks = {"passed": "[green]✓[/green]", "failed": "[red]✗[/red]", "unknown": "[yellow]?[/yellow]"}
    for reason in result["reasons"]:
        console.print(f"  {marks[reason['outcome']]} {reason['words']}", highlight=False)
