"""The monitor's work as a step: what is judged, where results go."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from components.collector.extract import bring_history
from components.monitor.gauges import write_gauges
from components.monitor.run import Watched, watch
from components.monitor.summary import picture, to_json, to_markdown
from components.monitor.windows import LENGTHS, floor
from components.run_result import result_path
from ninefold.clock import WallClock, parse_instant
from ninefold.errors import UsageError
from ninefold.loading import load_use_case
from ninefold.settings import Settings, settings
from ninefold.store import open_store
from ninefold.usecase import UseCase


def monitor_production(
    name: str, since: str, until: str, known_until: str, here: Settings, *, reports: bool
) -> Watched:
    """Judges a period, and writes the gauges.

    Args:
        name: Name or import path of the use case.
        since: First decision moment; empty for what may have changed.
        until: Just past the last one; empty for now.
        known_until: Truths as they were known then; empty for all.
        here: Settings.
        reports: Whether Evidently's reports are made.
    """
    use_case, clock = load_use_case(name), WallClock()
    begin, end, known = period(use_case, since, until, known_until, here, clock.now())
    with open_store(here.store_url) as store:
        watched = watch(name, store, here, begin, end, clock=clock, known_until=known, reports=reports)
    write_gauges(use_case, watched, here)
    return watched


def monitor_step(
    name: str, since: str, until: str, run_id: str, metrics: str, summary: str, page: str
) -> dict[str, float]:
    """The pipeline's step: judges, writes the run's result, a Markdown summary and a page with the picture.

    Args:
        name: Name or import path of the use case.
        since: As ``monitor_production``.
        until: Likewise.
        run_id: Names the folder of the result.
        metrics: JSON file of the numbers.
        summary: Markdown file.
        page: HTML file.

    Returns:
        Numbers of the newest window, for the run's metrics.
    """
    here, use_case = settings(), load_use_case(name)
    if here.environment == "cluster":
        # A pod's home is empty, and what is judged by is made of history.
        bring_history(use_case, here)
    watched = monitor_production(name, since, until, "", here, reports=True)
    document = to_json(use_case, watched)
    Path(metrics).write_text(json.dumps(document, indent=1))
    Path(summary).write_text(to_markdown(use_case, watched))
    with open_store(here.store_url) as store:
        svg = picture(use_case, store, windows_from=watched.windows[0].label[:10]).decode()
    Path(page).write_text(
        f"<!doctype html><meta charset='utf-8'><title>{use_case.name}</title>{svg[svg.index('<svg') :]}"
    )
    if run_id:
        path = result_path(here, use_case.name, run_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name("summary.md").write_text(to_markdown(use_case, watched))
        report = path.with_name("report.html")
        report.write_text(Path(page).read_text())
        path.write_text(json.dumps({**document, "report": str(report)}, indent=1))
    newest = [j for j in watched.judged if j.window == watched.windows[-1] and not j.cohort]
    numbers = {f"{use_case.metric.name} version {j.version}": j.value for j in newest}
    numbers |= {f"coverage version {j.version}": j.coverage for j in newest}
    numbers["alerts standing"] = float(len(watched.standing))
    numbers["blind checks"] = float(len(watched.blind))
    return {name: value for name, value in numbers.items() if value == value}


def period(
    use_case: UseCase, since: str, until: str, known_until: str, settings: Settings, now: datetime
) -> tuple[datetime, datetime, datetime | None]:
    """What a run judges: as asked, or every window whose truths may have come since the run before.

    Args:
        use_case: Whose.
        since: As asked; empty for what may have changed.
        until: As asked; empty for now.
        known_until: As asked; empty for all that is known.
        settings: Say whether the clock is the events'.
        now: The clock's time.

    Raises:
        InvalidInput: A text is no time.
        UsageError: The clock is the events', and no end was given.
    """
    if not until and settings.clock == "event":
        raise UsageError("Where events are the clock, nobody knows what now is.", remedy="Give --from and --to.")
    kind = use_case.monitor.window
    end = parse_instant(until, field="--to") if until else floor(now, kind)
    # A schedule's instant lies somewhere in a window: what is judged are whole ones before it.
    begin = parse_instant(since, field="--from") if since else _back(floor(end, kind), use_case.truth_delay, kind)
    known = parse_instant(known_until, field="--known-until") if known_until else None
    return begin, end, known


def _back(end: datetime, delay: timedelta, kind: Literal["day", "week"]) -> datetime:
    windows = -(-delay // LENGTHS[kind]) + 1
    return end - windows * LENGTHS[kind]
