"""One run of the monitor: read, join, judge, measure, alert, and say what it could not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import polars as pl

from components.monitor.alerts import Changes, Finding, Outcome, apply_findings, tell_webhook
from components.monitor.anomalies import DAYS_BEFORE, Traffic, by_hour, judge_traffic
from components.monitor.checks import (
    Column,
    check_columns,
    check_freshness,
    check_presence,
    check_quality,
    check_traffic,
    describe,
)
from components.monitor.joined import answers, counted, read_joined
from components.monitor.label_weights import with_label_weights
from components.monitor.measurements import CHECK, measurements
from components.monitor.reference import OUTPUT, Reference, baseline_losses, limits, read_reference
from components.monitor.retraining import ask_for_training
from components.monitor.trail import Trail
from components.monitor.windows import LENGTHS, Judged, Window, floor, judge, windows_between
from ninefold.clock import Clock
from ninefold.dataset import FEATURE, INPUT, REQUEST, columns_of
from ninefold.errors import NinefoldError
from ninefold.loading import load_use_case
from ninefold.settings import Settings
from ninefold.store import Alert, Store
from ninefold.usecase import UseCase

Array = np.ndarray[Any, Any]

MEMORY = 60
"""Windows before a run's first whose outcomes still count for hysteresis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What one run saw.

    Args:
        use_case: Name of the use case.
        now: What was known by now was used.
        main: Version whose answers clients get.
        windows: What was judged, oldest first.
        answered: Window label → predictions that clients got.
        judged: Versions and cohorts, window by window.
        columns: Window label → the watched columns.
        traffic: Window label → requests, fallbacks, errors, latency.
        findings: What every check found.
        changes: Alerts raised and cleared.
        standing: Alerts that stand now.
        requested_run: Training run that it asked for; None where it asked for none.
        missing: Why there is no history to calibrate on; empty where there is.
    """

    use_case: str
    now: datetime
    main: int
    windows: tuple[Window, ...]
    answered: dict[str, int]
    judged: tuple[Judged, ...]
    columns: dict[str, tuple[Column, ...]]
    traffic: dict[str, tuple[Traffic, ...]]
    findings: tuple[Finding, ...]
    changes: Changes
    standing: tuple[Alert, ...]
    requested_run: str | None
    missing: str

    @property
    def blind(self) -> tuple[str, ...]:
        """Checks that saw nothing in the newest window."""
        newest = [f for f in self.findings if f.window == self.windows[-1].label]
        seeing = {f.check for f in newest if f.outcome != "blind"}
        return tuple(dict.fromkeys(f.check for f in newest if f.check not in seeing))

    @property
    def state(self) -> str:
        """``alerts`` where one stands, else ``blind`` where a check saw nothing, else ``well``."""
        return "alerts" if self.standing else "blind" if self.blind else "well"


def watch(
    name: str, store: Store, settings: Settings, since: datetime, until: datetime, *, clock: Clock,
    known_until: datetime | None = None, reports: bool = True,
) -> Watched:  # fmt: skip
    """Judges every whole window in [since, until), and keeps, shows and says what it found.

    Args:
        name: Name or import path of the use case.
        store: The production database.
        settings: Say where history, reports and the webhook are.
        since: First decision moment.
        until: Just past the last one.
        clock: Tells the time.
        known_until: Judge by what was known then; None for now.
        reports: Whether Evidently reports are made, too.

    Raises:
        UsageError: No whole window lies between.
        StoreError: The store is out of reach.
    """
    use_case = load_use_case(name)
    policy, now = use_case.monitor, known_until or clock.now()
    windows = windows_between(since, until, policy.window)
    before = max(policy.reference_windows * LENGTHS[policy.window], timedelta(days=DAYS_BEFORE + 1))
    joined = read_joined(store, use_case, windows[0].start - before, windows[-1].end, known_until)
    frame = with_inputs(use_case, with_label_weights(joined, store, use_case))
    given = answers(frame)
    main = _main_version(store, use_case, given)
    reference = _reference(name, store, settings, main, given, windows[0])
    places = list(all_windows(windows, frame, policy.window))
    counts = _count(reference, places, given, main)
    behind = len(places) - len(windows)
    bounds = limits(use_case, reference)
    if reference.missing:
        passed = {column: rows[:behind] for column, rows in counts.items()}
        bounds = limits(use_case, reference.with_production(passed, _losses(use_case, places[:behind], given)))
    trail = Trail.of(reference, counts, bounds.psi, policy)
    hours, judgeable = by_hour(given), counted(use_case, frame)
    answered, judged, columns, traffic = {}, [], {}, {}
    findings: list[Finding] = []
    for place, window in enumerate(windows, start=behind):
        rows = window.rows(given)
        answered[window.label] = len(rows)
        findings.append(check_presence(window, len(rows)))
        of_window = list(judge(use_case, judgeable, window, now))
        judged += of_window
        findings += check_quality(use_case, of_window, bounds, now)
        distances = {column: float(found[place]) for column, found in trail.distances.items()}
        columns[window.label] = tuple(describe(rows, reference, distances, main))
        findings += check_columns(window, columns[window.label], bounds, reference, policy.minimum_rows)
        findings += check_freshness(use_case, window, rows)
        traffic[window.label] = tuple(judge_traffic(hours, window, policy))
        findings += check_traffic(window, traffic[window.label], policy.anomalous_hours)
    if reports:
        from components.monitor.evidently_report import report_windows

        findings += report_windows(use_case, settings, windows, given, reference, bounds, main)
    store.write_metrics(measurements(use_case, main, now, answered, judged, columns, traffic, findings))
    changes = apply_findings(
        store, use_case.name, _history(store, use_case, windows, findings),
        raise_after=policy.raise_after, clear_after=policy.clear_after, now=now,
    )  # fmt: skip
    requested = None
    if policy.retrain:
        requested = ask_for_training(name, use_case, store, settings, clock, until=windows[-1].end, main=main)
    if settings.monitoring.webhook is not None:
        url = settings.monitoring.webhook.get_secret_value()
        tell_webhook(store, use_case.name, url, seconds=settings.monitoring.webhook_seconds)
    return Watched(
        use_case=use_case.name, now=now, main=main, windows=tuple(windows), answered=answered, judged=tuple(judged),
        columns=columns, traffic=traffic, findings=tuple(findings), changes=changes,
        standing=tuple(store.alerts(use_case.name, standing=True)), requested_run=requested, missing=reference.missing,
    )  # fmt: skip


def with_inputs(use_case: UseCase, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with ``input.<name>``, ``baseline`` and ``prediction``, made from what was logged."""
    derived = use_case.inputs_of({**columns_of(frame, REQUEST), **columns_of(frame, FEATURE)})
    made = [
        pl.Series(INPUT + i.name, np.asarray(derived[i.name], dtype=np.float64)).fill_nan(None)
        if i.kind == "number"
        else pl.Series(INPUT + i.name, np.asarray(derived[i.name]).tolist(), dtype=pl.String)
        for i in use_case.inputs
    ]
    with_made = frame.with_columns(made)
    baseline = use_case.baseline(columns_of(with_made, INPUT)) if len(frame) else np.array([])
    return with_made.with_columns(
        pl.Series("baseline", np.asarray(baseline, dtype=np.float64)), pl.col("value").alias(OUTPUT)
    )


def _main_version(store: Store, use_case: UseCase, given: pl.DataFrame) -> int:
    live = store.live_version(use_case.name)
    versions = given["version"].unique().to_list()
    if live is not None and (live.version in versions or not versions):
        return live.version
    return int(given["version"].mode()[0]) if versions else 0


def _reference(name: str, store: Store, settings: Settings, main: int, given: pl.DataFrame, first: Window) -> Reference:
    use_case = load_use_case(name)
    oldest = next(store.predictions(use_case.name, limit=1), None)
    began = oldest.decided_at if oldest is not None else first.start
    before = given.filter(pl.col("decided_at") < first.start)
    return read_reference(name, settings, store.version(use_case.name, main), began, before)


def all_windows(judged: Sequence[Window], frame: pl.DataFrame, kind: Literal["day", "week"]) -> list[Window]:
    """The windows of a frame up to the last judged one, oldest first: those before the judged ones come first."""
    first = judged[0].start
    if len(frame):
        first = min(first, floor(frame["decided_at"][0], kind))
    return windows_between(first, judged[-1].end, kind)


def _count(reference: Reference, windows: Sequence[Window], given: pl.DataFrame, main: int) -> dict[str, Array]:
    """Column → [windows, bins]; of the predictions, those of the main version."""
    start, length = windows[0].start, windows[0].end - windows[0].start
    places = ((given["decided_at"] - start).dt.total_seconds() // int(length.total_seconds())).to_numpy()
    places = places.astype(np.int64)
    mine = (given["version"] == main).to_numpy()
    return {
        column: bins.count(given[column].filter(mine), places[mine], len(windows))
        if column == OUTPUT
        else bins.count(given[column], places, len(windows))
        for column, bins in reference.bins.items()
    }


def _losses(use_case: UseCase, windows: Sequence[Window], given: pl.DataFrame) -> Array:
    return np.concatenate(
        [
            baseline_losses(use_case, rows, np.zeros(len(rows), dtype=np.int64), 1)
            for rows in (w.rows(given) for w in windows)
        ]
        or [np.array([])]
    )


def _history(store: Store, use_case: UseCase, windows: Sequence[Window], findings: Sequence[Finding]) -> list[Finding]:
    """This run's findings, and what the newest run before found in the windows before and after."""
    newest = {(f.check, f.subject, f.window): f for f in findings}
    earliest = windows[0].start - MEMORY * LENGTHS[use_case.monitor.window]
    kept: dict[tuple[str, str, str], float | None] = {}
    # Measurements come oldest first, so the newest judgement of a window stands.
    for m in store.metrics(use_case.name, prefix=CHECK, windows_from=f"{earliest:%Y-%m-%d}"):
        kept[m.name.removeprefix(CHECK), m.slice, m.window] = m.value
    for (check, subject, window), value in kept.items():
        outcome: Outcome = "blind" if value is None else "over" if value else "within"
        message = f"{check} {subject} was over its limit.".replace("  ", " ")
        newest.setdefault(
            (check, subject, window),
            Finding(
                check=check, subject=subject, window=window, outcome=outcome, value=None, limit=None, message=message
            ),
        )
    return list(newest.values())


def blind_reason(error: Exception) -> str:
    """An error in the words of a finding."""
    said = str(error) if isinstance(error, NinefoldError) else f"{type(error).__name__}: {error}"
    return said.strip().splitlines()[0] if said.strip() else type(error).__name__
