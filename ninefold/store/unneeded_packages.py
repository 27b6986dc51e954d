"""Removes the packages that no version needs, on this machine or in an object store."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ninefold.dataset import local_path
from ninefold.package import MANIFEST
from ninefold.package.objects import Objects, Stored, is_remote
from ninefold.settings import Settings
from ninefold.store.pruning import Pruning, record_pruning
from ninefold.store.rollout_rows import ENDED
from ninefold.store.store import Store
from ninefold.store.tables import models, rollouts
from ninefold.store.versions import VERSIONS_LOCK

_DIGEST = re.compile(r"[0-9a-f]{64}")
_GOING = ".pruning-"
_AT_ONCE = 20
"""Packages that are removed under one lock, within which no version is numbered or made live."""


class _Packages(Protocol):
    """Where packages lie."""

    def found(self) -> Mapping[str, datetime]:
        """Digest → when anything in the package was last written."""
        ...

    def remove(self, digests: Sequence[str]) -> None:
        """Makes packages none, while nobody can begin to need one."""
        ...

    def sweep(self) -> None:
        """Removes what is left of them, and of a removal that was killed."""
        ...


def prune_packages(store: Store, settings: Settings, *, now: datetime, actor: str, dry_run: bool = False) -> Pruning:
    """Removes retired packages beyond the policy's number, and old ones that no version names.

    Args:
        store: The production database, which says what is needed.
        settings: The policy, and where packages lie.
        now: The wall clock's instant.
        actor: Who prunes.
        dry_run: Count, and remove nothing.

    Raises:
        NinefoldError: An object store refuses, or does not answer.
    """
    places: _Packages = (
        _InStore(settings.models_url) if is_remote(settings.models_url) else _OnDisk(local_path(settings.models_url))
    )
    days = settings.retention.unreleased_days
    before = None if days is None else now - timedelta(days=days)
    found = places.found()
    removed, pruning_id = 0, None
    waiting = sorted(found)
    while waiting:
        # Whoever makes a version live holds this lock while the package is verified.
        with store.writing(alone=VERSIONS_LOCK) as connection:
            needed, named = _named(connection, settings.retention.packages)
            gone = [
                digest
                for digest in waiting
                if digest not in needed and (digest in named or (before is not None and found[digest] < before))
            ]
            now_gone, waiting = gone[:_AT_ONCE], gone[_AT_ONCE:]
            removed += len(now_gone)
            if not dry_run and now_gone:
                places.remove(now_gone)
                pruning_id = record_pruning(
                    connection, "packages", len(now_gone), at=now, actor=actor, cutoff=before, pruning_id=pruning_id
                )
    if not dry_run:
        places.sweep()
    return Pruning(
        kind="packages", use_case="", removed=removed, kept=len(found) - removed, cutoff=before,
        held_by=f"live, registered, or of the last {settings.retention.packages} that retired",
    )  # fmt: skip


def _named(connection: Connection, keep: int) -> tuple[set[str], set[str]]:
    """Digests that are needed, and all that versions name."""
    in_rollout = sa.exists().where(
        rollouts.c.use_case == models.c.use_case,
        rollouts.c.state.not_in(ENDED),
        sa.or_(rollouts.c.incumbent == models.c.version, rollouts.c.candidate == models.c.version),
    )
    query = sa.select(models.c.use_case, models.c.digest, models.c.state, in_rollout.label("in_rollout"))
    needed: set[str] = set()
    named: set[str] = set()
    retired: dict[str, int] = {}
    for row in connection.execute(query.order_by(models.c.use_case, models.c.version.desc())):
        named.add(row.digest)
        if row.state == "retired":
            retired[row.use_case] = retired.get(row.use_case, 0) + 1
        if row.state != "retired" or row.in_rollout or retired[row.use_case] <= keep:
            needed.add(row.digest)
    return needed, named


class _OnDisk:
    """In a folder of this machine: renamed at once, removed at leisure."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def found(self) -> Mapping[str, datetime]:
        folders = (path for path in self._root.glob("*") if _DIGEST.fullmatch(path.name) and path.is_dir())
        return {folder.name: modified(folder) for folder in folders}

    def remove(self, digests: Sequence[str]) -> None:
        for digest in digests:
            (self._root / digest).rename(self._root / f"{_GOING}{digest}")

    def sweep(self) -> None:
        for folder in self._root.glob(f"{_GOING}*"):
            shutil.rmtree(folder)


class _InStore:
    """In an object store: the manifest first, without which nothing is a package; all while nobody writes it anew."""

    def __init__(self, url: str) -> None:
        self._objects = Objects(url)
        self._listed: dict[str, dict[str, Stored]] = {}

    def found(self) -> Mapping[str, datetime]:
        for path, stored in self._objects.list().items():
            digest, _, name = path.partition("/")
            if name and _DIGEST.fullmatch(digest):
                self._listed.setdefault(digest, {})[name] = stored
        return {digest: max(one.modified for one in files.values()) for digest, files in self._listed.items()}

    def remove(self, digests: Sequence[str]) -> None:
        for digest in digests:
            names = sorted(self._listed[digest], key=lambda name: name != MANIFEST)
            self._objects.delete(f"{digest}/{name}" for name in names)

    def sweep(self) -> None:
        """What a removal that was killed left behind is found by its age, as every broken upload is."""


def modified(path: Path) -> datetime:
    """When a file, or anything in a folder, was last written."""
    newest = max([path.lstat().st_mtime, *(inside.lstat().st_mtime for inside in path.rglob("*"))])
    return datetime.fromtimestamp(newest, UTC)
