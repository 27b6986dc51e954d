"""Materialization as a run: history is read anew, and what it says of now goes into the online store."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from components.collector.extract import bring_history
from components.featurizer.materialize import materialize, materialize_windows
from components.run_result import RunResult
from ninefold.clock import WallClock, format_instant, parse_instant
from ninefold.errors import InvalidInput
from ninefold.features import batch_feature_view
from ninefold.loading import load_use_case
from ninefold.online import open_online_store
from ninefold.settings import Settings, settings
from ninefold.store import Store, open_store
from ninefold.store.prune import present
from ninefold.usecase import UseCase

LATE = timedelta(days=1)
"""How much later than it was known a source may bring a row, for a run that goes by watermarks to see it."""


def refresh(use_case: str, since: str, until: str, run_id: str, summary: str) -> dict[str, float]:
    """Writes the newest rows of batch views, and those of the served versions' windows, into the online store.

    Args:
        use_case: Name or import path.
        since: Rows known since this instant; empty for since the views' watermarks, less a day for what came late.
        until: Rows known by this instant; empty for now.
        run_id: Names the run's report and result.
        summary: Markdown file.

    Returns:
        View → rows that changed something, for the run's metrics.

    Raises:
        InvalidInput: A text is no time, or ``since`` is not before ``until``.
    """
    here, declared = settings(), load_use_case(use_case)
    bring_history(declared, here)
    with open_store(here.store_url) as store:
        end = parse_instant(until, field="until") if until else present(store, here, WallClock())
        begin = parse_instant(since, field="since") if since else watermark(declared, here)
        if begin is not None and begin > end:
            raise InvalidInput("since", f"{format_instant(begin)} is after {format_instant(end)}.")
        written = materialize(declared, here, end, begin)
        for lengths in _lengths(declared, store):
            # A stream's own rows stay: this brings the keys that fell silent, and all of them to a store that was lost.
            for view, rows in materialize_windows(declared, here, lengths, end).items():
                written[view] = written.get(view, 0) + rows
    start = "the beginning" if begin is None else format_instant(begin)
    result = RunResult(
        use_case=declared.name, title=f"Rows of {declared.name} brought online", header=("view", "rows that changed"),
        rows=tuple((view, f"{rows:,}") for view, rows in written.items()),
        summary=f"Batch rows known from {start} to {format_instant(end)}.",
    )  # fmt: skip
    Path(summary).write_text(result.markdown())
    result.keep(here, run_id)
    return {view: float(rows) for view, rows in written.items()}


def watermark(use_case: UseCase, settings: Settings) -> datetime | None:
    """From when on rows are new: the oldest watermark of the batch views, less what may come late; None for all."""
    views = [batch_feature_view(view).view for view in use_case.batch_views]
    store = open_online_store(settings.online_url)
    try:
        marks = store.watermarks(views)
    finally:
        store.close()
    known = [mark for mark in marks.values() if mark is not None]
    return min(known) - LATE if views and len(known) == len(views) else None


def _lengths(use_case: UseCase, store: Store) -> list[dict[str, str]]:
    """The window lengths of the versions that are served, or may be."""
    served = [version for version in store.versions(use_case.name) if version.state != "retired"]
    return [dict(pairs) for pairs in dict.fromkeys(tuple(sorted(version.lengths.items())) for version in served)]
