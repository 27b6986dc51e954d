"""The state of production that a run starts from."""

from __future__ import annotations

import uuid
from typing import Any

from ninefold.clock import WallClock, format_instant
from ninefold.loading import load_object, load_use_case
from ninefold.records import derived_id
from ninefold.settings import settings
from ninefold.splits import NOW, TimeSplit
from ninefold.store import open_store
from ninefold.store.prune import present

NO_VERSION = -1
"""Stands for "no version is live" where a pipeline parameter has to be a number."""


def state_of_production(use_case: str) -> dict[str, Any]:
    """What is live, and a text that changes whenever production, or a source that tells its state, knows more.

    Returns:
        ``version`` (``NO_VERSION`` for none), ``digest``, ``uri`` and ``lengths`` of the live version, and
        ``production``.
    """
    store = open_store(settings().store_url)
    declared = load_use_case(use_case)
    live = store.live_version(declared.name)
    counts = store.counts()
    store.close()
    # What takes records away is itself counted, so the numbers tell one state from another.
    kinds = ("predictions", "truths", "events", "prunings", "erasures")
    told = [f"{kind}={counts[kind]}" for kind in kinds]
    if declared.source_state is not None:
        told.append(f"source={load_object(declared.source_state, what='source_state')()}")
    production = derived_id(*told)
    return {
        "version": live.version if live is not None else NO_VERSION,
        "digest": live.digest if live is not None else "",
        "uri": live.uri if live is not None else "",
        "lengths": dict(live.lengths) if live is not None else {},
        "production": production,
    }


def named(use_case: str, until: str, run_id: str) -> dict[str, str]:
    """Up to when a run learns, and what it is called, where nobody said.

    Args:
        use_case: Name or import path.
        until: As asked; empty for the end that its split declares, else for now, where the use case is split by time;
            otherwise for everything known.
        run_id: As asked; empty for a name made of the use case and the time.

    Returns:
        ``until`` and ``run_id``.
    """
    here, declared = settings(), load_use_case(use_case)
    if not until and isinstance(declared.split, TimeSplit):
        with open_store(here.store_url) as store:
            until = declared.split.until or NOW
            if until == NOW:
                until = format_instant(present(store, here, WallClock()))
    made = f"{declared.name}-{WallClock().now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    return {"until": until, "run_id": run_id or made}
