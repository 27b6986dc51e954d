"""``python -m serving.rollout`` as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rollout_house import Production

from ninefold.clock import WallClock

HERE = Path(__file__).parent


def _until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _start(url: str, **more: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ, "NINEFOLD_STORE_URL": url, "NINEFOLD_ROLLOUT__LOOK_SECONDS": "0.2", "PYTHONPATH": str(HERE),
        "NINEFOLD_ROLLOUT__FRONT_END_URL": "http://127.0.0.1:9", **more,
    }  # fmt: skip
    command = [sys.executable, "-m", "serving.rollout", "--use-case", "rollout_house:USE_CASE"]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=HERE.parents[2]
    )


def test_it_looks_until_it_is_told_to_end_and_gives_the_lease_back(production: Production, sqlite_url: str) -> None:
    store = production.store
    store.clock = WallClock()
    process = _start(sqlite_url)
    try:
        _until(lambda: store.steps(production.rollout.rollout_id)[-1].action == "hold")
        lease = store.lease("rollout/parcels")
        assert lease is not None
        assert lease.holder.endswith(f"/{process.pid}")
        # Whoever acts by hand is seen at the next look: nothing is left to look at.
        store.record_step(
            production.rollout.rollout_id, revision=1, actor="ada", action="abort", state="rolled_back", reasons=["no"]
        )
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "words='The front end at http://127.0.0.1:9/v1/models/parcels can't be asked" in output.replace('"', "'")
    lease = store.lease("rollout/parcels")
    assert lease is not None
    assert lease.until.year == 1970


def test_a_use_case_that_is_unknown_is_one_line(sqlite_url: str) -> None:
    command = [sys.executable, "-m", "serving.rollout", "--use-case", "nobody"]
    found = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=HERE.parents[2],
        env={**os.environ, "NINEFOLD_STORE_URL": sqlite_url},
    )
    assert found.returncode == 2
    assert found.stderr.startswith("rollout: There is no use case 'nobody'.")
    assert len(found.stderr.splitlines()) == 1
