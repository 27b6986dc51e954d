"""What the front end says of the model that it serves."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Mapping
from typing import Any

from ninefold.routes import RouteTable
from serving.supervisor.processes import fetched


def shown_by_front_end(address: str, use_case: str, key: str, *, seconds: float = 1.0) -> Mapping[str, Any] | None:
    """``GET /v1/models/<use case>``; None where it answers and does not tell.

    Args:
        address: Base address of the front end.
        use_case: Name of the use case.
        key: API key.
        seconds: How long it may take.

    Raises:
        OSError: It does not answer.
    """
    try:
        shown = json.loads(fetched(f"{address}/v1/models/{use_case}", key=key, seconds=seconds))
    except (urllib.error.HTTPError, ValueError):
        return None
    return shown if isinstance(shown, dict) else None


def follows(address: str, key: str, table: RouteTable) -> bool:
    """Whether the front end goes by these routes: it reads them a moment after they are written.

    One that can't serve the live version follows, too, and names its problem; the baseline answers then.
    """
    try:
        shown = shown_by_front_end(address, table.use_case, key)
    except OSError:
        return False
    if shown is None:
        # One that answers and does not tell is not waited for.
        return True
    return (shown["revision"] or 0) >= table.revision and (shown["version"] == table.live or bool(shown["problem"]))
