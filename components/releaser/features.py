"""What a released version needs to be asked: its views registered in the feature store, its rows online."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from components.featurizer.historical import write_changelogs
from components.featurizer.materialize import materialize, materialize_windows
from feature_repo.definitions import apply
from ninefold.settings import Settings
from ninefold.usecase import UseCase


def bring_online(
    use_case: UseCase, lengths: Mapping[str, str], *, settings: Settings, until: datetime
) -> dict[str, int]:
    """Registers the views of a version at its exact window lengths, and writes their newest rows online.

    Rows that are online already are never overwritten by older ones, so this can be repeated at any time.

    Args:
        use_case: Whose.
        lengths: Window name → length.
        settings: Say where history, registry and online rows lie.
        until: Rows known at this instant or before.

    Returns:
        View → rows that changed something.
    """
    if not use_case.feature_views(lengths):
        return {}
    write_changelogs(use_case, lengths, settings)
    apply(use_case, settings, lengths)
    return {
        **materialize(use_case, settings, until),
        **materialize_windows(use_case, settings, lengths, until),
    }
