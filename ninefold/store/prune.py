"""Pruning as a whole: records and files, by the settings' policy, as a command or a recurring run asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from ninefold.clock import Clock, format_instant
from ninefold.errors import ConfigurationError, UnknownUseCase, UsageError
from ninefold.loading import load_use_case
from ninefold.settings import Retention, Settings
from ninefold.store.leftovers import prune_files
from ninefold.store.present import records_clock
from ninefold.store.pruning import Pruning, newest_instant, prune_records, use_cases_with_records
from ninefold.store.retention import longest_window
from ninefold.store.store import Store


def prune(
    store: Store,
    settings: Settings,
    clock: Clock,
    *,
    use_cases: Sequence[str] = (),
    as_of: datetime | None = None,
    vouched: bool = False,
    actor: str,
    own_run: str = "",
    dry_run: bool = False,
) -> list[Pruning]:
    """Removes what is older than the policy says, of every use case.

    Args:
        store: The production database.
        settings: The policy, and where files lie.
        clock: The wall clock.
        use_cases: Import paths of use cases that are not in ``usecases/``; their windows keep their events.
        as_of: Instant that records' ages are counted to; None for now.
        vouched: Whether somebody stands by ``as_of``, even where everything is past its age then.
        actor: Who prunes.
        own_run: Id of the run that prunes, which goes on while it does.
        dry_run: Count, and remove nothing.

    Raises:
        UsageError: Everything is past its age, as after a clock jumped ahead.
    """
    now = present(store, settings, clock) if as_of is None else as_of
    windows = longest_windows(store, use_cases)
    if not vouched:
        _refuse_to_empty(store, settings.retention, now)
    done = list(prune_records(store, settings.retention, windows, now=now, actor=actor, dry_run=dry_run))
    done += prune_files(store, settings, now=clock.now(), actor=actor, own_run=own_run, dry_run=dry_run)
    return done


def table(done: Sequence[Pruning], *, dry_run: bool = False) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows that say what went, and what stays by which rule; kinds without a record are left out."""
    header = ("use case", "kind", "would go" if dry_run else "went", "stay", "older than", "what stays by rule")
    rows: list[tuple[str, ...]] = []
    for part in done:
        if part.removed or part.kept:
            before = "" if part.cutoff is None else f"{part.cutoff:%Y-%m-%d %H:%M}"
            rows.append((part.use_case, part.kind, f"{part.removed:,}", f"{part.kept:,}", before, part.held_by))
    return header, rows


def present(store: Store, settings: Settings, clock: Clock) -> datetime:
    """Now, by the clock that records go by."""
    return records_clock(store, settings.clock, wall=clock).now()


def longest_windows(store: Store, paths: Sequence[str]) -> Mapping[str, timedelta | None]:
    """Use case with records → its longest window; None where its declaration is not found."""
    declared = {found.name: found for found in map(load_use_case, paths)}
    windows: dict[str, timedelta | None] = {}
    for name in use_cases_with_records(store):
        try:
            found = declared[name] if name in declared else load_use_case(name)
        except (UnknownUseCase, ConfigurationError):
            windows[name] = None
            continue
        windows[name] = longest_window(found, [version.lengths for version in store.versions(name)])
    return windows


def _refuse_to_empty(store: Store, policy: Retention, now: datetime) -> None:
    """A clock that jumped ahead makes everything old."""
    newest = newest_instant(store)
    days = [d for d in (policy.predictions_days, policy.truths_days, policy.events_days) if d is not None]
    if days and newest is not None and newest < now - timedelta(days=min(days)):
        raise UsageError(
            f"The newest record is of {format_instant(newest)}: at {format_instant(now)} all are past their age.",
            remedy="Check the clock; if it is right, say so with --as-of.",
        )
