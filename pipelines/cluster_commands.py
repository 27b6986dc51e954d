"""``ninefold submit`` and ``ninefold recurring``: runs on Kubeflow Pipelines."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from components.image import IMAGE
from ninefold.clock import WallClock
from ninefold.loading import load_use_case
from pipelines import recurring as runs
from pipelines.commands import (
    Branches,
    Count,
    MixOption,
    Pipeline,
    SearchTime,
    Seed,
    Since,
    Until,
    UseCaseArgument,
    Windows,
    parameters,
)
from pipelines.kfp_server import KfpServer, address
from pipelines.platform import SERVICE_ACCOUNT
from pipelines.submit import Where, page_of, wait_for, where
from pipelines.submit import submit as submit_run

Host = Annotated[
    str | None, typer.Option("--host", metavar="URL", help="Kubeflow Pipelines; by default KF_PIPELINES_ENDPOINT.")
]
Namespace = Annotated[
    str, typer.Option(metavar="NAME", help="Namespace of the runs, where Kubeflow Pipelines has users.")
]
Image = Annotated[
    str | None, typer.Option(metavar="IMAGE", help=f"Image of the steps, best with its digest; by default {IMAGE}.")
]
NodeSelector = Annotated[
    list[str] | None,
    typer.Option("--node-selector", metavar="KEY=VALUE", help="Label of the nodes that may run steps; repeatable."),
]
Tolerations = Annotated[
    list[str] | None,
    typer.Option("--toleration", metavar="KEY[=VALUE][:EFFECT]", help="Taint of nodes that steps bear; repeatable."),
]
ServiceAccount = Annotated[str, typer.Option(metavar="NAME", help="Service account of the steps.")]

recurring = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Apply, list and remove the recurring runs of a use case."
)


def submit(
    pipeline: Pipeline,
    use_case: UseCaseArgument,
    host: Host = None,
    namespace: Namespace = "",
    since: Since = "",
    until: Until = "",
    max_training_time: SearchTime = None,
    window: Windows = None,
    seed: Seed = None,
    branches: Branches = None,
    count: Count = None,
    mix: MixOption = "",
    image: Image = None,
    node_selector: NodeSelector = None,
    toleration: Tolerations = None,
    service_account: ServiceAccount = SERVICE_ACCOUNT,
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="One that exists; by default the use case's own, which is made.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; a run that fails is an error.")] = False,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long --wait waits.")] = 3600.0,
) -> None:
    """Submit a run to Kubeflow Pipelines. Without --until a run takes the time at which it begins."""
    console = Console()
    place = where(image, node_selector or [], toleration or [], service_account)
    given = parameters(since, until, max_training_time, window, seed, branches, count, mix)
    at = address(host, namespace)
    server = KfpServer(at)
    run_id, name = submit_run(server, pipeline, use_case, given, place=place, experiment=experiment, clock=WallClock())
    console.print(f"Run {name}: {page_of(at.host, run_id)}", highlight=False, soft_wrap=True)
    _say_of_caching(console, place)
    if not wait:
        console.print(
            f"Follow it there, or: kfp --endpoint {at.host} run get {run_id}", highlight=False, soft_wrap=True
        )
        return
    wait_for(
        server, run_id, seconds=timeout,
        on_step=lambda step, state: console.print(f"  {step:<20} {state.lower()}", highlight=False),
    )  # fmt: skip
    console.print("Succeeded.")


@recurring.command("apply")
def apply_recurring(
    use_case: UseCaseArgument,
    host: Host = None,
    namespace: Namespace = "",
    image: Image = None,
    node_selector: NodeSelector = None,
    toleration: Tolerations = None,
    service_account: ServiceAccount = SERVICE_ACCOUNT,
) -> None:
    """Create what is missing, recreate what changed, remove what the table has no longer. It can be repeated."""
    console = Console()
    place = where(image, node_selector or [], toleration or [], service_account)
    server = KfpServer(address(host, namespace))
    for step in runs.apply(server, use_case, place):
        paused = "" if step.enabled or step.action == "removed" else ", and disabled as it was"
        extra = f", {len(step.delete)} more of that name removed" if step.action == "kept" and step.delete else ""
        console.print(f"{step.name}: {step.action}{extra}{paused}", highlight=False)
    _say_of_caching(console, place)


@recurring.command("list")
def list_recurring(use_case: UseCaseArgument, host: Host = None, namespace: Namespace = "") -> None:
    """List the recurring runs of a use case, and what of the table is missing."""
    server = KfpServer(address(host, namespace))
    there = runs.found(server.recurring_runs(), load_use_case(use_case).name)
    rows = [(one.name, one.cron, "enabled" if one.enabled else "disabled", one.run_id) for one in there]
    names = {one.name for one in there}
    rows += [(row.name, row.row.cron, "missing", "") for row in runs.wanted(use_case, Where()) if row.name not in names]
    for name, cron, state, run_id in sorted(rows):
        typer.echo(f"{name:<36} {cron:<14} {state:<9} {run_id}".rstrip())


@recurring.command("remove")
def remove_recurring(use_case: UseCaseArgument, host: Host = None, namespace: Namespace = "") -> None:
    """Delete the recurring runs of a use case that `apply` made; others stay, and so do runs that go on."""
    for one in runs.remove(KfpServer(address(host, namespace)), use_case):
        typer.echo(f"{one.name}: removed")


def _say_of_caching(console: Console, place: Where) -> None:
    if not place.fixed:
        console.print(
            f"[dim]{place.image} has no digest: should other code be pushed under its tag, cached steps are the old "
            "code's.[/dim]",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
