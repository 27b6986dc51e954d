"""The process of one search: its task comes by standard input, package and outcome go to the task's folder."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from components.model_builder.build import build
from components.tuner.data import write_choice
from components.tuner.outcome import OUTCOME, Outcome, built, failed
from components.tuner.task import Task
from ninefold.atomic import replace_file
from ninefold.clock import Clock, WallClock
from ninefold.errors import NinefoldError


def search(task: Task, clock: Clock) -> Outcome:
    """Makes the data sets, where they are not made, and builds the best model within the task's time.

    Raises:
        NinefoldError: The data, or the model, can't be made.
    """
    with tempfile.TemporaryDirectory() as scratch:
        training, validation = task.training, task.validation
        if task.features is not None:
            training, validation = write_choice(task.features, task.lengths, Path(scratch))
        result = build(
            training, validation, seed=task.seed, threads=task.threads, models_url=task.folder, known=task.known,
            max_training_time=max(1.0, task.seconds - (clock.now().timestamp() - task.began)),
        )  # fmt: skip
    return built(task.branch, task.lengths, result, began=task.began, ended=clock.now().timestamp())


def main() -> int:
    """Runs the task of standard input; an error of Ninefold's own is an outcome, any other ends the process."""
    task, clock = Task.from_json(json.load(sys.stdin)), WallClock()
    try:
        outcome = search(task, clock)
    except NinefoldError as error:
        outcome = failed(task.branch, task.lengths, str(error), began=task.began, ended=clock.now().timestamp())
    replace_file(Path(task.folder) / OUTCOME, json.dumps(outcome.to_json()).encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
