"""One search in a process of its own, so that its death is a failed branch and not a lost run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from components.model_builder.search import Row
from components.tuner.lengths import Lengths
from components.tuner.outcome import OUTCOME, Outcome, failed
from ninefold.atomic import replace_file
from ninefold.clock import Clock

PATIENCE = 300.0
"""Seconds beyond twice its time after which a search is taken for hung."""
_SAID = 500
"""Characters of a search's last words that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Where requests, truths and their features at every length lie.

    Args:
        use_case: Name or import path.
        parts: ``training``, ``validation``, ``test`` → examples.
        features: What ``write_features`` wrote.
        notes: File with the split's notes.
    """

    use_case: str
    parts: Mapping[str, str]
    features: str
    notes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One search.

    Args:
        branch: Its number; None for the search that follows the best branch.
        lengths: Window name → length.
        seconds: What it may take, everything included.
        seed: Of every random choice.
        threads: Of training.
        folder: Where package and outcome go.
        began: When it began, by the wall clock: starting its process counts.
        features: What a branch makes its data sets of; None where they are made.
        training: Training set that is made already.
        validation: Validation set, likewise.
        known: Trials of an earlier search on the same sets.
    """

    branch: int | None
    lengths: Lengths
    seconds: float
    seed: int
    threads: int
    folder: str
    began: float = 0.0
    features: Features | None = None
    training: str = ""
    validation: str = ""
    known: tuple[Row, ...] = ()

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Task:
        """Reads what ``asdict`` made."""
        features = document["features"]
        known = tuple(Row(**row) for row in document["known"])
        return cls(**{**document, "features": features and Features(**features), "known": known})


def run_apart(task: Task, clock: Clock) -> Outcome:
    """Runs a search in a process of its own and returns what became of it, whatever that is."""
    began = clock.now().timestamp()
    task = replace(task, began=began)
    Path(task.folder).mkdir(parents=True, exist_ok=True)
    file = Path(task.folder) / OUTCOME
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "components.tuner.worker"],
            input=json.dumps(asdict(task)), capture_output=True, text=True, check=False,
            timeout=2 * task.seconds + PATIENCE,
        )  # fmt: skip
        said = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1][:_SAID]
        how = f"was killed by signal {-ended.returncode}" if ended.returncode < 0 else f"ended in: {said}"
    except subprocess.TimeoutExpired as error:
        how = f"did not end within {error.timeout:.0f} s"
    if file.exists():
        return Outcome.from_json(json.loads(file.read_text()))
    outcome = failed(task.branch, task.lengths, f"The search {how}.", began=began, ended=clock.now().timestamp())
    replace_file(file, json.dumps(outcome.to_json()).encode())
    return outcome
