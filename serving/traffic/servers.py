"""The model servers of a use case on a cluster: InferenceServices, seen, made where one is missing, and retired.

The release makes a version's server before it registers the version. One that is wanted again after it was retired, or
that somebody deleted, is made here, as the release would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from ninefold.cluster.inference_service import API_VERSION, KIND, inference_service, server_labels, server_name
from ninefold.cluster.retirement import to_retire
from ninefold.errors import ClusterError
from ninefold.records import ModelVersion
from ninefold.settings import Settings
from ninefold.store import Store

if TYPE_CHECKING:
    from ninefold.cluster.api import ClusterApi

log = structlog.get_logger()

RELEASE_MANAGER = "ninefold-release"
"""Whose fields an InferenceService's are, whoever makes it: a later release of the baseline changes them."""

_RETIRE_EVERY = timedelta(seconds=30)


class Servers:
    """The InferenceServices of one use case.

    Args:
        api: The API server, under the release's field manager.
        use_case: Name of the use case.
        settings: Say what a version's server is like.
    """

    def __init__(self, api: ClusterApi, use_case: str, settings: Settings) -> None:
        self._api, self._use_case, self._settings = api, use_case, settings
        self._retired_at: datetime | None = None

    def documents(self) -> list[Mapping[str, Any]]:
        """All of them.

        Raises:
            ClusterError: The cluster has no KServe, or it is forbidden.
            Unavailable: The API server does not answer.
        """
        return list(self._api.list(API_VERSION, KIND, server_labels(self._use_case)))

    def start(self, version: ModelVersion) -> None:
        """Makes the server of a version that has none.

        Raises:
            ClusterError: The API server refuses: quota, no such kind, forbidden. Or others apply InferenceServices.
            Unavailable: It does not answer.
        """
        if self._settings.cluster.release == "render":
            raise ClusterError(
                f"its InferenceService {server_name(self._use_case, version.version)} is missing, and others apply it.",
                remedy=f"Write it with: ninefold release render {self._use_case} {version.version}",
            )
        self._api.apply(inference_service(self._use_case, version, self._settings))
        log.info("starting", version=version.version, digest=version.digest)

    def retire(self, store: Store, keep: Callable[[int], bool]) -> list[int]:
        """Deletes the servers that nobody needs any longer, now and then; returns which.

        Args:
            store: Says which are needed.
            keep: Whether a version has to stay whatever the store says: the routes in force name it.

        Raises:
            ClusterError: It is forbidden.
            Unavailable: The API server does not answer.
        """
        now = store.clock.now()
        # What others apply, others take away.
        if self._settings.cluster.release == "render":
            return []
        if self._retired_at is not None and now < self._retired_at + _RETIRE_EVERY:
            return []
        numbers = to_retire(
            store.versions(self._use_case),
            store.rollouts(self._use_case, limit=10_000),
            store.version_changes(self._use_case),
            now=now,
            warm=self._settings.cluster.keep_warm,
        )
        gone = [
            number
            for number in numbers
            if not keep(number) and self._api.delete(API_VERSION, KIND, server_name(self._use_case, number))
        ]
        self._retired_at = now
        if gone:
            log.info("retired", versions=gone)
        return gone
