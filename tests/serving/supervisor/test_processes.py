"""Real child processes: restarted with back-off, named when they loop, ended with their group and with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from children import IDLE, runs, spec, tick_until, wait_until

from serving.supervisor.processes import LONGEST_DELAY, LOOP_FAILURES, Child, backoff

CRASH = "import sys; print('starting', flush=True); sys.exit('no disk left')"
DEAF = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
time.sleep(60)
"""


def test_it_becomes_ready_and_a_killed_one_comes_back(tmp_path: Path) -> None:
    child = Child(spec(tmp_path))
    try:
        tick_until(child, lambda: child.ready)
        assert (child.state, child.restarts) == ("ready", 0)
        assert child.process is not None
        first = child.process.pid
        os.kill(first, signal.SIGKILL)
        tick_until(child, lambda: child.ready and child.process is not None and child.process.pid != first)
        assert (child.restarts, child.was_ready, child.exit_code) == (1, True, -signal.SIGKILL)
    finally:
        child.terminate()
        assert child.wait(5)
    assert (child.state, child.exit_code) == ("stopped", 0)


def test_one_that_does_not_listen_is_ready_once_it_has_run_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.supervisor.processes.SETTLED_SECONDS", 1.0)
    child = Child(replace(spec(tmp_path, IDLE), port=None))
    crashing = Child(replace(spec(tmp_path, CRASH, name="crashing"), port=None))
    try:
        child.tick(time.monotonic())
        assert child.state == "starting"
        tick_until(child, lambda: child.ready)
        tick_until(crashing, lambda: crashing.state == "crash loop")
        assert not crashing.was_ready
    finally:
        for one in (child, crashing):
            one.terminate()
            one.wait(5)


def test_backoff_grows_to_a_bound() -> None:
    delays = [backoff(n) for n in range(10)]
    assert delays[0] == 0.0
    assert delays == sorted(delays)
    assert delays[-1] == LONGEST_DELAY
    assert delays[2] >= 2 * delays[1]


def test_a_crash_loop_is_told_with_the_last_words(tmp_path: Path) -> None:
    child = Child(spec(tmp_path, CRASH))
    started = time.monotonic()
    tick_until(child, lambda: child.failures >= LOOP_FAILURES)
    assert time.monotonic() - started >= backoff(1) + backoff(2)
    assert (child.state, child.last_line(), child.exit_code) == ("crash loop", "no disk left", 1)
    child.terminate()
    assert child.wait(1)


def test_last_words_are_of_the_newest_start(tmp_path: Path) -> None:
    child_spec = spec(tmp_path)
    child_spec.log.write_text("yesterday's trouble\n")
    child = Child(child_spec)
    try:
        tick_until(child, lambda: child.ready)
        assert child.last_line() == ""
    finally:
        child.terminate()
        child.wait(5)


def test_one_that_does_not_drain_is_killed_with_its_group(tmp_path: Path) -> None:
    child = Child(spec(tmp_path, DEAF))
    tick_until(child, lambda: child.last_line().isdigit())
    grandchild = int(child.last_line())
    child.terminate()
    assert not child.wait(0.3)
    wait_until(lambda: not runs(grandchild))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    parent = f"""
import sys, time
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from pathlib import Path
from children import spec, tick_until
from serving.supervisor.processes import Child
child = Child(spec(Path({str(tmp_path)!r})))
tick_until(child, lambda: child.ready)
print(child.process.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert runs(pid)
        process.kill()
        wait_until(lambda: not runs(pid))


def test_one_whose_log_can_not_be_made_is_tried_again(tmp_path: Path) -> None:
    child = Child(spec(tmp_path / "logs"))
    # In the place of the folder stands a file: as on a full disk, the log can't be made.
    (tmp_path / "logs").write_text("")
    child.spec = replace(child.spec, folder=tmp_path)
    tick_until(child, lambda: child.failures == 2)
    assert child.state == "waiting"
    (tmp_path / "logs").unlink()
    tick_until(child, lambda: child.ready)
    child.terminate()
    assert child.wait(5)
