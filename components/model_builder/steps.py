"""The model builder's work from files to files."""

from __future__ import annotations

from pathlib import Path

from components.model_builder.build import BuildResult, build


def build_package(
    training: str,
    validation: str,
    *,
    max_training_time: float,
    max_trials: int,
    seed: int,
    folder: str,
    leaderboard: str,
) -> tuple[str, dict[str, float]]:
    """Builds, and writes the package under ``folder`` and the leaderboard as Markdown.

    Args:
        training: Training set.
        validation: Validation set.
        max_training_time: Seconds for everything.
        max_trials: Ends the search after so many trials; 0 for as many as time allows.
        seed: Of every random choice.
        folder: Where the package goes.
        leaderboard: File of the leaderboard.

    Returns:
        The package's digest, and numbers for the run's metrics.
    """
    result = build(
        training, validation, max_training_time=max_training_time, models_url=folder, seed=seed,
        trials=max_trials or None,
    )  # fmt: skip
    Path(leaderboard).write_text(_leaderboard(result))
    values = {f"validation {result.metric}": result.chosen.value, f"baseline {result.metric}": result.baseline_metric}
    values |= {"trials": result.trials, "seconds": round(result.seconds, 1)}
    if result.parity_error is not None:
        values["parity error"] = result.parity_error
    return result.digest, {name: float(value) for name, value in values.items() if value is not None}


def _leaderboard(result: BuildResult) -> str:
    lines = [f"# Leaderboard by {result.metric} ({result.direction})", "", "| | family | value | seconds |"]
    lines.append("|---|---|---:|---:|")
    for place, row in enumerate(result.leaderboard, start=1):
        value = "pruned" if row.value is None else f"{row.value:.4f}"
        lines.append(f"| {place} | {row.family} | {value} | {row.seconds:.1f} |")
    return "\n".join(lines) + "\n"
