"""Where the rows behind views lie. Without Feast, whose import takes seconds: who reads the files needs no registry."""

from __future__ import annotations

from pathlib import Path

from ninefold.features import FeatureView
from ninefold.settings import Settings
from ninefold.usecase import UseCase


def source_path(use_case: UseCase, settings: Settings, view: FeatureView) -> Path:
    """The Parquet file behind a view: ``data/<use case>/views/<view>.parquet``, or ``windows/`` for a window."""
    folder = "windows" if view.source == "window" else "views"
    return settings.folder("data") / use_case.name / folder / f"{view.view}.parquet"
