"""Asking for a training run: when answers have become worse, and nothing that would help is under way.

An alert asks until a run that saw the trouble has trained. Drift, nulls and traffic only warn.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import structlog

from components.monitor.alerts import QUALITY
from ninefold.clock import Clock, format_duration, format_instant, parse_instant
from ninefold.settings import Settings
from ninefold.splits import TimeSplit
from ninefold.store import Alert, Run, Store
from ninefold.store.workers import end_abandoned
from ninefold.usecase import UseCase

log = structlog.get_logger()

TRIES = 3
"""Runs that one alert asks for, where the ones before failed."""

_TRAINING = ("training", "tuning")
"""Pipelines that end in a candidate."""

_RUNS = 1_000
"""Runs of each that are looked at, the newest ones."""


def ask_for_training(
    name: str, use_case: UseCase, store: Store, settings: Settings, clock: Clock, *, until: datetime, main: int
) -> str | None:
    """Asks for a training run when an alert about the main version's loss stands that no run has answered yet.

    Args:
        name: Name or import path of the use case, as the run is to load it.
        use_case: The same, loaded.
        store: Holds alerts and runs.
        settings: Say how long the search may take.
        clock: Tells the time.
        until: End of the newest judged window: what a split by time divides at.
        main: The version whose answers clients get.

    Returns:
        Id of the run; None where none was asked for.
    """
    mine = [
        alert
        for alert in store.alerts(use_case.name, standing=True)
        if alert.check in QUALITY and alert.subject == f"version {main}" and _end(alert) <= until
    ]
    if not mine:
        return None
    end_abandoned(store)
    runs = list(_runs(name, use_case, store))
    if going := [run.run_id for run in runs if run.state in ("requested", "running")]:
        log.info("a training run is under way already", run=going[0])
        return None
    for alert in sorted(mine, key=lambda a: (a.window, a.check)):
        tried = {run.run_id for run in runs}
        names = [_run_id(use_case, alert, number) for number in range(1, TRIES + 1)]
        left = [run_id for run_id in names if run_id not in tried]
        if not left or any(_answers(run, alert, names) for run in runs):
            continue
        run = Run(
            run_id=left[0], pipeline="training", use_case=name, state="requested", started_at=clock.now(),
            parameters={
                "until": format_instant(until) if isinstance(use_case.split, TimeSplit) else "",
                "max_training_time": settings.monitoring.max_training_time,
                "max_trials": settings.monitoring.max_trials,
                "windows": _lengths(use_case, store, main),
                "seed": 0,
            },
        )  # fmt: skip
        if store.write_run(run):
            return run.run_id
    return None


def _runs(name: str, use_case: UseCase, store: Store) -> Iterator[Run]:
    """Runs that train the use case, whether they were asked for by its name or by an import path."""
    for pipeline in _TRAINING:
        for run in store.runs(pipeline=pipeline, limit=_RUNS):
            if run.use_case in (name, use_case.name) or run.run_id.startswith(f"{pipeline}-{use_case.name}-"):
                yield run


def _run_id(use_case: UseCase, alert: Alert, number: int) -> str:
    again = "" if number == 1 else f"-{number}"
    return f"training-{use_case.name}-alert-{alert.alert_id[:12]}{again}"


def _answers(run: Run, alert: Alert, names: list[str]) -> bool:
    """Whether a run that did not fail was asked for by the alert, or learned from the window that raised it."""
    if run.state == "failed":
        return False
    until = run.parameters.get("until")
    seen = bool(until) and parse_instant(str(until)) >= _end(alert)
    return run.run_id in names or seen


def _end(alert: Alert) -> datetime:
    """End of the window that raised it."""
    return parse_instant(alert.window.partition("/")[2])


def _lengths(use_case: UseCase, store: Store, main: int) -> dict[str, str]:
    """The main version's windows where they are not the declared ones: what was tuned stays tuned."""
    version = store.version(use_case.name, main)
    declared = {window.name: format_duration(window.length) for window in use_case.windows}
    kept = {} if version is None else version.lengths
    return {name: length for name, length in kept.items() if declared.get(name, length) != length}
