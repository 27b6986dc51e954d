"""``kubectl`` on the cluster that KUBECONFIG names: run, read as JSON, waited for."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any


def kubectl(*arguments: str, given: str | None = None, check: bool = True, seconds: float = 120) -> str:
    """Runs ``kubectl`` and returns what it prints.

    Raises:
        RuntimeError: It fails; the error holds its own words.
    """
    done = subprocess.run(
        ["kubectl", *arguments], input=given, capture_output=True, text=True, timeout=seconds, check=False
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def read(*arguments: str) -> Any:
    """What ``kubectl get`` says, as JSON; None where there is no such object."""
    text = kubectl("get", *arguments, "--output", "json", "--ignore-not-found")
    return json.loads(text) if text.strip() else None


def read_all(*arguments: str) -> list[dict[str, Any]]:
    """All that ``kubectl get`` lists."""
    # Of an empty list it says nothing.
    found: list[dict[str, Any]] = (read(*arguments) or {"items": []})["items"]
    return found


def wait_until(what: str, condition: Callable[[], Any], seconds: float = 180, pause: float = 1.0) -> Any:
    """Waits for a condition and returns what it came to.

    Raises:
        AssertionError: It did not come to pass in time; the error says what was waited for.
    """
    ends = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends, f"{what}: not within {seconds:g} seconds"
        time.sleep(pause)
    return found


def wait_rolled_out(*names: str, namespace: str, seconds: float = 300) -> None:
    """Waits until every replica of workloads (``deployment/front-end``) is the newest and ready."""
    for name in names:
        kubectl(
            "--namespace", namespace, "rollout", "status", name, f"--timeout={seconds:g}s", seconds=seconds + 10
        )  # fmt: skip
