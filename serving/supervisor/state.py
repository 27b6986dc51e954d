"""What the supervisor tells others: one file with every process's number and start; and the lock that it holds."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ninefold.atomic import replace_file
from ninefold.errors import ConfigurationError
from ninefold.routes import RouteTable
from serving.gateway.process import Share
from serving.supervisor.processes import Child, started_at
from serving.traffic.open_rollout import OpenRollout


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """One process as it stood when the file was written.

    Args:
        name: ``front end``, ``collector``, ``model 7``.
        pid: Its number; None while it is not running.
        born: When it started, in seconds since 1970; tells it from a stranger with the same number.
        host, port: Where it listens; no port where it doesn't.
        state: In one word.
        restarts: How often it was started again.
        version: Version that it serves.
        digest: That version's package.
        last_line: The last line of its log, where it is in trouble.
    """

    name: str
    pid: int | None
    born: float | None
    host: str
    port: int | None
    state: str
    restarts: int
    version: int | None = None
    digest: str | None = None
    last_line: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRollout:
    """The open rollout, as far as it is served here.

    Args:
        rollout_id: Its id.
        state, step, revision: Where it stands in the store.
        incumbent, candidate: Its versions.
        share: Share of the audience that is to get the candidate's answer, 0 to 1.
        routed: Whether the routes are those of this revision; not before the candidate's server is ready.
    """

    rollout_id: str
    state: str
    step: int
    revision: int
    incumbent: int
    candidate: int
    share: float
    routed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorState:
    """The supervisor and its processes.

    Args:
        use_case: What it serves.
        pid, born: The supervisor itself.
        ready: Whether everything has been ready since it started.
        model_only: Whether it runs model servers alone.
        live: Version that answers.
        problem: Why the store or its open rollout can't be read, why routes can't be written, or which file the gateway
            refuses; empty where nothing is wrong.
        without_gateway: Why there is no gateway; empty where there is one.
        shares: How direct clients of the gateway are split.
        rollout: The open rollout; None where none is.
        processes: Its children.
    """

    use_case: str
    pid: int
    born: float | None
    ready: bool
    model_only: bool
    live: int | None
    problem: str
    processes: tuple[ProcessState, ...]
    without_gateway: str = ""
    shares: tuple[Share, ...] = ()
    rollout: ServedRollout | None = None

    @property
    def is_alive(self) -> bool:
        """Whether that very supervisor still runs."""
        return is_same(self.pid, self.born)


def served_rollout(rollout: OpenRollout, table: RouteTable) -> ServedRollout:
    """How an open rollout stands here, where these are the routes."""
    found = rollout.rollout
    return ServedRollout(
        rollout_id=found.rollout_id,
        state=found.state,
        step=found.step,
        revision=found.revision,
        incumbent=found.incumbent,
        candidate=found.candidate,
        share=rollout.share,
        routed=(table.rollout, table.rollout_revision) == (found.rollout_id, found.revision),
    )


def is_same(pid: int | None, born: float | None) -> bool:
    """Whether a process of that number runs, and is the one that was meant."""
    if pid is None or born is None:
        return False
    found = started_at(pid)
    return found is not None and abs(found - born) < 0.05


def process_state(child: Child, digest: str | None = None) -> ProcessState:
    """A child as it stands.

    Args:
        child: The child.
        digest: Package of the version that it serves.
    """
    return ProcessState(
        name=child.spec.name,
        pid=child.process.pid if child.process else None,
        born=child.born,
        host=child.spec.host,
        port=child.spec.port,
        state=child.state,
        restarts=child.restarts,
        version=child.spec.version,
        digest=digest,
        last_line="" if child.ready or not child.failures else child.last_line(),
    )


def state_path(home: Path) -> Path:
    """Where the state is kept."""
    return home / "run" / "supervisor.json"


def read_state(home: Path) -> SupervisorState | None:
    """The newest state; None when there is none, or it can't be read."""
    try:
        document = json.loads(state_path(home).read_bytes())
        document["processes"] = tuple(ProcessState(**process) for process in document["processes"])
        document["shares"] = tuple(Share(**share) for share in document["shares"])
        rollout = document.get("rollout")
        document["rollout"] = None if rollout is None else ServedRollout(**rollout)
        return SupervisorState(**document)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_state(home: Path, state: SupervisorState) -> None:
    """Replaces the file in one step."""
    path = state_path(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(asdict(state), indent=1).encode())


@contextlib.contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Holds the lock of a home's supervisor.

    Raises:
        ConfigurationError: Another one holds it.
    """
    path = home / "run" / "supervisor.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            state = read_state(home)
            who = f"{state.use_case} is served already, by process {state.pid}" if state else "It is served already"
            raise ConfigurationError(
                f"{who} (home {home}).", remedy="Look with: ninefold status. Stop it with: ninefold down"
            ) from error
        yield


def end_leftovers(home: Path, *, seconds: float = 20.0) -> list[str]:
    """Ends the children of a supervisor that is gone; returns their names. Strangers are left alone."""
    state = read_state(home)
    if state is None or state.is_alive:
        return []
    left = [process for process in state.processes if is_same(process.pid, process.born)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in left:
            if process.pid is not None and is_same(process.pid, process.born):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(is_same(p.pid, p.born) for p in left):
            time.sleep(0.05)
    return [process.name for process in left]
