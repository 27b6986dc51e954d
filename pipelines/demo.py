"""The demo: the loop's first half on real data, start to end, in a home of its own.

The store and the online rows of the demo are made anew each time, so that a second run tells the same story; what
pipelines cached stays, so that it is quicker.
"""

from __future__ import annotations

import resource
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ninefold.clock import WallClock
from ninefold.errors import StepFailed
from ninefold.settings import Settings, settings
from ninefold.store import open_store
from ninefold.usecase import load_use_case
from pipelines.launch import execute_run, request_run
from pipelines.live_check import LiveCheck, check_live, wait_for_predictions
from pipelines.progress import print_result, step_lines, working
from pipelines.replay import Replayed, next_request
from pipelines.replay_run import replay_here
from serving.supervisor.addresses import curl_line
from serving.supervisor.foreground import start_detached, stop
from serving.supervisor.supervisor import Supervisor

START = datetime(2013, 7, 1, tzinfo=UTC)


def run_demo(console: Console, name: str, *, max_training_time: float, days: int) -> None:
    """Runs the demo and leaves its services running.

    Raises:
        StepFailed: A step failed, or the candidate did not pass its gate.
    """
    started = time.monotonic()
    use_case = load_use_case(name)
    here = Settings(home=settings().home / "demo", clock="event")
    _start_over(console, here)
    console.rule(f"[bold]1  Learn[/bold]: {use_case.title}", align="left")
    store = open_store(here.store_url)
    parameters = {"until": START.date().isoformat(), "max_training_time": max_training_time}
    asked = request_run("training", name, parameters, store=store, clock=WallClock())
    with step_lines(console) as lines:
        ended = execute_run(asked, store=store, settings=here, on_step=lines)
    if ended is None:
        raise StepFailed("Another process took the demo's run.", remedy="Run one demo at a time.")
    _, result = ended
    print_result(console, result)
    if result["version"] is None:
        raise StepFailed(f"The candidate was not released: {result['summary']}", remedy=f"See {result['report']}")

    console.print()
    console.rule("[bold]2  Answer[/bold]: model server, front end and collector", align="left")
    with working(console, "starting the services"):
        start_detached(here, name, model_only=False)
    until = START + timedelta(days=days)
    console.print()
    console.rule(f"[bold]3  Live[/bold]: {days} days of traffic in event time, truths as they land", align="left")
    with working(console, f"replaying {START:%B} {START.day} to {(until - timedelta(days=1)).day}, {START.year}"):
        replayed = replay_here(use_case, START, until, settings=here, console=console)
    with working(console, "comparing live predictions and features with offline ones"):
        wait_for_predictions(store, use_case.name, replayed.requests)
        check = check_live(use_case, store, here, START, until)
    store.close()
    console.print()
    console.print(_table(use_case.metric.name, use_case.target.unit or "", result, check, replayed))
    for example in check.parity.examples:
        console.print(
            f"  [red]{example.feature}[/red]: online {example.online!r}, offline {example.offline!r}", highlight=False
        )
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**20
    console.print(
        f"{time.monotonic() - started:.0f} s; the largest process had {peak:.1f} GB. "
        f"Report: {result['report']}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    asked_next = next_request(use_case, here.folder("data") / use_case.name, until)
    _next_steps(console, here, name, asked_next)


def _start_over(console: Console, here: Settings) -> None:
    stopped = stop(here)
    if stopped:
        console.print("Stopped the services of the demo before.")
    for path in (here.home / "feast", here.home / "journal", here.home / "gateway"):
        shutil.rmtree(path, ignore_errors=True)
    for path in here.home.glob("store.db*"):
        path.unlink()


def _table(metric: str, unit: str, result: dict[str, Any], check: LiveCheck, replayed: Replayed) -> Table:
    rows = {row["name"]: row for row in result["rows"]}
    table = Table(title="What it was worth", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("", style="dim")
    live = check.live

    def value(number: float) -> str:
        return f"{number:.2f} {unit}"

    table.add_row(
        "baseline, test month", value(rows["baseline"]["value"]), f"{metric} on {rows['baseline']['count']:,}"
    )
    table.add_row(
        "model, test month", value(rows["candidate"]["value"]), "chosen on the month before, never on this one"
    )
    table.add_section()
    table.add_row("baseline, replayed days", value(check.baseline.value.value), f"{metric} on {live.rows:,} with truth")
    table.add_row(
        "model offline, replayed days", value(check.offline.value.value), "features by the point-in-time join"
    )
    table.add_row(
        "model live, replayed days", value(live.value.value), "features read online, answers as they were given"
    )
    table.add_section()
    parity = check.parity
    equal = parity.values - sum(parity.different.values())
    mark = "[green]equal[/green]" if parity.equal else "[red]different[/red]"
    table.add_row("feature parity", mark, f"{equal:,} of {parity.values:,} values in {parity.rows:,} rows")
    table.add_row("truths known", f"{live.coverage:.1%}", f"{replayed.truths:,} came after their predictions")
    fallbacks = sum(check.fallbacks.values())
    table.add_row("answered by the fallback", f"{fallbacks:,}", ", ".join(check.fallbacks) or "the model answered all")
    table.add_row("latency, one call", f"{replayed.latency(0.5):.1f} ms", f"p99 {replayed.latency(0.99):.1f} ms")
    table.add_row(
        "replay", f"{replayed.requests / replayed.seconds:,.0f} /s",
        f"{replayed.requests:,} requests, {replayed.events:,} events, {replayed.truths:,} truths",
    )  # fmt: skip
    return table


def _next_steps(console: Console, here: Settings, name: str, request: dict[str, Any] | None) -> None:
    console.print()
    console.print("It still serves. Ask it about the next flight (explain: the same with :explain):", highlight=False)
    console.print(curl_line(Supervisor(here, name), request), highlight=False, soft_wrap=True, markup=False)
    home = here.home.relative_to(Path.cwd()) if here.home.is_relative_to(Path.cwd()) else here.home
    console.print(
        f"\nThen, with [bold]export NINEFOLD_HOME={home} NINEFOLD_CLOCK=event[/bold]:\n"
        "  ninefold status     what runs\n"
        "  ninefold down       stop it\n"
        "  ninefold --help     everything else; [bold].venv/bin/ninefold[/bold] where .venv is not active",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
