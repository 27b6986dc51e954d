"""``ninefold build``: the model builder on the command line, with progress and the leaderboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from components.model_builder import GREATEST_SEED

if TYPE_CHECKING:
    from rich.table import Table

    from components.model_builder.build import BuildResult


def build(
    train: Annotated[str, typer.Option(help="Training set: a path or file:// URI of a Ninefold data set.")],
    validation: Annotated[str, typer.Option(help="Validation set of the same run.")],
    metric: Annotated[str | None, typer.Option(help="What to optimise; by default what the data set says.")] = None,
    max_training_time: Annotated[float, typer.Option(min=1, help="Seconds for everything.")] = 60.0,
    models: Annotated[str | None, typer.Option(help="Where packages lie; by default the models folder.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=GREATEST_SEED, help="Of every random choice.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Of training.")] = 2,
    trials: Annotated[int | None, typer.Option(min=1, help="End after so many trials.")] = None,
) -> None:
    """Search for the best model of a training set and package it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from components.model_builder.build import Progress as Step
    from components.model_builder.build import build as run
    from ninefold.settings import settings

    console = Console()
    best: list[str] = []
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
    ) as bar:
        line = bar.add_task("reading", total=max_training_time)

        def show(step: Step) -> None:
            if step.row is not None and step.row.value is not None:
                best[:] = [f": {step.row.family} {step.row.value:.5g}"]
            bar.update(line, completed=min(step.elapsed, step.budget), description=step.stage + "".join(best))

        result = run(
            train, validation, metric=metric, max_training_time=max_training_time,
            models_url=models or settings().models_url, seed=seed, threads=threads, trials=trials, progress=show,
        )  # fmt: skip
    console.print(leaderboard(result))
    if not result.beats_baseline:
        console.print("Nothing beats the baseline; the package is the baseline.")
    if result.parity_error is not None:
        console.print(
            f"The graph differs from the trained model by at most {result.parity_error:.2g}.", highlight=False
        )
    console.print(f"Packaged {result.chosen.family} in {result.seconds:.1f} s:", highlight=False)
    console.print(result.uri, highlight=False, soft_wrap=True)


def leaderboard(result: BuildResult, *, rows: int = 12) -> Table:
    """The best rows of a leaderboard as a table for a terminal."""
    from rich.table import Table

    table = Table(title=f"Leaderboard: {result.metric} on the validation set", title_justify="left")
    for name in ("", "family", result.metric, "seconds", "parameters"):
        table.add_column(name, justify="right" if name in (result.metric, "seconds") else "left")
    shown = [row for row in result.leaderboard if row.value is not None]
    # The baseline is what everything is compared with: it is there, however many are better.
    kept = shown[:rows] + [row for row in shown[rows:] if row.family == "baseline"]
    for row in kept:
        params = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.params.items())
        mark = "→" if row == result.chosen else ""
        table.add_row(mark, row.family, f"{row.value:.5g}", f"{row.seconds:.1f}", params)
    left = len(result.leaderboard) - len(kept)
    if left:
        table.caption = f"and {left} more trials"
    return table
