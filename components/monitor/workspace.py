"""Evidently's SQL workspace in the home folder: a project a use case, its snapshots and its dashboard.

Evidently keeps no retention and leaves a deleted snapshot's content behind, so both are done here.
"""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from components.monitor.reference import OUTPUT
from ninefold.settings import Settings
from ninefold.usecase import UseCase

os.environ.setdefault("DO_NOT_TRACK", "1")


def folder(settings: Settings) -> Path:
    """Where the workspace lies."""
    path = settings.folder("reports") / "evidently"
    path.mkdir(parents=True, exist_ok=True)
    return path


def database(settings: Settings) -> str:
    """URL of the workspace's database."""
    if settings.monitoring.workspace_url is not None:
        return settings.monitoring.workspace_url.get_secret_value()
    return f"sqlite:///{folder(settings) / 'workspace.db'}"


class Workspace:
    """The workspace, open.

    Args:
        engine: Its database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from evidently.ui.service.storage.sql.utils import create_sql_project_manager
            from evidently.ui.service.type_aliases import ZERO_UUID

            self._engine = engine
            self._manager: Any = create_sql_project_manager(engine)
            self._user = ZERO_UUID

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Opens it, made and migrated when it is not there."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from evidently.legacy.utils.numpy_encoder import numpy_dumps
        return cls(sa.create_engine(database(settings), json_serializer=numpy_dumps))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()

    def keep(self, use_case: UseCase, snapshots: Sequence[Any], inputs: Sequence[str], *, most: int) -> None:
        """Adds snapshots, each in the place of its window's older one; renews the dashboard; drops the oldest.

        Args:
            use_case: Whose; its project is made when it is not there.
            snapshots: Evidently's, with the metadata ``window``.
            inputs: Columns of the dashboard.
            most: Snapshots that stay.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asyncio.run(self._keep(use_case, snapshots, inputs, most))

    async def _keep(self, use_case: UseCase, snapshots: Sequence[Any], inputs: Sequence[str], most: int) -> None:
        from components.monitor.dashboards import dashboard

        project = await self._project(use_case)
        kept = await self._manager.list_snapshots(self._user, project)
        new = {snapshot.to_snapshot_model().metadata["window"] for snapshot in snapshots}
        for old in kept:
            if old.metadata.get("window") in new:
                self._delete(project, old.id)
        for snapshot in snapshots:
            await self._manager.add_snapshot(self._user, project, snapshot.to_snapshot_model())
        kept = sorted(await self._manager.list_snapshots(self._user, project), key=lambda s: s.timestamp, reverse=True)
        for old in kept[most:]:
            self._delete(project, old.id)
        columns = [name for name in inputs if name != OUTPUT]
        await self._manager.save_project_dashboard(self._user, project, dashboard(use_case, columns))

    async def _project(self, use_case: UseCase) -> Any:
        found = await self._manager.search_project(self._user, use_case.name, None, None)
        if found:
            return found[0].id
        made = await self._manager.create_project(use_case.name, self._user, description=use_case.title)
        return made.id

    def _delete(self, project: Any, snapshot: Any) -> None:
        from evidently.ui.service.storage.sql.models import BlobSQLModel, PointSQLModel, SnapshotSQLModel

        with self._engine.begin() as connection:
            connection.execute(sa.delete(PointSQLModel).where(PointSQLModel.snapshot_id == snapshot))
            connection.execute(sa.delete(BlobSQLModel).where(BlobSQLModel.id == f"{project}/snapshots/{snapshot}.json"))
            connection.execute(sa.delete(SnapshotSQLModel).where(SnapshotSQLModel.id == snapshot))

    def windows(self, use_case: UseCase) -> list[str]:
        """Windows that have a snapshot, oldest first."""

        async def listed() -> list[str]:
            project = await self._project(use_case)
            return sorted(s.metadata["window"] for s in await self._manager.list_snapshots(self._user, project))

        return asyncio.run(listed())


def ui_command(settings: Settings, host: str, port: int) -> tuple[list[str], dict[str, str]]:
    """The command and environment of Evidently's UI on the workspace, with its calls home switched off."""
    config = folder(settings) / "ui.yaml"
    # The URL may hold a password.
    config.touch(mode=0o600)
    config.write_text(
        "storage:\n  type: sql\n"
        f"database:\n  url: {database(settings)}\n"
        "dashboard:\n  storage_type: sql\n"
        "telemetry:\n  enabled: false\n"
    )
    command = [
        sys.executable,
        "-m",
        "evidently.cli",
        "ui",
        "--conf-path",
        str(config),
        "--host",
        host,
        "--port",
        str(port),
    ]
    return command, {**os.environ, "DO_NOT_TRACK": "1"}
