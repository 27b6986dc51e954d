"""One kept connection to one service, with an API key: JSON out, JSON in."""

from __future__ import annotations

import http.client
from typing import Any
from urllib.parse import urlsplit

import orjson

from ninefold.errors import DataError, Unavailable


class HttpSession:
    """A kept connection; one reconnect where the server closed it between two calls.

    Args:
        base: Address of the service (``http://127.0.0.1:8080``).
        key: API key.
        timeout: Seconds that a call may take.

    Not safe for use from several threads at once.
    """

    def __init__(self, base: str, key: str, *, timeout: float = 60.0) -> None:
        self.base = base.rstrip("/")
        parts = urlsplit(self.base)
        if parts.scheme != "http" or parts.hostname is None:
            raise DataError(f"{base!r} is not an http:// address.")
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
        self._headers = {"Content-Type": "application/json", "X-ApiKey": key}

    def post(self, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        """Posts JSON, and returns status and JSON answer.

        Raises:
            Unavailable: The service does not answer.
            DataError: Its answer is not JSON.
        """
        return self._call("POST", path, orjson.dumps(body))

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Gets JSON; as ``post``."""
        return self._call("GET", path, None)

    def _call(self, method: str, path: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        for attempt in (1, 2):
            try:
                self._connection.request(method, path, body, self._headers)
                response = self._connection.getresponse()
                content = response.read()
                break
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
                # A server may close an idle connection; every call of ours is idempotent, so it is made once more.
                self._connection.close()
                if attempt == 2:
                    raise Unavailable(f"{self.base} closed the connection: {error}.") from error
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                raise Unavailable(f"{self.base} does not answer: {error}.", remedy="See: ninefold status") from error
        try:
            return response.status, orjson.loads(content or b"{}")
        except orjson.JSONDecodeError as error:
            raise DataError(f"{self.base}{path} answered {response.status} with no JSON: {content[:80]!r}") from error

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()
