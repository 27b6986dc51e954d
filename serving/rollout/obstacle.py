"""Whether a candidate could be asked: the front end goes by it, and its windows are filled back.

A front end that has the candidate's package and can make its inputs says so itself, at the same address where it says
which version answers. Until it does, asking nobody would look like a candidate that answers nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx

from ninefold.errors import NinefoldError
from ninefold.keys import service_key
from ninefold.online import open_online_store
from ninefold.package import verify_package
from ninefold.records import ModelVersion
from ninefold.settings import Settings
from ninefold.usecase import UseCase

_SECONDS = 5.0


class OnlineObstacle:
    """Asks the front end, and the online rows.

    Args:
        settings: Where both are.
        use_case: Whose.
    """

    def __init__(self, settings: Settings, use_case: UseCase) -> None:
        self._settings = settings
        self._declared = [view.view for view in use_case.feature_views() if view.window is not None]
        self._url = f"{front_end_url(settings)}/v1/models/{use_case.name}"
        self._wanted: dict[str, list[str]] = {}

    def __call__(self, candidate: ModelVersion) -> str:
        """Why the candidate can't be asked yet, in words; empty where nothing stands in the way."""
        return self._windows(candidate) or self._front_end(candidate)

    def rollout(self) -> dict[str, Any] | None:
        """What the front end says of the rollout that it goes by; None where it goes by none, or does not answer."""
        try:
            return self._asked()
        except (httpx.HTTPError, ValueError, NinefoldError):
            return None

    def _asked(self) -> dict[str, Any] | None:
        """What the front end says of the rollout that it goes by.

        Raises:
            NinefoldError: There is no key for it.
            httpx.HTTPError: It does not answer, or refuses.
            ValueError: Its answer is none.
        """
        key = service_key(self._settings)
        answer = httpx.get(self._url, headers={"X-ApiKey": key}, timeout=_SECONDS)
        answer.raise_for_status()
        document = answer.json()
        rollout = document.get("rollout") if isinstance(document, dict) else document
        if rollout is not None and not isinstance(rollout, dict):
            raise ValueError(f"{answer.text[:60]!r} is not an answer of a front end.")
        return rollout

    def _front_end(self, candidate: ModelVersion) -> str:
        try:
            rollout = self._asked() or {}
        except (httpx.HTTPError, ValueError, NinefoldError) as error:
            return f"The front end at {self._url} can't be asked: {error}"
        if rollout.get("candidate") != candidate.version:
            return f"The front end does not go by version {candidate.version} yet: its model server is not ready."
        if rollout.get("problem"):
            return f"The front end can't ask version {candidate.version}: {rollout['problem']}"
        return "" if rollout.get("ready") else f"The front end is not ready to ask version {candidate.version}."

    def _windows(self, candidate: ModelVersion) -> str:
        try:
            wanted = self._windows_of(candidate)
            if not wanted:
                return ""
            online = open_online_store(self._settings.online_url)
            try:
                marks = online.watermarks({*wanted, *self._declared})
            finally:
                online.close()
        except NinefoldError as error:
            return f"What version {candidate.version} needs can't be looked at: {error}"
        empty = [view for view in wanted if marks[view] is None]
        if empty:
            return f"The windows of version {candidate.version} are not filled back yet: {', '.join(empty)}."
        # Held against the others, not against now: a stream that stands still is not the candidate's fault.
        reached = {view: mark for view, mark in marks.items() if mark is not None}
        first = max(reached.values()) - timedelta(seconds=self._settings.serving.stale_after_seconds)
        behind = [view for view in wanted if reached[view] < first]
        if behind:
            return f"The windows of version {candidate.version} are behind the others: {', '.join(behind)}."
        return ""

    def _windows_of(self, candidate: ModelVersion) -> list[str]:
        """Which windows a version needs; its package, which may have to be downloaded, is read once."""
        if candidate.digest not in self._wanted:
            signature = verify_package(candidate.uri, candidate.digest).signature
            self._wanted[candidate.digest] = [view.view for view in signature.views if view.window is not None]
        return self._wanted[candidate.digest]


def front_end_url(settings: Settings) -> str:
    """Where the front end is asked."""
    if settings.rollout.front_end_url:
        return settings.rollout.front_end_url.rstrip("/")
    # What listens everywhere is asked here.
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://{host}:{settings.ports.front_end}"
