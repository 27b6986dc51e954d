"""The orchestrator's process takes what others asked for, survives what they ask, and is missed when it is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ninefold.settings import settings
from ninefold.store import Run, Store, open_store

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
COMMAND = """
import sys
from datetime import timedelta
from ninefold.cli import main
from ninefold.store import workers
from pipelines import compile as compiled
workers.LASTING = timedelta(seconds=2)
compiled.PIPELINES["training"] = "tiny_pipeline:tiny"
sys.argv = ["ninefold", "orchestrator", "--port", sys.argv[1]]
main()
"""


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store(settings().store_url) as opened:
        yield opened


@pytest.fixture
def start() -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts an orchestrator; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def one() -> subprocess.Popen[str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(port)], env={**os.environ, "PYTHONPATH": str(HERE)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield one
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _ask(store: Store, run_id: str, use_case: str = "arrivals", **parameters: Any) -> None:
    given = {"until": "2013-07-01T00:00:00Z", "max_training_time": 1.0, "windows": {}, "seed": 0, **parameters}
    now = store.clock.now()
    store.write_run(
        Run(
            run_id=run_id, pipeline="training", use_case=use_case, state="requested", started_at=now, parameters=given
        )
    )  # fmt: skip


def _eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not check():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)


def _found(store: Store, run_id: str) -> Run:
    run = store.run(run_id)
    assert run is not None
    return run


def test_a_run_that_cant_begin_is_recorded_and_the_next_one_has_its_turn(
    store: Store, start: Callable[[], subprocess.Popen[str]]
) -> None:
    _ask(store, "training-gone-alert-1", use_case="gone_elsewhere:USE_CASE")
    _ask(store, "training-broken-alert-1", use_case="broken_use_case:USE_CASE")
    _ask(store, "training-arrivals-alert-1")
    start()
    _eventually(lambda: _found(store, "training-arrivals-alert-1").state == "succeeded")
    gone, broken = _found(store, "training-gone-alert-1"), _found(store, "training-broken-alert-1")
    assert (gone.state, "'gone_elsewhere', which is not installed" in str(gone.error)) == ("failed", True)
    assert (broken.state, broken.error) == ("failed", "RuntimeError: the shop is closed")


def test_a_killed_orchestrator_is_missed_and_its_run_does_not_stand_in_the_way(
    store: Store, start: Callable[[], subprocess.Popen[str]]
) -> None:
    _ask(store, "killed", seed=60)
    step = settings().home / "run" / "step"
    first = start()
    _eventually(lambda: step.exists() and step.read_text() != "")
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert _found(store, "killed").state == "running"
    _ask(store, "next")
    start()
    _eventually(lambda: _found(store, "next").state == "succeeded" and _found(store, "killed").state == "failed")
    assert "went away during the step 'second'" in str(_found(store, "killed").error)


def test_a_stopped_orchestrator_leaves_no_run_that_seems_to_go_on(
    store: Store, start: Callable[[], subprocess.Popen[str]]
) -> None:
    _ask(store, "stopped", seed=60)
    step = settings().home / "run" / "step"
    process = start()
    _eventually(lambda: step.exists() and step.read_text() != "")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    found = _found(store, "stopped")
    assert (found.state, str(found.error).startswith("The orchestrator was stopped")) == ("failed", True)
