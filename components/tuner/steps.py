"""The tuner's work from files to files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.run_result import result_path
from components.tuner.budget import Branch, plan_branches, seconds_left
from components.tuner.outcome import OUTCOME, Outcome, best, summary, to_markdown
from components.tuner.task import Features, Task, run_apart
from ninefold.atomic import replace_file
from ninefold.clock import WallClock
from ninefold.dataset import read_card
from ninefold.errors import DataError
from ninefold.loading import load_use_case
from ninefold.package import verify_package
from ninefold.settings import settings

BRANCH_THREADS, LAST_THREADS = 1, 2
"""Threads of training: branches share the machine, the search that follows has it for itself."""


def plan(use_case: str, branches: int, max_training_time: float, seed: int) -> list[dict[str, Any]]:
    """The branches to run, as the items of a loop."""
    windows = load_use_case(use_case).windows
    return [
        branch.to_json() for branch in plan_branches(windows, branches=branches, seconds=max_training_time, seed=seed)
    ]


def search_branch(branch: dict[str, Any], seed: int, features: Features, folder: str) -> Outcome:
    """Searches at one choice of lengths; its failure is an outcome, like its success."""
    asked = Branch.from_json(branch)
    return run_apart(
        Task(
            branch=asked.number, lengths=asked.lengths, seconds=asked.seconds, seed=seed, threads=BRANCH_THREADS,
            folder=folder, features=features,
        ),
        WallClock(),
    )  # fmt: skip


def choose_lengths(folders: Sequence[str], max_training_time: float) -> dict[str, Any]:
    """The ``lengths`` of the best branch, and the ``seconds`` that are left of the budget.

    Raises:
        DataError: All branches failed.
    """
    outcomes = list(read_outcomes(folders).values())
    left = seconds_left(max_training_time, [(one.began, one.ended) for one in outcomes])
    return {"lengths": dict(best(outcomes).lengths), "seconds": round(left, 1)}


def read_outcomes(folders: Sequence[str]) -> dict[str, Outcome]:
    """Folder → what became of its branch, in the branches' order."""
    found = {folder: Outcome.from_json(json.loads((Path(folder) / OUTCOME).read_text())) for folder in folders}
    return dict(sorted(found.items(), key=lambda one: -1 if one[1].branch is None else one[1].branch))


def search_further(
    *,
    folders: Sequence[str],
    seconds: float,
    seed: int,
    training: str,
    validation: str,
    package: str,
    tuning: str,
    table: str,
) -> tuple[str, dict[str, float]]:
    """Goes on from the best branch with what is left, and keeps the better of both packages.

    Args:
        folders: Where each branch's package and outcome lie.
        seconds: What is left.
        seed: As in the branches.
        training: Training set at the chosen lengths.
        validation: Validation set, likewise.
        package: Folder for the package.
        tuning: JSON file for what tuning came to.
        table: Markdown file for the same.

    Returns:
        The package's digest, and numbers for the run's metrics.

    Raises:
        DataError: All branches failed, or the sets are not those that the best branch searched on.
    """
    found = read_outcomes(folders)
    outcomes = list(found.values())
    first = best(outcomes)
    source = next(folder for folder, outcome in found.items() if outcome is first)
    manifest = verify_package(Path(source) / str(first.digest), str(first.digest))
    if manifest.signature.views != read_card(training).signature.views:
        raise DataError("The sets have other window lengths than the best branch.", remedy="Make them at its lengths.")
    last = run_apart(
        Task(
            branch=None, lengths=first.lengths, seconds=seconds, seed=seed, threads=LAST_THREADS, folder=package,
            training=training, validation=validation, known=first.rows,
        ),
        WallClock(),
    )  # fmt: skip
    chosen = best([first, last])
    for folder in Path(package).iterdir():
        if folder.is_dir() and folder.name != chosen.digest:
            shutil.rmtree(folder)
    if chosen is first:
        shutil.copytree(Path(source) / str(first.digest), Path(package) / str(first.digest), dirs_exist_ok=True)
    document = summary(outcomes, last, chosen)
    Path(tuning).write_text(json.dumps(document, indent=1))
    Path(table).write_text(to_markdown(document))
    values = {f"validation {chosen.metric}": chosen.value, "branches": len(outcomes), "failed": document["failed"]}
    return str(chosen.digest), {name: float(value) for name, value in values.items() if value is not None}


def record_tuning(use_case: str, run_id: str, tuning: str) -> None:
    """Adds what tuning came to to the run's result; where steps share no home there is none, and its table is shown."""
    here = settings()
    path = result_path(here, load_use_case(use_case).name, run_id)
    if here.environment == "cluster":
        return
    result = json.loads(path.read_text())
    result["tuning"] = json.loads(Path(tuning).read_text())
    replace_file(path, json.dumps(result, indent=1).encode())
