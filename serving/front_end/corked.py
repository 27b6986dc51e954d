"""An answer in one system call: what uvicorn writes in one turn of the loop leaves together.

uvicorn writes head and body one after the other, and uvloop sends each at once: two system calls, two packets, two
wake-ups of the client.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class CorkedProtocol(HttpToolsProtocol):
    """uvicorn's protocol over a transport that collects what one turn of the loop writes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Puts the cork between protocol and transport."""
        super().connection_made(_Cork(transport, self.loop))  # type: ignore[arg-type]


class _Cork:
    """A transport whose writes wait for the end of the loop's turn; all else is the transport's."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._chunks: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._chunks:
            self._loop.call_soon(self._flush)
        self._chunks.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._chunks:
            chunks, self._chunks = self._chunks, []
            self._transport.write(b"".join(chunks))
