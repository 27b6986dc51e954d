"""uvicorn's HTTP protocol with one system call for an answer: head and body leave together.

uvicorn writes the head, then the body; with uvloop each is a system call that wakes the client. On a small answer that
is a quarter of all the time that a request takes. Give the class to uvicorn as ``http=OneWriteProtocol``.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class _JoiningTransport:
    """A transport that gathers what is written until the event loop comes round, and writes it as one.

    Args:
        transport: The socket's transport.
        loop: Its event loop.
    """

    __slots__ = ("_call_soon", "_pending", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._call_soon = loop.call_soon
        self._pending: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Takes data; it leaves in this turn of the event loop."""
        if not self._pending:
            self._call_soon(self._flush)
        self._pending.append(data)

    def write_now(self, data: bytes) -> None:
        """Writes what is whole already, behind whatever waits."""
        if self._pending:
            self._flush()
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be; asked for every answer, so it takes no detour."""
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._pending:
            data = b"".join(self._pending)
            self._pending.clear()
            self._transport.write(data)

    def close(self) -> None:
        """Closes when everything is written."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class OneWriteProtocol(HttpToolsProtocol):
    """``HttpToolsProtocol`` over a joining transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts a connection."""
        super().connection_made(_JoiningTransport(transport, self.loop))  # type: ignore[arg-type]
