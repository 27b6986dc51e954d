"""How every process does, asked from the process itself; and the open rollout, asked from the front end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from ninefold.errors import NinefoldError
from ninefold.loading import load_use_case
from serving.supervisor.front_end import shown_by_front_end
from serving.supervisor.processes import fetched, is_ready, reachable
from serving.supervisor.state import ProcessState, ServedRollout, SupervisorState, is_same


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
    port: int | None
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
            _text(self.port),
            _text(self.version),
            "–" if self.predictions is None else f"{self.predictions:,}",
            "–" if self.lag_seconds is None else f"{self.lag_seconds:.1f} s",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRow:
    """The open rollout.

    Args:
        rollout: As the supervisor serves it.
        observed: Cohort → answers given, as the front end counted them; empty where it does not say.
        shadowed: What became of the candidate's shadow answers → how many; empty where it does not say.
        problem: Why its candidate is not in the routes, or what the front end says is wrong with it; empty for nothing.
    """

    rollout: ServedRollout
    observed: Mapping[str, int]
    shadowed: Mapping[str, int]
    problem: str

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        shown = {"observed": dict(self.observed), "shadowed": dict(self.shadowed), "problem": self.problem}
        return {**asdict(self.rollout), **shown}

    def lines(self) -> list[str]:
        """For people."""
        rollout = self.rollout
        stands = f"{rollout.state}, step {rollout.step + 1}" if rollout.state == "canary" else rollout.state
        versions = f"version {rollout.candidate} against {rollout.incumbent}"
        lines = [f"Rollout {rollout.rollout_id}: {versions}, {stands} (revision {rollout.revision})"]
        answers = sum(self.observed.values())
        if answers:
            got = self.observed.get("candidate", 0)
            lines.append(
                f"Its share: {rollout.share:.1%} of the audience; {got:,} of {answers:,} answers ({got / answers:.1%})"
            )
        else:
            lines.append(f"Its share: {rollout.share:.1%} of the audience")
        if any(self.shadowed.values()):
            lines.append("Shadowed: " + ", ".join(f"{count:,} {what}" for what, count in self.shadowed.items()))
        return [*lines, f"Its problem: {self.problem}"] if self.problem else lines


_PREDICTIONS = ("ninefold_front_end_predictions_total", "ninefold_model_instances_total")
_GIVE_NONE = ("collector", "gateway", "rollout")
_LAG = "ninefold_front_end_journal_lag_seconds"


def rows(state: SupervisorState) -> list[Row]:
    """One row a process; all are asked at the same time."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(_row, state.processes))


def rollout_row(state: SupervisorState, key: str) -> RolloutRow | None:
    """The open rollout; None where none is.

    Args:
        state: The supervisor's.
        key: API key of the front end.
    """
    if state.rollout is None:
        return None
    shown = _shown(state, key)
    return RolloutRow(
        rollout=state.rollout,
        observed=dict(shown.get("observed") or {}),
        shadowed=dict(shown.get("shadowed") or {}),
        problem=_not_routed(state, state.rollout) or str(shown.get("problem") or ""),
    )


def _not_routed(state: SupervisorState, rollout: ServedRollout) -> str:
    if rollout.routed:
        return ""
    if state.live != rollout.incumbent:
        return f"version {rollout.incumbent}, which it was opened against, is not the one that answers"
    servers = [process for process in state.processes if process.version == rollout.candidate]
    if not servers or servers[0].state != "ready":
        return f"the server of version {rollout.candidate} is not ready"
    return "the routes are not written yet"


def _shown(state: SupervisorState, key: str) -> Mapping[str, Any]:
    """What the front end says of the rollout that it goes by."""
    front_end = next((process for process in state.processes if process.name == "front end"), None)
    if front_end is None or state.rollout is None:
        return {}
    try:
        address = f"http://{reachable(front_end.host)}:{front_end.port}"
        shown = shown_by_front_end(address, load_use_case(state.use_case).name, key)
    except (OSError, NinefoldError):
        return {}
    rollout = (shown or {}).get("rollout")
    return rollout if isinstance(rollout, dict) and rollout.get("id") == state.rollout.rollout_id else {}


def _row(process: ProcessState) -> Row:
    runs = is_same(process.pid, process.born)
    # One that does not listen can't be asked.
    ready = runs and (process.state == "ready" if process.port is None else is_ready(process.host, process.port))
    asked = ready and process.port is not None
    samples = _samples(process) if asked else {}
    problem = _problem(process) if asked else ""
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
        predictions=int(given[0]) if given else (0 if ready and process.name not in _GIVE_NONE else None),
        lag_seconds=samples.get(_LAG),
        last_line=process.last_line or problem,
    )


def _problem(process: ProcessState) -> str:
    """What a process that works says is wrong, such as that it can't use the live version; empty for nothing."""
    with contextlib.suppress(OSError, ValueError):
        document = json.loads(fetched(f"http://{process.host}:{process.port}/readyz", seconds=2))
        return str(document.get("problem") or "") if isinstance(document, dict) else ""
    return ""


def _samples(process: ProcessState) -> Mapping[str, float]:
    """Name → sum over the labels of every sample in the process's metrics."""
    totals: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError):
        for line in fetched(f"http://{process.host}:{process.port}/metrics", seconds=2).decode().splitlines():
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
