"""The ``ninefold`` command: a table from a command to the module that owns it, loaded when it is called."""

from __future__ import annotations

import errno
from typing import Any

import typer
import typer.core
import typer.main

from ninefold import __version__
from ninefold.errors import NinefoldError

COMMANDS: dict[str, tuple[str, str]] = {
    "new": ("ninefold.scaffold.commands:new", "Write a use case's folder from a file or a database."),
    "run": ("pipelines.commands:run", "Run a pipeline here: training, tuning, monitoring, and others."),
    "submit": ("pipelines.cluster_commands:submit", "Submit a run to Kubeflow Pipelines."),
    "recurring": ("pipelines.cluster_commands:recurring", "Apply, list, remove recurring runs on Kubeflow Pipelines."),
    "compile": ("pipelines.commands:compile_pipelines", "Compile the pipelines to pipelines/compiled/."),
    "schedule": ("pipelines.commands:schedule", "Run a pipeline again and again, by a six-field cron expression."),
    "orchestrator": ("pipelines.commands:orchestrator", "Serve the runs API: POST /v1/runs."),
    "build": ("components.model_builder.commands:build", "Search for the best model of a training set and package it."),
    "evaluate": ("components.evaluator.commands:evaluate", "Score predictions against the test truths."),
    "label": ("components.labeller.commands:app", "Have experts label in Label Studio, and collect what they said."),
    "monitor": ("components.monitor.commands:app", "Judge production, alert, and show how it developed."),
    "features": ("components.featurizer.commands:app", "Apply, materialize and look at the feature store."),
    "up": ("serving.supervisor.commands:up", "Serve a use case: models, front end, collector."),
    "down": ("serving.supervisor.commands:down", "Stop what `up` started."),
    "status": ("serving.supervisor.commands:status", "Show what is served and how it does."),
    "doctor": ("serving.supervisor.commands:doctor", "Check this machine and say what is missing."),
    "release": ("components.releaser.commands:app", "Versions' model servers on a cluster: write, apply, retire them."),
    "rollout": ("serving.rollout.commands:app", "Replace the live version step by step; look at it, act on it."),
    "replay": ("pipelines.commands:replay", "Replay history as live traffic, in event time."),
    "demo": ("pipelines.commands:demo", "The whole loop on real flights, start to end."),
    "key": ("ninefold.commands:key", "Make API keys."),
    "store": ("ninefold.commands:store", "Look at, prune and erase from the production database; make a version live."),
}
"""Command → (import path of a Typer app or function, help)."""


_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What the machine refuses: no space, a quota, a read-only disk, no right. A traceback would add nothing."""


class _LazyGroup(typer.core.TyperGroup):
    """A group that knows its commands' names and help, and imports one only when it runs."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A stand-in with the help text: enough to list it."""
        return typer.core.TyperCommand(cmd_name, help=COMMANDS[cmd_name][1]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The real command, imported now."""
        name = args[0]
        if name not in COMMANDS:
            return super().resolve_command(ctx, args)
        return name, _load(name, *COMMANDS[name]), args[1:]


def _load(name: str, path: str, text: str) -> Any:
    from ninefold.loading import load_object

    target: Any = load_object(path, what="command")
    if isinstance(target, typer.Typer):
        command = typer.main.get_command(target)
    else:
        app = typer.Typer(add_completion=False)
        app.command(name, help=target.__doc__ or text)(target)
        command = typer.main.get_command(app)
    command.name = name
    return command


app = typer.Typer(
    name="ninefold", cls=_LazyGroup, no_args_is_help=True, add_completion=False, rich_markup_mode=None,
    help="The nine components of a real-world machine-learning system, closed into a loop.",
)  # fmt: skip


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        typer.echo(f"ninefold {__version__}")
        raise typer.Exit


def main() -> None:
    """Runs the command line; an error of Ninefold's own is one line and its exit code."""
    try:
        app()
    except NinefoldError as error:
        typer.echo(f"ninefold: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        if error.errno not in _MACHINE:
            raise
        where = f" {error.filename}" if error.filename else ""
        typer.echo(f"ninefold: {error.strerror}:{where or ' something could not be written'}.", err=True)
        raise SystemExit(1) from None
