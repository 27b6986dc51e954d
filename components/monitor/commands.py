"""``ninefold monitor``: judge production, show how it developed, and list alerts."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Judge production, and say what is wrong.")

UseCaseArgument = Annotated[str, typer.Argument(help="Name of a use case, or its import path.")]


@app.command("run")
def run(
    use_case: UseCaseArgument,
    since: Annotated[str, typer.Option("--from", help="First decision moment; by default what may have changed.")] = "",
    until: Annotated[str, typer.Option("--to", help="Decision moments end before it; by default now.")] = "",
    known_until: Annotated[str, typer.Option(help="Judge by the truths that were known then; by default all.")] = "",
    reports: Annotated[bool, typer.Option("--reports/--no-reports", help="Make Evidently's reports, too.")] = True,
) -> None:
    """Judge every whole window, keep the measurements, and raise and clear alerts. Ends with 3 when alerts stand."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from components.monitor.steps import monitor_production
    from components.monitor.summary import asked_words, header, rows, state_words
    from ninefold.loading import load_use_case
    from ninefold.settings import settings

    declared = load_use_case(use_case)
    watched = monitor_production(use_case, since, until, known_until, settings(), reports=reports)
    console = Console()
    table = Table(title=f"{declared.title}", title_justify="left")
    for place, column in enumerate(header(declared)):
        table.add_column(column, justify="left" if place in (0, 7) else "right", overflow="fold")
    for row in rows(declared, watched):
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)
    colour = {"alerts": "red", "blind": "yellow", "well": "green"}[watched.state]
    console.print(f"[{colour}]{escape(state_words(watched))}[/{colour}]", highlight=False)
    if watched.missing:
        console.print(f"Limits rest on production alone: {watched.missing}.", highlight=False, markup=False)
    for word, changed in (("raised", watched.changes.raised), ("cleared", watched.changes.cleared)):
        for alert in changed:
            ended = " (and cleared since)" if word == "raised" and alert.cleared_at else ""
            console.print(
                f"  {word} {alert.window}: {alert.message}{ended}", highlight=False, markup=False, soft_wrap=True
            )
    if watched.requested_run:
        console.print(asked_words(watched.requested_run), highlight=False, soft_wrap=True)
    if watched.standing:
        raise typer.Exit(3)


@app.command("alerts")
def alerts(
    use_case: UseCaseArgument,
    everything: Annotated[bool, typer.Option("--all", help="Those that have cleared, too.")] = False,
) -> None:
    """List the alerts that stand."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from ninefold.loading import load_use_case
    from ninefold.settings import settings
    from ninefold.store import open_store

    name = load_use_case(use_case).name
    with open_store(settings().store_url) as store:
        found = store.alerts(name, standing=not everything)
    if not found:
        typer.echo(f"No alert {'of' if everything else 'stands for'} {name}.")
        return
    table = Table("severity", "check", "of", "window", "cleared", "what")
    for alert in found:
        cleared = f"{alert.cleared_at:%Y-%m-%d %H:%M}" if alert.cleared_at else ""
        table.add_row(alert.severity, alert.check, escape(alert.subject), alert.window, cleared, escape(alert.message))
    Console().print(table)


@app.command("ui")
def ui(
    port: Annotated[int | None, typer.Option(help="Port; by default NINEFOLD_MONITORING__UI_PORT.")] = None,
) -> None:
    """Serve Evidently's dashboards of all use cases, without calls home. Ends with Ctrl-C."""
    import subprocess

    from components.monitor.workspace import Workspace, ui_command
    from ninefold.settings import settings

    here = settings()
    with Workspace.open(here):
        pass
    chosen = port or here.monitoring.ui_port
    command, environment = ui_command(here, here.host, chosen)
    typer.echo(f"Dashboards: http://{here.host}:{chosen}")
    try:
        code = subprocess.run(command, env=environment, check=False).returncode
    except KeyboardInterrupt:
        code = 0
    raise typer.Exit(code)
