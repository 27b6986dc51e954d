"""How every process does, asked from the process itself."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from serving.supervisor.processes import is_ready
from serving.supervisor.state import ProcessState, SupervisorState, is_same


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the status.

    Args:
        name, pid, port, restarts, version: As the supervisor knows them.
        state: In one word; ``not ready`` where the process runs and says that it can't work, ``problem`` where it works
            and names something that is not as it should be.
        ready: Whether it answered just now that it can work, and named no problem.
        uptime: Seconds; None while it does not run.
        predictions: How many it gave since it started; None where it gives none or did not answer.
        lag_seconds: For how long the oldest unshipped prediction has been waiting; None where there is no journal.
        last_line: The last words of one in trouble, or the problem that it names.
    """

    name: str
    pid: int | None
    state: str
    ready: bool
    uptime: float | None
    restarts: int
    port: int
    version: int | None
    predictions: int | None
    lag_seconds: float | None
    last_line: str

    def cells(self) -> tuple[str, ...]:
        """The row as a table shows it."""
        return (
            self.name,
            _text(self.pid),
            self.state,
            "–" if self.uptime is None else _duration(self.uptime),
            str(self.restarts),
            str(self.port),
            _text(self.version),
            "–" if self.predictions is None else f"{self.predictions:,}",
            "–" if self.lag_seconds is None else f"{self.lag_seconds:.1f} s",
        )


_PREDICTIONS = ("ninefold_front_end_predictions_total", "ninefold_model_instances_total")
_LAG = "ninefold_front_end_journal_lag_seconds"


def rows(state: SupervisorState) -> list[Row]:
    """One row a process; all are asked at the same time."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(_row, state.processes))


def _row(process: ProcessState) -> Row:
    runs = is_same(process.pid, process.born)
    ready = runs and is_ready(process.host, process.port)
    samples = _samples(process) if ready else {}
    problem = _problem(process) if ready else ""
    given = [value for name, value in samples.items() if name in _PREDICTIONS]
    return Row(
        name=process.name,
        pid=process.pid if runs else None,
        state=("problem" if problem else process.state)
        if ready or process.state != "ready"
        else ("not ready" if runs else "dead"),
        ready=ready and not problem,
        uptime=max(0.0, time.time() - process.born) if runs and process.born is not None else None,
        restarts=process.restarts,
        port=process.port,
        version=process.version,
        predictions=int(given[0]) if given else (0 if ready and process.name not in ("collector", "gateway") else None),
        lag_seconds=samples.get(_LAG),
        last_line=process.last_line or problem,
    )


def _problem(process: ProcessState) -> str:
    """What a process that works says is wrong, such as that it can't use the live version; empty for nothing."""
    with contextlib.suppress(OSError, ValueError):
        with urllib.request.urlopen(f"http://{process.host}:{process.port}/readyz", timeout=2) as response:
            document = json.loads(response.read())
        return str(document.get("problem") or "") if isinstance(document, dict) else ""
    return ""


def _samples(process: ProcessState) -> Mapping[str, float]:
    """Name → sum over the labels of every sample in the process's metrics."""
    totals: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError):
        url = f"http://{process.host}:{process.port}/metrics"
        with urllib.request.urlopen(url, timeout=2) as response:
            for line in response.read().decode().splitlines():
                if line and not line.startswith("#"):
                    name, _, value = line.rpartition(" ")
                    name = name.partition("{")[0]
                    totals[name] = totals.get(name, 0.0) + float(value)
    return totals


def _text(value: int | None) -> str:
    return "–" if value is None else str(value)


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
