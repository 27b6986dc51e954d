"""One kept connection to one service, with an API key: JSON out, JSON in.

A replay makes two calls for every minute of history, and they are most of its time. The standard library's client
spends a third of a millisecond on each, parsing headers that nobody reads; this one writes a request in one system call
and leaves the answer to httptools.
"""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import httptools
import orjson

from ninefold.errors import DataError, Unavailable

_CHUNK = 256 * 1024


class _Answer:
    """Collects one response; httptools calls its methods."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.complete = self.kept = False
        self.parser = httptools.HttpResponseParser(self)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True
        # Asked here, because the parser forgets it with the message's end.
        self.kept = self.parser.should_keep_alive()


class HttpSession:
    """A kept connection; one reconnect where the server closed it between two calls.

    Args:
        base: Address of the service (``http://127.0.0.1:8080``).
        key: API key.
        timeout: Seconds that the service may be silent.

    Not safe for use from several threads at once.
    """

    def __init__(self, base: str, key: str, *, timeout: float = 60.0) -> None:
        self.base = base.rstrip("/")
        parts = urlsplit(self.base)
        if parts.scheme != "http" or parts.hostname is None:
            raise DataError(f"{base!r} is not an http:// address.")
        self._address = (parts.hostname, parts.port or 80)
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._head = (
            f" HTTP/1.1\r\nHost: {parts.netloc}\r\nX-ApiKey: {key}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()

    def post(self, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        """Posts JSON, and returns status and JSON answer.

        Raises:
            Unavailable: The service does not answer.
            DataError: Its answer is not JSON.
        """
        return self._call(b"POST " + path.encode(), orjson.dumps(body))

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Gets JSON; as ``post``."""
        return self._call(b"GET " + path.encode(), b"")

    def text(self, path: str) -> str:
        """Gets a text, such as a service's metrics.

        Raises:
            Unavailable: The service does not answer.
        """
        return bytes(self._answered(b"GET " + path.encode(), b"").body).decode()

    def _call(self, what: bytes, body: bytes) -> tuple[int, dict[str, Any]]:
        answer = self._answered(what, body)
        status = answer.parser.get_status_code()
        try:
            return status, orjson.loads(bytes(answer.body) or b"{}")
        except orjson.JSONDecodeError as error:
            raise DataError(f"{self.base} answered {status} with no JSON: {bytes(answer.body[:80])!r}") from error

    def _answered(self, what: bytes, body: bytes) -> _Answer:
        request = b"%b%b%d\r\n\r\n%b" % (what, self._head, len(body), body)
        kept = self._socket is not None
        answer = self._exchange(request)
        if answer is None and kept:
            # A server may close an idle connection; every call of ours is idempotent, so it is made once more.
            answer = self._exchange(request)
        if answer is None:
            raise Unavailable(f"{self.base} closed the connection.", remedy="See: ninefold status")
        return answer

    def _exchange(self, request: bytes) -> _Answer | None:
        """Sends a request and reads its answer; None where the connection was closed before one came."""
        answer = _Answer()
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, self._timeout)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(request)
            while not answer.complete:
                received = self._socket.recv(_CHUNK)
                if not received:
                    self.close()
                    return None
                answer.parser.feed_data(received)
        except (BrokenPipeError, ConnectionResetError):
            self.close()
            return None
        except OSError as error:
            self.close()
            raise Unavailable(f"{self.base} does not answer: {error}.", remedy="See: ninefold status") from error
        except httptools.HttpParserError as error:
            self.close()
            raise DataError(f"{self.base} does not speak HTTP: {error}.") from error
        if not answer.kept:
            self.close()
        return answer

    def close(self) -> None:
        """Closes the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
