"""The orchestrator's commands."""

from __future__ import annotations

import signal
import threading
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from ninefold.clock import WallClock, format_instant
from ninefold.errors import InvalidInput, UsageError
from ninefold.settings import settings
from ninefold.store import open_store
from pipelines.launch import execute_run, request_run
from pipelines.progress import print_result, step_lines

UseCaseArgument = Annotated[str, typer.Argument(help="Name of a folder in usecases/, or an import path.")]
Pipeline = Annotated[
    str, typer.Argument(help="Which pipeline: training, tuning, monitoring, labelling, materialization or retention.")
]
Until = Annotated[
    str,
    typer.Option(
        help="Training, tuning: use only what was known before this. Monitoring, labelling: end before it. "
        "Materialization: rows known by it. Retention: ages are counted to it."
    ),
]
Since = Annotated[
    str,
    typer.Option(
        help="Monitoring, labelling: first decision moment (2013-07-01). Materialization: rows known since it."
    ),
]
DemoSearchTime = Annotated[
    float | None,
    typer.Option(
        "--max-training-time",
        help="Seconds of each search for a model. If not given, each fits one model: the same story on every machine.",
    ),
]
SearchTime = Annotated[
    float | None,
    typer.Option(
        "--max-training-time",
        help="Training: seconds of the search; 120 if not given. Tuning: of all searches together; 240.",
    ),
]
Windows = Annotated[
    list[str] | None, typer.Option("--window", help="Training: a window's length: destination_gain=6h.")
]
Seed = Annotated[int | None, typer.Option(help="Training, tuning: seed of the search; 0 if not given.")]
Branches = Annotated[
    int | None, typer.Option(help="Tuning: choices of window lengths to try, at most; 4 if not given.")
]

Count = Annotated[int | None, typer.Option(help="Labelling: tasks that experts get; 100 if not given.")]
MixOption = Annotated[
    str, typer.Option(help="Labelling: shares of the samplers, such as `uncertainty=0.9,random=0.1`.")
]


def parameters(
    since: str,
    until: str,
    max_training_time: float | None,
    windows: list[str] | None,
    seed: int | None,
    branches: int | None,
    count: int | None = None,
    mix: str = "",
) -> dict[str, Any]:
    """What was given, for the pipeline to check: one that it does not know is named."""
    lengths = {}
    for text in windows or []:
        name, separator, length = text.partition("=")
        if not separator:
            raise InvalidInput("--window", f"{text!r} is no name=length.", remedy="Write destination_gain=6h.")
        lengths[name] = length
    given = {"since": since, "until": until, "windows": lengths, "mix": mix}
    texts: dict[str, Any] = {name: value for name, value in given.items() if value}
    numbers = {"max_training_time": max_training_time, "seed": seed, "branches": branches, "count": count}
    return texts | {name: value for name, value in numbers.items() if value is not None}


def run(
    pipeline: Pipeline,
    use_case: UseCaseArgument,
    since: Since = "",
    until: Until = "",
    max_training_time: SearchTime = None,
    window: Windows = None,
    seed: Seed = None,
    branches: Branches = None,
    count: Count = None,
    mix: MixOption = "",
) -> None:
    """Run a pipeline here and now, with Kubeflow Pipelines' local runner. Finished steps are cached."""
    console = Console()
    here, clock = settings(), WallClock()
    # As Ctrl-C does: the step is ended, and the run recorded as failed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    store = open_store(here.store_url)
    try:
        given = parameters(since, until, max_training_time, window, seed, branches, count, mix)
        asked = request_run(pipeline, use_case, given, store=store, clock=clock)
        console.print(f"Run {asked.run_id}", highlight=False)
        with step_lines(console) as lines:
            ended = execute_run(asked, store=store, settings=here, on_step=lines)
        if ended is None:
            console.print("Another process took the run; see it with the runs API.")
            return
        finished, result = ended
        print_result(console, result)
        then = f" Next: ninefold up {use_case}" if pipeline in ("training", "tuning") else ""
        console.print(f"[dim]{finished.seconds:.0f} s.{then}[/dim]", highlight=False)
    except KeyboardInterrupt:
        typer.echo("ninefold: Interrupted. Run the same command again to resume: finished steps are cached.", err=True)
        raise typer.Exit(130) from None
    finally:
        store.close()


def compile_pipelines(
    check: Annotated[bool, typer.Option("--check", help="Only say whether the checked-in files are current.")] = False,
) -> None:
    """Compile the pipelines to pipelines/compiled/, and to Kubernetes resources in manifests/base/pipelines/."""
    from pipelines.compile import COMPILED, MANIFESTS, compile_to, differences

    if check:
        stale = differences()
        if stale:
            typer.echo(f"Not current: {', '.join(stale)}. Run: make compile", err=True)
            raise typer.Exit(1)
        typer.echo("The compiled pipelines are current.")
        return
    for file in compile_to(COMPILED, MANIFESTS if MANIFESTS.is_dir() else None):
        typer.echo(f"Wrote {file}")


def schedule(
    pipeline: Pipeline,
    use_case: UseCaseArgument,
    cron: Annotated[str, typer.Option(help="Second, minute, hour, day of month, month, day of week; in UTC.")],
    max_training_time: SearchTime = None,
    window: Windows = None,
    seed: Seed = None,
    branches: Branches = None,
    count: Count = None,
    mix: MixOption = "",
) -> None:
    """Run a pipeline again and again; each run uses what is known at its due instant. Ends with Ctrl-C."""
    from pipelines.schedule import Schedule, keep_running

    console = Console()
    here, clock = settings(), WallClock()
    due = Schedule(cron)
    store = open_store(here.store_url)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def job(instant: datetime) -> None:
        given = parameters("", format_instant(instant), max_training_time, window, seed, branches, count, mix)
        asked = request_run(pipeline, use_case, given, store=store, clock=clock)
        console.print(f"Run {asked.run_id}", highlight=False)
        with step_lines(console) as lines:
            ended = execute_run(asked, store=store, settings=here, on_step=lines)
        if ended is not None:
            print_result(console, ended[1])

    console.print(f"{pipeline} of {use_case} by {cron!r}; next at {format_instant(due.after(clock.now()))}.")
    counts = keep_running(due, job, clock=clock, stop=stop)
    store.close()
    console.print(f"Stopped. {counts['ran']} ran, {counts['failed']} failed, {counts['missed']} missed.")


def orchestrator(
    port: Annotated[int | None, typer.Option(help="Port; by default NINEFOLD_PORTS__ORCHESTRATOR.")] = None,
) -> None:
    """Serve the runs API: POST /v1/runs with a key."""
    from ninefold.keys import keys_of
    from ninefold.service import serve
    from pipelines.api import runs_app

    here = settings()
    store = open_store(here.store_url)
    app = runs_app(store, here, keys_of(here), WallClock())
    serve(app, host=here.host, port=port or here.ports.orchestrator, name="orchestrator")


def replay(
    use_case: UseCaseArgument,
    since: Annotated[str, typer.Option("--from", help="First decision moment (2013-07-01).")],
    until: Annotated[str, typer.Option("--to", help="Decision moments end before it.")],
) -> None:
    """Replay history as live traffic through the services that `ninefold up` started, in event time."""
    from ninefold.clock import parse_instant
    from ninefold.loading import load_use_case
    from pipelines.replay_run import replay_here

    console = Console()
    begin, end = parse_instant(since, field="--from"), parse_instant(until, field="--to")
    replayed = replay_here(load_use_case(use_case), begin, end, settings=settings(), console=console)
    console.print(
        f"{replayed.requests:,} requests, {replayed.events:,} events and {replayed.truths:,} truths "
        f"in {replayed.seconds:.1f} s: {replayed.requests / replayed.seconds:.0f} requests a second.",
        highlight=False,
    )
    if replayed.fallbacks:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(replayed.fallbacks.items()))
        console.print(f"The baseline answered in place of the model: {reasons}.", highlight=False)


def demo(
    use_case: Annotated[
        str, typer.Argument(help="`arrivals`: the whole loop. `reviews`: few labels, and which to make next.")
    ] = "arrivals",
    max_training_time: DemoSearchTime = None,
    short: Annotated[bool, typer.Option("--short", help="End with the first promotion, and a week more.")] = False,
) -> None:
    """The whole loop on real flights: learn, serve, judge, replace, catch; or on reviews that experts label."""
    from pipelines.demo import run_demo
    from pipelines.labelling_demo import run_labelling_demo

    if use_case == "arrivals":
        run_demo(Console(), max_training_time=max_training_time, short=short)
    elif use_case == "reviews" and not short:
        run_labelling_demo(Console(), max_training_time=max_training_time)
    else:
        told = "has no short demo" if use_case == "reviews" else "has no demo"
        raise UsageError(f"{use_case} {told}.", remedy="There are `ninefold demo` and `ninefold demo reviews`.")
