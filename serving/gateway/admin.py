"""What a running Envoy says of itself, asked through its inner listener; its admin socket stays its own."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from urllib.parse import urlencode

from ninefold.routes import SECRET_HEADER

_SECONDS = 2.0

Statistics = Mapping[str, int | str]


class Admin:
    """Asks one Envoy.

    Args:
        port: Port of its inner listener.
        secret: What that admits callers by.
    """

    def __init__(self, port: int, secret: str) -> None:
        self._port = port
        self._headers = {SECRET_HEADER: secret}

    def statistics(self, pattern: str) -> Statistics | None:
        """Counters, gauges and texts by name; None where no Envoy answers.

        Args:
            pattern: A regular expression that matches a part of their names.
        """
        query = urlencode({"format": "json", "filter": pattern})
        body = self._ask("GET", f"/stats?{query}")
        if body is None:
            return None
        try:
            found = json.loads(body)["stats"]
            return {one["name"]: one["value"] for one in found if "name" in one}
        except (ValueError, KeyError, TypeError):
            return None

    def begin_draining(self) -> bool:
        """From now on every answer closes its connection; returns whether an Envoy heard it."""
        return self._ask("POST", "/drain_listeners?graceful&skip_exit") is not None

    def _ask(self, method: str, path: str) -> bytes | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_SECONDS)
        try:
            connection.request(method, path, headers=self._headers)
            answer = connection.getresponse()
            body = answer.read()
            return body if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
