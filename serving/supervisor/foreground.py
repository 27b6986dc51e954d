"""Running a supervisor until a signal, here or in a session of its own; and stopping one from anywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType

from ninefold.errors import ConfigurationError, NinefoldError, Unavailable
from ninefold.logs import set_up_logs
from ninefold.settings import Settings
from serving.supervisor.specs import settings_environment
from serving.supervisor.state import SupervisorState, end_leftovers, is_same, read_state
from serving.supervisor.supervisor import Supervisor

Tell = Callable[[str], None]


_STARTED: list[subprocess.Popen[bytes]] = []
"""Supervisors that outlive who started them; forgotten, Python would complain that they still run."""


def serve(supervisor: Supervisor, *, progress: Tell | None = None, ready: Callable[[], None] | None = None) -> None:
    """Serves until SIGTERM or SIGINT, then drains.

    Args:
        supervisor: Not yet started.
        progress: Told of every process that got ready.
        ready: Called once everything is.

    Raises:
        NinefoldError: It could not start, or a process does not start; what had started is stopped.
    """
    asked = 0
    set_up_logs(supervisor.settings.log_level)

    def on_signal(_: int, __: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        supervisor.request_stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    with supervisor:
        try:
            supervisor.wait_ready(progress=progress)
        except NinefoldError:
            if asked:
                return
            raise
        if ready is not None:
            ready()
        while not supervisor.wait(1.0):
            pass


def start_detached(settings: Settings, use_case: str, *, model_only: bool, seconds: float = 120.0) -> SupervisorState:
    """Starts a supervisor in a session of its own, and waits until everything is ready.

    Raises:
        ConfigurationError: It ended; the message is its last line.
        Unavailable: It was not ready in time.
    """
    path = settings.folder("logs") / "supervisor.log"
    command = [sys.executable, "-m", "serving.supervisor", use_case, *(["--model-only"] if model_only else [])]
    with path.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=settings.home,
            env={**os.environ, **settings_environment(settings), "PYTHONSAFEPATH": "1"},
            start_new_session=True,
        )
    _STARTED.append(process)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = read_state(settings.home)
        if state is not None and state.pid == process.pid and state.ready:
            return state
        if process.poll() is not None:
            lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
            raise ConfigurationError(lines[-1] if lines else f"The supervisor ended with {process.returncode}.")
        time.sleep(0.1)
    raise Unavailable(f"Not ready after {seconds:.0f} s.", remedy=f"Its log is {path}; stop it with: ninefold down")


def stop(settings: Settings, *, seconds: float = 90.0) -> list[str]:
    """Stops a home's supervisor, and what a dead one left; returns the names of what ran.

    Raises:
        Unavailable: It did not end in time.
    """
    state = read_state(settings.home)
    if state is None:
        return []
    if not state.is_alive:
        return end_leftovers(settings.home)
    os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while is_same(state.pid, state.born):
        if time.monotonic() > deadline:
            raise Unavailable(
                f"The supervisor (process {state.pid}) still drains after {seconds:.0f} s.", remedy="Wait, or kill it."
            )
        time.sleep(0.05)
    return [process.name for process in state.processes if process.pid is not None]
