"""Waiting until what runs has followed the store: a replayed day takes about a second, and services look once a second.

In production nobody waits. A replay does, so that the day after a decision is served by it, and a look after a day
sees all that the day brought.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from typing import Any

from ninefold.errors import DataError, StoreError, Unavailable
from ninefold.store import Store
from pipelines.http_session import HttpSession

_LAG = re.compile(r"^ninefold_front_end_journal_lag_bytes(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_POLL_SECONDS = 0.05


def wait_until_served(front_end: HttpSession, store: Store, use_case: str, *, seconds: float = 60.0) -> str:
    """Waits until the front end goes by the store's live version and open rollout.

    Args:
        front_end: Session to it.
        store: The production database.
        use_case: Name of the use case.
        seconds: How long at most.

    Returns:
        Why the candidate of the open rollout can't be asked; empty where it can, or where none is open.

    Raises:
        Unavailable: It does not follow in time; the message says what it serves and what it should.
    """
    live, rollout = store.live_version(use_case), store.rollout(use_case)
    wanted = (
        live.version if live is not None else None,
        (rollout.rollout_id, rollout.revision) if rollout is not None else None,
    )
    shown: dict[str, Any] = {}

    def follows() -> bool:
        nonlocal shown
        _, shown = front_end.get(f"/v1/models/{use_case}")
        served = shown.get("rollout")
        return wanted == (shown.get("version"), (served["id"], served["revision"]) if served else None)

    if not _wait(follows, seconds):
        raise Unavailable(
            f"After {seconds:.0f} s the front end serves version {shown.get('version')} with the rollout "
            f"{shown.get('rollout')}, where the store has version {wanted[0]} and the rollout {wanted[1]}."
            f" {shown.get('problem') or ''}",
            remedy="See: ninefold status",
        )
    served = shown["rollout"]
    return str(served["problem"]) if served and not served["ready"] else ""


def wait_until_kept(front_end: HttpSession, use_case: str, *, seconds: float = 60.0) -> None:
    """Waits until all that was answered is in the store, and what the candidate said beside it.

    The candidate is asked behind the live answer, and the journal is shipped behind both.

    Raises:
        StoreError: It is not there in time.
        DataError: The front end does not tell.
    """

    def shadowed() -> bool:
        rollout = front_end.get(f"/v1/models/{use_case}")[1].get("rollout")
        return rollout is None or rollout["shadowed"]["waiting"] == 0

    def shipped() -> bool:
        found = _LAG.search(front_end.text("/metrics"))
        if found is None:
            raise DataError(f"{front_end.base}/metrics does not tell how far the journal is shipped.")
        return float(found[1]) == 0.0

    if not (_wait(shadowed, seconds) and _wait(shipped, seconds)):
        raise StoreError(
            f"Not all answers are in the store after {seconds:.0f} s.", remedy="See the front end's log in logs/."
        )


def _wait(until: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        # One that died is started anew by its supervisor.
        with contextlib.suppress(Unavailable):
            if until():
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
