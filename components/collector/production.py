"""The state of production that a run starts from."""

from __future__ import annotations

from typing import Any

from ninefold.records import derived_id
from ninefold.settings import settings
from ninefold.store import open_store
from ninefold.usecase import load_use_case

NO_VERSION = -1
"""Stands for "no version is live" where a pipeline parameter has to be a number."""


def state_of_production(use_case: str) -> dict[str, Any]:
    """What is live, and a text that changes whenever production knows more.

    Returns:
        ``version`` (``NO_VERSION`` for none), ``digest``, ``uri`` and ``lengths`` of the live version, and
        ``production``.
    """
    store = open_store(settings().store_url)
    name = load_use_case(use_case).name
    live = store.live_version(name)
    counts = store.counts()
    store.close()
    # What takes records away is itself counted, so the numbers tell one state from another.
    kinds = ("predictions", "truths", "events", "prunings", "erasures")
    production = derived_id(*(f"{kind}={counts[kind]}" for kind in kinds))
    return {
        "version": live.version if live is not None else NO_VERSION,
        "digest": live.digest if live is not None else "",
        "uri": live.uri if live is not None else "",
        "lengths": dict(live.lengths) if live is not None else {},
        "production": production,
    }
