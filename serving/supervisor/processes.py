"""Child processes: started in a group of their own, restarted with back-off, ended with their parent."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil
import structlog

from ninefold.children import launched

FIRST_DELAY, LONGEST_DELAY = 0.1, 30.0
STABLE_SECONDS = 30.0
"""A process that lived so long starts its back-off anew."""

LOOP_FAILURES = 3
"""So many deaths in a row, none after a stable life, are a crash loop."""

SETTLED_SECONDS = 2.0
"""A process without a port that has run for so long is taken to be ready."""

_LOG_BYTES = 16 * 2**20
_READY_SECONDS = 1.0

log = structlog.get_logger()

State = Literal["starting", "ready", "waiting", "crash loop", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What to run.

    Args:
        name: Unique among the children; names the log file.
        command: Program and arguments.
        log: Where its output goes.
        folder: Its working directory.
        port: Where it listens; None where it doesn't.
        host: Address that it listens on.
        environment: Added to this process's own.
        version: Version that it serves; None where it serves none.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    folder: Path
    port: int | None
    host: str = "127.0.0.1"
    environment: Mapping[str, str] = field(default_factory=dict)
    version: int | None = None


def backoff(failures: int) -> float:
    """Seconds to wait after so many deaths in a row."""
    return min(LONGEST_DELAY, FIRST_DELAY * 4.0 ** (failures - 1)) if failures else 0.0


def started_at(pid: int) -> float | None:
    """When a process started, in seconds since 1970: with its number, its identity. None when it is gone."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def reachable(host: str) -> str:
    """The address at which this machine reaches what listens there."""
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104


def is_ready(host: str, port: int) -> bool:
    """Whether a service says on ``/readyz`` that it can work."""
    connection = http.client.HTTPConnection(reachable(host), port, timeout=_READY_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def fetched(url: str, *, key: str | None = None, seconds: float = 1.0) -> bytes:
    """The whole body that a GET answers.

    Args:
        url: Of this machine's own, http.
        key: API key, where one is asked for.
        seconds: How long it may take.

    Raises:
        OSError: There is no answer, it is an error (``HTTPError``), or it is cut off.
    """
    request = urllib.request.Request(url, headers={} if key is None else {"X-ApiKey": key})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=seconds) as response:  # noqa: S310
            body: bytes = response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"What came from {url} is no whole answer: {error!r}.") from error
    return body


class Child:
    """One supervised process.

    Everything happens in ``tick``, which one thread calls: on Linux a child ends with the thread that started it.

    Args:
        spec: What to run.
    """

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.restarts = 0
        self.failures = 0
        self.was_ready = False
        self.ready = False
        self.exit_code: int | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.born: float | None = None
        """When the process started, as the system counts; its identity together with the number."""
        self._since = 0.0
        self._next_start = 0.0
        self._stopping = False
        self._log_start = 0

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://{self.spec.host}:{self.spec.port}"

    @property
    def has_ended(self) -> bool:
        """Whether no process of it runs at the moment."""
        return self.process is None or self.process.poll() is not None

    @property
    def state(self) -> State:
        """How it does, in one word."""
        if self._stopping and self.process is None:
            return "stopped"
        if self.failures >= LOOP_FAILURES and not self.ready:
            return "crash loop"
        if self.process is None:
            return "waiting"
        return "ready" if self.ready else "starting"

    def tick(self, now: float) -> bool:
        """Starts it, notices its death, asks whether it is ready; returns whether anything changed.

        Args:
            now: Monotonic seconds.
        """
        before = (self.state, self.process.pid if self.process else None)
        if self.process is not None and self.process.poll() is not None:
            self._died(now)
        if self.process is None and not self._stopping and now >= self._next_start:
            try:
                self._start(now)
            except OSError as error:
                # On a full disk its log can't be made; the others go on, and this one is tried again.
                self._since = now
                self._failed(now, str(error))
        if self.process is not None and not self.ready and not self._stopping:
            self.ready = self._works(now) and self.process.poll() is None
            self.was_ready |= self.ready
        return before != (self.state, self.process.pid if self.process else None)

    def _works(self, now: float) -> bool:
        if self.spec.port is None:
            return now - self._since >= SETTLED_SECONDS
        return is_ready(self.spec.host, self.spec.port)

    def _start(self, now: float) -> None:
        self.spec.log.parent.mkdir(parents=True, exist_ok=True)
        if self.spec.log.exists() and self.spec.log.stat().st_size > _LOG_BYTES:
            self.spec.log.replace(self.spec.log.with_suffix(".old.log"))
        with self.spec.log.open("ab") as output:
            self._log_start = output.tell()
            self.process = subprocess.Popen(
                [*launched(), *self.spec.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.spec.folder,
                env={**os.environ, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", **self.spec.environment},
                process_group=0,
            )
        self.born = started_at(self.process.pid)
        self._since = now
        if self.exit_code is not None:
            self.restarts += 1

    def _died(self, now: float) -> None:
        assert self.process is not None  # noqa: S101
        self.exit_code = self.process.returncode
        self.process, self.born, self.ready = None, None, False
        if not self._stopping:
            self._failed(now, self.last_line())

    def _failed(self, now: float, last: str) -> None:
        self.failures = 1 if now - self._since >= STABLE_SECONDS else self.failures + 1
        self._next_start = now + backoff(self.failures)
        log.warning("process died", name=self.spec.name, exit_code=self.exit_code, deaths=self.failures, last=last)

    def terminate(self) -> None:
        """Asks it to drain and end; it is not started again."""
        self._stopping = True
        self.ready = False
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> bool:
        """Waits for its end, then kills its whole group; returns whether it ended by itself."""
        self._stopping = True
        if self.process is None:
            return True
        try:
            self.process.wait(seconds)
            ended = True
        except subprocess.TimeoutExpired:
            ended = False
        _signal_group(self.process.pid, signal.SIGKILL)
        self.exit_code = self.process.wait()
        self.process, self.born = None, None
        return ended

    def last_line(self) -> str:
        """The last line that it wrote since its newest start, for messages."""
        try:
            with self.spec.log.open("rb") as file:
                file.seek(max(self._log_start, file.seek(0, os.SEEK_END) - 4096))
                lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        except OSError:
            return ""
        return lines[-1].strip() if lines else ""


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return
    except PermissionError:
        # macOS says so of a group whose processes have all ended.
        return
