"""Which windows versions need now, or did a moment ago."""

from __future__ import annotations

import time

import structlog

from ninefold.store import Store
from ninefold.usecase import UseCase
from ninefold.windows import Window
from serving.featurizer.windows import open_windows, without_windows

FORGET_SECONDS = 300.0
"""How long a window outlives the last version that needs it: one that was replaced answers until its successor does."""

log = structlog.get_logger()


class WantedWindows:
    """Looks up the windows to be kept.

    Args:
        use_case: Whose.
        store: Where its versions are.
    """

    def __init__(self, use_case: UseCase, store: Store) -> None:
        self._use_case = use_case
        self._store = store
        self._needed: dict[str, tuple[Window, float]] = {}
        self._without: dict[int, str] = {}

    def look(self) -> dict[str, Window]:
        """View name → window, exact.

        Raises:
            StoreError: The store can't be read.
            ConfigurationError: The live version needs a window that is no longer declared.
        """
        versions = self._store.versions(self._use_case.name)
        without = without_windows(self._use_case, versions)
        if without != self._without:
            self._without = without
            for version, reason in without.items():
                log.warning("a version's windows can't be kept", version=version, reason=reason)
        now = time.monotonic()
        self._needed |= {view: (window, now) for view, window in open_windows(self._use_case, versions).items()}
        self._needed = {view: found for view, found in self._needed.items() if now - found[1] <= FORGET_SECONDS}
        return {view: window for view, (window, _) in self._needed.items()}
