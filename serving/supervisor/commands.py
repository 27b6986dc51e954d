"""``ninefold up``, ``down``, ``status`` and ``doctor``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from serving.gateway.process import Share
    from serving.supervisor.doctor import Level
    from serving.supervisor.status import Row
    from serving.supervisor.supervisor import Supervisor

UseCaseName = Annotated[str, typer.Argument(help="Name of the use case, or its import path.")]


def up(
    use_case: UseCaseName,
    model_only: Annotated[bool, typer.Option("--model-only", help="The model servers alone.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return when everything is ready; it goes on.")] = False,
) -> None:
    """Serve a use case: models, front end, collector. Ctrl-C, SIGTERM or `ninefold down` drains and stops it."""
    from ninefold.settings import settings
    from serving.supervisor.doctor import require_own_roots
    from serving.supervisor.foreground import serve, start_detached
    from serving.supervisor.supervisor import Supervisor

    require_own_roots()
    console = _console()
    supervisor = Supervisor(settings(), use_case, model_only=model_only)
    console.print(f"Starting {supervisor.name} …")
    if detach:
        state = start_detached(settings(), use_case, model_only=model_only)
        _announce(console, supervisor, state.without_gateway)
        console.print(
            "It goes on in the background. Look with [bold]ninefold status[/], stop with [bold]ninefold down[/]."
        )
        return

    def ready() -> None:
        _announce(console, supervisor, supervisor.without_gateway)
        console.print("Ctrl-C drains and stops it.")

    serve(supervisor, progress=lambda line: console.print(f"  {line}"), ready=ready)
    console.print("Drained and stopped.")


def down() -> None:
    """Stop what `up` started: open requests are answered, what was kept is shipped."""
    from ninefold.settings import settings
    from serving.supervisor.foreground import stop

    stopped = stop(settings())
    _console().print(f"Stopped {', '.join(stopped)}." if stopped else f"Nothing runs in {settings().home}.")


def status(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Show what is served and how it does. Exit code 1 when something is not as it should be."""
    from ninefold.keys import local_key
    from ninefold.settings import settings
    from serving.supervisor.state import read_state
    from serving.supervisor.status import rollout_row, rows

    state = read_state(settings().home)
    if state is None or not state.is_alive:
        if as_json:
            typer.echo(json.dumps({"running": False}))
        else:
            typer.echo(f"Nothing runs in {settings().home}. Start with: ninefold up USE_CASE")
        raise typer.Exit(1)
    found = rows(state)
    key = "" if state.rollout is None else local_key(settings().home, settings().keys_path)
    rollout = rollout_row(state, key)
    healthy = not state.problem and all(row.ready for row in found) and not (rollout and rollout.problem)
    if as_json:
        from dataclasses import asdict

        document = {"running": True, "use_case": state.use_case, "live": state.live, "problem": state.problem}
        lists = {"processes": [asdict(row) for row in found], "shares": [asdict(share) for share in state.shares]}
        shown = {"rollout": None if rollout is None else rollout.to_json()}
        typer.echo(json.dumps({**document, **lists, **shown}, indent=1))
    else:
        _show(found, f"{state.use_case}: version {_version(state.live)} is live")
        for line in [] if rollout is None else rollout.lines():
            typer.echo(line)
        if state.shares:
            typer.echo(f"Direct clients: {'; '.join(map(_share, state.shares))}")
        if state.problem:
            typer.echo(f"Problem: {state.problem}")
    raise typer.Exit(0 if healthy else 1)


def doctor(
    use_case: Annotated[str | None, typer.Argument(help="Also check what this use case needs.")] = None,
) -> None:
    """Check this machine and say what is missing. Exit code 1 when something fails."""
    from rich.table import Table

    from serving.supervisor.doctor import examine

    table = Table(box=None, pad_edge=False)
    for column in ("", "check", "found", "remedy"):
        table.add_column(column, overflow="fold")
    style: dict[Level, str] = {"ok": "green", "warn": "yellow", "fail": "red"}
    checks = examine(use_case)
    for check in checks:
        table.add_row(f"[{style[check.level]}]{check.level}[/]", check.name, check.found, check.remedy)
    _console().print(table)
    if any(check.level == "fail" for check in checks):
        raise typer.Exit(1)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _announce(console: Console, supervisor: Supervisor, without_gateway: str) -> None:
    from serving.supervisor.addresses import addresses, curl_line

    for name, address in addresses(supervisor):
        console.print(f"  {name:<12} {address}")
    if without_gateway:
        console.print(
            f"No gateway ({without_gateway}): the front end asks the model servers directly. What is missing: weights"
            " between versions, limits and retries for clients that ask models themselves.",
            markup=False,
        )
    console.print("Ask it:")
    console.print(f"  {curl_line(supervisor)}", markup=False)


def _show(found: list[Row], title: str) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("process", "pid", "state", "uptime", "restarts", "port", "version", "predictions", "journal lag"):
        table.add_column(column)
    for row in found:
        table.add_row(*row.cells())
    console = _console()
    console.print(table)
    for row in found:
        if row.last_line:
            console.print(f"{row.name}: {row.last_line}", markup=False)


def _share(share: Share) -> str:
    observed = "" if share.observed is None else f", {share.observed:.1%} of them observed"
    return f"version {share.version} {share.configured:.1%} by weight ({share.requests:,} requests{observed})"


def _version(version: int | None) -> str:
    return "none" if version is None else str(version)
