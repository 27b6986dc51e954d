"""A connection to a Redis: commands out in one piece, their replies back, nothing else.

The front end reads from its event loop, so a server that is silent must cost little: time-outs are short, a connection
that died (the server was restarted) is made anew once, and after a failure the server is left alone for a moment.
Requests and replies are packed and parsed by hiredis. redis-py would take most of a second to import, and as long for a
read as the server does.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ninefold.errors import ConfigurationError, StoreError

try:
    import hiredis
except ModuleNotFoundError as error:
    raise ConfigurationError(
        "Online rows in Redis need hiredis, which is not installed.", remedy="Install ninefold[cluster]."
    ) from error

READ_SECONDS = 0.5
"""How long a reply is waited for that somebody waits for; the URL's ``timeout`` says otherwise."""

WRITE_SECONDS = 30.0
"""The same of a write: a hundred thousand rows take a second."""

CONNECT_SECONDS = 1.0
PAUSE_SECONDS = 0.25
"""How long a server that did not answer is left alone: meanwhile every call fails at once."""

_PORT = 6379
_BUFFER = 65_536
_FORMAT = "Write redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// for TLS."

Command = tuple[Any, ...]
"""A command's name and arguments: text, bytes or whole numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where a Redis is, and how one gets in.

    Args:
        host: Its name; empty for a socket in the file system.
        port: Its port.
        path: Path of that socket.
        tls: Whether it speaks TLS.
        ca: File of the authorities that may have signed its certificate; empty for the system's.
        user: Who asks; empty for the default user.
        password: Empty for none.
        database: Number of the database.
        timeout: Seconds that a reply is waited for.
    """

    host: str = ""
    port: int = _PORT
    path: str = ""
    tls: bool = False
    ca: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    timeout: float = READ_SECONDS

    def __str__(self) -> str:
        """Where it is, for people: no user, no password."""
        return f"{self.path or f'{self.host}:{self.port}'}/{self.database}"


def parse_url(url: str) -> Server:
    """The server behind a URL: ``redis://``, ``rediss://`` or ``unix:///path?db=0``.

    Raises:
        ConfigurationError: It can't be read; its text may hold a password and is not quoted.
    """
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        local = parts.scheme == "unix"
        database = options.pop("db", "0") if local else parts.path.strip("/") or "0"
        server = Server(
            host="" if local else parts.hostname or "localhost",
            port=parts.port or _PORT,
            path=unquote(parts.path) if local else "",
            tls=parts.scheme == "rediss",
            ca=options.pop("ssl_ca_certs", ""),
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=int(database),
            timeout=float(options.pop("timeout", READ_SECONDS)),
        )
    except ValueError as error:
        raise ConfigurationError("The URL of the online rows in Redis can't be read.", remedy=_FORMAT) from error
    if options or server.database < 0 or server.timeout <= 0:
        named = f"has the options {', '.join(options)}" if options else "has a wrong database or timeout"
        raise ConfigurationError(
            f"The URL of the online rows in Redis {named}.", remedy="Its options are timeout and ssl_ca_certs."
        )
    return server


class UnknownScript(StoreError):
    """The server does not know a script by its name: it was restarted, or never saw it."""


class Connection:
    """One connection, made when it is first needed and anew after it died. For one thread.

    Args:
        server: Where to.
        timeout: Seconds that a reply is waited for.
    """

    def __init__(self, server: Server, timeout: float) -> None:
        self._server = server
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._reader: Any = None
        self._silent_until = 0.0
        self._problem = ""

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Sends commands in one piece and returns their replies; each is safe to be sent twice.

        Raises:
            StoreError: The server is out of reach, or refuses one of them.
        """
        packed = b"".join([hiredis.pack_command(command) for command in commands])
        if self._silent_until:
            if time.monotonic() < self._silent_until:
                raise self._out_of_reach(self._problem)
            self._silent_until = 0.0
        was_open = self._socket is not None
        try:
            replies = self._exchange(packed, len(commands))
        except TimeoutError as error:
            raise self._failed(error) from error
        except (OSError, hiredis.ProtocolError) as error:
            self.close()
            if not was_open:
                raise self._failed(error) from error
            # A server that was restarted leaves a dead connection behind.
            try:
                replies = self._exchange(packed, len(commands))
            except (OSError, hiredis.ProtocolError) as again:
                raise self._failed(again) from again
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise self.refused(reply)
        return replies

    def close(self) -> None:
        """Ends the connection; the next call makes a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def refused(self, error: Exception) -> StoreError:
        """What the server said, as an error of Ninefold's."""
        said = str(error)
        if said.startswith("NOSCRIPT"):
            return UnknownScript(said)
        message, remedy = _REFUSALS.get(said.partition(" ")[0], (f"refuses: {said}.", ""))
        return StoreError(f"The Redis of the online rows at {self._server} {message}", remedy=remedy)

    def _exchange(self, packed: bytes, count: int) -> list[Any]:
        if self._socket is None:
            self._connect()
        assert self._socket is not None  # noqa: S101
        self._socket.sendall(packed)
        return self._replies(count)

    def _replies(self, count: int) -> list[Any]:
        assert self._socket is not None  # noqa: S101
        reader, receive = self._reader, self._socket.recv
        replies = []
        while True:
            # No reply of this protocol is False.
            while (reply := reader.gets()) is not False:
                replies.append(reply)
                if len(replies) == count:
                    return replies
            data = receive(_BUFFER)
            if not data:
                raise ConnectionResetError("it closed the connection")
            reader.feed(data)

    def _connect(self) -> None:
        server = self._server
        if server.path:
            opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            opened = socket.create_connection((server.host, server.port), timeout=CONNECT_SECONDS)
        try:
            opened.settimeout(CONNECT_SECONDS)
            if server.path:
                opened.connect(server.path)
            else:
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if server.tls:
                context = ssl.create_default_context(cafile=server.ca or None)
                opened = context.wrap_socket(opened, server_hostname=server.host)
            opened.settimeout(self._timeout)
        except BaseException:
            opened.close()
            raise
        self._socket, self._reader = opened, hiredis.Reader()
        self._greet()

    def _greet(self) -> None:
        server = self._server
        commands: list[Command] = []
        if server.password:
            commands.append(("AUTH", *([server.user] if server.user else []), server.password))
        if server.database:
            commands.append(("SELECT", server.database))
        if not commands:
            return
        assert self._socket is not None  # noqa: S101
        self._socket.sendall(b"".join([hiredis.pack_command(command) for command in commands]))
        for reply in self._replies(len(commands)):
            if isinstance(reply, hiredis.ReplyError):
                self.close()
                raise self.refused(reply)

    def _failed(self, error: Exception) -> StoreError:
        self.close()
        slow = isinstance(error, TimeoutError) and "timed out" in str(error)
        self._problem = "it takes too long" if slow else str(error) or type(error).__name__
        self._silent_until = time.monotonic() + PAUSE_SECONDS
        return self._out_of_reach(self._problem)

    def _out_of_reach(self, problem: str) -> StoreError:
        return StoreError(
            f"The Redis of the online rows at {self._server} does not answer: {problem}.",
            remedy="Check that it runs there, and NINEFOLD_ONLINE_URL.",
        )


_CLUSTER = (
    "is a Redis Cluster, which keeps views on several servers.",
    "Use one Redis, with replicas if you like: rows of several views are read in one piece.",
)
_PASSWORD = ("does not know this user or password.", "Check the password in NINEFOLD_ONLINE_URL.")
_REFUSALS = {
    "NOAUTH": ("wants a password.", "Write it into NINEFOLD_ONLINE_URL."),
    "WRONGPASS": _PASSWORD,
    "NOPERM": ("does not let this user do so.", "It needs hashes, scripts and transactions on ninefold:*."),
    "OOM": ("has no memory left.", "Give it more (maxmemory); nothing was written."),
    "READONLY": ("is a replica, or just became one.", "Name the primary in NINEFOLD_ONLINE_URL."),
    "LOADING": ("is still loading its data.", "Try again in a moment."),
    "BUSY": ("is busy with a script.", "Try again in a moment."),
    "MISCONF": ("can't write to its disk, so it takes no more.", "Free some space there."),
    "MOVED": _CLUSTER,
    "CROSSSLOT": _CLUSTER,
    "CLUSTERDOWN": _CLUSTER,
    "WRONGTYPE": ("holds something else under the names of the online rows.", "Give Ninefold a database of its own."),
}
