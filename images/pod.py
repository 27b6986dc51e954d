"""Containers that share a network and a home, as those of a pod do: read-only, without capabilities, nobody's user."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Any, Self

from images.engine import Engine, ImagesError

USER = "65532:65532"
HOME = "/var/lib/ninefold"

_BARRED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs=/tmp:mode=1777")


@dataclass(frozen=True, slots=True)
class Ended:
    """A container that ran to its end.

    Args:
        code: Its exit code.
        output: What it printed, both streams.
    """

    code: int
    output: str


@dataclass(slots=True)
class Pod:
    """Runs containers; what it made is removed at its end.

    Args:
        engine: The engine.
        flags: Flags of every run.
        image: An image with Python, which holds the network.
        ports: How many ports of this machine lead into it.
    """

    engine: Engine
    flags: Sequence[str]
    image: str
    ports: int = 3
    name: str = field(default_factory=lambda: f"ninefold-{uuid.uuid4().hex[:8]}")
    free: list[int] = field(default_factory=list)
    _network: list[str] = field(default_factory=list)
    _containers: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.engine.ask("volume", "create", self.name)
        self.free = _free_ports(self.ports)
        # Where the flags give a network, such as this machine's own, the containers meet there.
        if not any(flag.startswith(("--network", "--net")) for flag in self.flags):
            published = [f"--publish=127.0.0.1:{port}:{port}" for port in self.free]
            sleep = "import signal; signal.sigwait({signal.SIGTERM})"
            holder = self.start("network", self.image, ["-c", sleep], more=published, volume=False)
            self._network = [f"--network=container:{holder}"]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for container in reversed(self._containers):
            self.engine.ask("rm", "--force", container)
        self.engine.ask("volume", "rm", "--force", self.name)

    def start(
        self,
        role: str,
        image: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        more: Sequence[str] = (),
        volume: bool = True,
    ) -> str:
        """Starts a container and returns its name; one of that role before it is removed."""
        name = f"{self.name}-{role}"
        if name in self._containers:
            self.engine.ask("rm", "--force", name)
        else:
            self._containers.append(name)
        self.engine.ask(
            "run", "--detach", f"--name={name}", *self._options(environment, USER, volume), *more, image, *arguments
        )
        return name

    def run(
        self,
        image: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        user: str = USER,
        volume: bool | str = True,
        entry: str = "",
        timeout: float = 900.0,
    ) -> Ended:
        """Runs a container to its end.

        Args:
            image: Its image.
            arguments: Its arguments.
            environment: More variables.
            user: As whom.
            volume: Whether it has the home, or the name of another volume for it.
            entry: Another program than the image's.
            timeout: Seconds that it may take.
        """
        role = f"{self.name}-once-{uuid.uuid4().hex[:6]}"
        entries = [f"--entrypoint={entry}"] if entry else []
        try:
            self.engine.ask(
                "run", "--detach", f"--name={role}", *self._options(environment, user, volume), *entries, image,
                *arguments,
            )  # fmt: skip
            code = int(self.engine.ask("wait", role, timeout=timeout))
            return Ended(code, self.logs(role))
        finally:
            self.engine.ask("rm", "--force", role)

    def _options(self, environment: Mapping[str, str] | None, user: str, volume: bool | str) -> list[str]:
        named = volume if isinstance(volume, str) else self.name
        return [
            *self.flags, *_BARRED, *self._network, f"--user={user}",
            *([f"--volume={named}:{HOME}"] if volume else []),
            *(f"--env={name}={value}" for name, value in (environment or {}).items()),
        ]  # fmt: skip

    def logs(self, container: str) -> str:
        """What a container printed, both streams."""
        done = subprocess.run([self.engine.name, "logs", container], capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    def inside(self, container: str, *command: str) -> str:
        """What a command prints that runs beside a container's program."""
        return self.engine.ask("exec", container, *command)

    def seconds_until_answer(self, container: str, port: int, *, patience: float = 60.0) -> float:
        """How long after its start a container answered ``/healthz``.

        Raises:
            ImagesError: It did not within ``patience`` seconds, or it ended.
        """
        end, look = time.monotonic() + patience, time.monotonic() + 5.0
        while time.monotonic() < end:
            try:
                if get(port, "/healthz")[0] == 200:
                    answered = datetime.now(UTC)
                    started = json.loads(self.engine.ask("inspect", "--format={{json .State.StartedAt}}", container))
                    return (answered - datetime.fromisoformat(_microseconds(started))).total_seconds()
            except OSError:
                time.sleep(0.01)
                if time.monotonic() > look:
                    look = time.monotonic() + 1.0
                    if self.engine.ask("inspect", "--format={{.State.Status}}", container) != "running":
                        break
        raise ImagesError(f"{container} does not answer. It said: {self.logs(container)[-500:]}")

    def processor_seconds(self, container: str) -> float:
        """What a container's program has used of processors so far."""
        code = "import os; s = open('/proc/1/stat').read().rsplit(')', 1)[1].split(); print((int(s[11]) + int(s[12])) / os.sysconf('SC_CLK_TCK'))"  # noqa: E501
        return float(self.inside(container, "python", "-I", "-S", "-c", code))


def _microseconds(instant: str) -> str:
    """An instant with at most six digits behind the point: engines give nine."""
    whole, point, rest = instant.partition(".")
    digits = "".join(c for c in rest[:9] if c.isdigit())
    zone = rest.lstrip("0123456789")
    return f"{whole}.{digits[:6].ljust(6, '0')}{zone}" if point else instant


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a GET.

    Raises:
        OSError: There was no answer.
    """
    return _ask(port, "GET", path, None, {})


def post(port: int, path: str, document: Any, key: str = "") -> tuple[int, Any]:
    """Status and JSON body of a POST.

    Raises:
        OSError: There was no answer.
    """
    headers = {"Content-Type": "application/json"} | ({"X-ApiKey": key} if key else {})
    status, body = _ask(port, "POST", path, json.dumps(document).encode(), headers)
    return status, json.loads(body)


def _ask(port: int, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except HTTPException as error:
        raise ConnectionError(f"The connection broke: {error!r}") from error
    finally:
        connection.close()
