"""Removes files past their age: packages that nothing needs, what is made again when it is missing, damaged pieces.

Files' ages are the machine's own, so they go by the wall clock, whatever clock the records go by.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ninefold.errors import NinefoldError
from ninefold.loading import load_use_case
from ninefold.settings import Settings
from ninefold.store.journal import DAMAGED
from ninefold.store.pruning import Pruning, record_pruning
from ninefold.store.rows import to_micros
from ninefold.store.store import Store
from ninefold.store.tables import leases, runs
from ninefold.store.unneeded_packages import modified, prune_packages
from ninefold.store.workers import RUN_LEASE

GOES_ON = timedelta(days=7)
"""A run that nobody holds a lease on, began longer ago than this and has not ended, is taken for dead."""


def prune_files(
    store: Store, settings: Settings, *, now: datetime, actor: str, own_run: str = "", dry_run: bool = False
) -> Iterator[Pruning]:
    """Removes the files that are past their age, kind by kind.

    Args:
        store: The production database, which says what is needed.
        settings: The policy, and where files lie.
        now: The wall clock's instant.
        actor: Who prunes.
        own_run: Id of the run that prunes; that it goes on holds nothing.
        dry_run: Count, and remove nothing.
    """
    yield prune_packages(store, settings, now=now, actor=actor, dry_run=dry_run)
    policy = settings.retention
    if policy.pipelines_days is not None:
        before = now - timedelta(days=policy.pipelines_days)
        yield from _prune_pipelines(store, settings.home / "pipelines", before, now, actor, own_run, dry_run)
        references = sorted((settings.home / "reports").glob("*/monitor/reference-*"))
        yield _prune_aged(store, "references of the monitor", references, before, now, actor, dry_run)
    if policy.damaged_days is not None:
        before = now - timedelta(days=policy.damaged_days)
        pieces = sorted((settings.home / "journal").rglob(f"{DAMAGED}/*.bin"))
        yield _prune_aged(store, "damaged pieces of journals", pieces, before, now, actor, dry_run)


def going_run(store: Store, now: datetime, use_case: str | None = None, *, beside: str = "") -> str | None:
    """Id of a run that goes on, of a use case or of any, beside one; None when none does.

    A run whose worker was killed does not go on: its lease is over. One that never had a lease is somebody else's
    (a cluster's), and is believed for some days.

    Args:
        store: The production database.
        now: The wall clock's instant.
        use_case: Name of the use case; its runs may name it by an import path.
        beside: Id of a run that doesn't count.
    """
    lease = leases.c.until_us.label("lease_until_us")
    query = (
        sa.select(runs.c.run_id, runs.c.use_case, runs.c.started_at_us, lease)
        .select_from(runs.outerjoin(leases, leases.c.name == RUN_LEASE + runs.c.run_id))
        .where(runs.c.state == "running", runs.c.run_id != beside)
    )
    with store.reading() as connection:
        found = connection.execute(query).all()
    for run in found:
        held = run.lease_until_us
        going = run.started_at_us >= to_micros(now - GOES_ON) if held is None else held > to_micros(now)
        if going and (use_case is None or _is_of(run.use_case, use_case)):
            return str(run.run_id)
    return None


def _is_of(named: str, use_case: str) -> bool:
    """Whether a run's use case, by name or by import path, is the one of a name; when nobody can say, it may be."""
    if named == use_case:
        return True
    if ":" not in named:
        return False
    try:
        return load_use_case(named).name == use_case
    except NinefoldError:
        return True


def _prune_pipelines(
    store: Store, root: Path, before: datetime, now: datetime, actor: str, own_run: str, dry_run: bool
) -> Iterator[Pruning]:
    cache = root / "cache"
    folders = sorted(path for path in root.glob("*") if path.is_dir() and path not in (cache, root / own_run))
    entries = sorted(cache.glob("*.json"))
    if (run := going_run(store, now, beside=own_run)) is not None:
        # A step of it may have taken an older run's artifact out of the cache.
        why = f"the run {run} goes on"
        for kind, there in (("folders of runs", folders), ("cached steps", entries)):
            yield Pruning(kind=kind, use_case="", removed=0, kept=len(there), cutoff=before, held_by=why)
        return
    yield _prune_aged(store, "folders of runs", folders, before, now, actor, dry_run)
    yield _prune_aged(store, "cached steps", entries, before, now, actor, dry_run)


def _prune_aged(
    store: Store, kind: str, paths: Iterable[Path], before: datetime, now: datetime, actor: str, dry_run: bool
) -> Pruning:
    there = list(paths)
    gone = [path for path in there if modified(path) < before]
    if not dry_run and gone:
        for path in gone:
            remove: Callable[[Path], Any] = shutil.rmtree if path.is_dir() else os.unlink
            remove(path)
        with store.writing() as connection:
            record_pruning(connection, kind, len(gone), at=now, actor=actor, cutoff=before)
    return Pruning(kind=kind, use_case="", removed=len(gone), kept=len(there) - len(gone), cutoff=before)
