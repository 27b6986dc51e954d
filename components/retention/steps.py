"""Pruning as a step: what went, and what stays by which rule."""

from __future__ import annotations

from pathlib import Path

from components.run_result import RunResult
from ninefold.clock import WallClock, parse_instant
from ninefold.loading import load_use_case
from ninefold.settings import settings
from ninefold.store import open_store
from ninefold.store.prune import prune, table

ACTOR = "retention"


def prune_step(use_case: str, until: str, run_id: str, summary: str) -> dict[str, float]:
    """Prunes the production database and the files beside it, and says what went.

    The policy is one for all use cases, and so is a run of this.

    Args:
        use_case: Name or import path; named by import path, its windows are known and keep their events.
        until: Instant that ages are counted to; empty for now.
        run_id: Names the run's report and result.
        summary: Markdown file.

    Returns:
        Records and files that went and that stay, for the run's metrics.
    """
    here, declared = settings(), load_use_case(use_case)
    with open_store(here.store_url) as store:
        done = prune(
            store, here, WallClock(), use_cases=[use_case], actor=ACTOR, own_run=run_id,
            as_of=parse_instant(until, field="until") if until else None,
        )  # fmt: skip
    header, rows = table(done)
    removed, kept = sum(part.removed for part in done), sum(part.kept for part in done)
    result = RunResult(
        use_case=declared.name, title="What was pruned", header=header, rows=tuple(rows),
        summary=f"{removed:,} went, {kept:,} stay.",
    )  # fmt: skip
    Path(summary).write_text(result.markdown())
    result.keep(here, run_id)
    return {"went": float(removed), "stay": float(kept)}
