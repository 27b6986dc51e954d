"""Running a pipeline on this machine: progress as it goes, one clear error when a step fails, steps cached.

The run happens in a child process through KFP's local runner; its whole output goes to ``logs/runs/<run id>.log``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ninefold.errors import StepFailed
from ninefold.settings import Settings

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"Executing task '([^']+)'")
_ENDED = re.compile(r"Task '([^']+)' finished with status (SUCCESS|FAILURE)")
_CACHED = re.compile(r"Task '?([\w-]+)'? cache hit")
_TRACEBACK = "Traceback (most recent call last)"
_ERROR = re.compile(r"(?:[\w.]+\.)?([A-Za-z_]\w*)(?:: (.*))?")

StepState = Literal["running", "done", "cached", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How one step of a run stands.

    Args:
        name: The task's name, as in the KFP UI.
        state: Where it stands.
        seconds: How long it took, or has taken.
    """

    name: str
    state: StepState
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a run ended.

    Args:
        run_id: Its id.
        folder: Where its artifacts lie.
        log: Its whole output.
        steps: What ran, in order.
        seconds: How long it took.
    """

    run_id: str
    folder: Path
    log: Path
    steps: tuple[Step, ...] = field(default_factory=tuple)
    seconds: float = 0.0


def run_pipeline(
    path: str,
    arguments: Mapping[str, Any],
    *,
    run_id: str,
    settings: Settings,
    on_step: Callable[[Step], None] = lambda _: None,
) -> Finished:
    """Runs a pipeline and waits for its end.

    Args:
        path: Import path of the pipeline function.
        arguments: Its parameters.
        run_id: Names the run's folder and log.
        settings: Where things lie.
        on_step: Told whenever a step starts or ends.

    Raises:
        StepFailed: A step failed; the message names it, its cause, the log, and how to go on.
    """
    started = time.monotonic()
    root = settings.folder("pipelines") / run_id
    root.mkdir(parents=True, exist_ok=True)
    log = settings.folder("logs") / "runs" / f"{run_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "pipeline": path,
        "arguments": dict(arguments),
        "root": str(root),
        "cache": str(settings.folder("pipelines") / "cache"),
    }
    steps: dict[str, Step] = {}
    begun: dict[str, list[float]] = {}
    tail: list[str] = []
    with log.open("w") as file:
        for line in _lines(document, settings):
            file.write(line)
            text = _ANSI.sub("", line).rstrip()
            if text.strip():
                tail = [*tail[-199:], text]
            step = _read(text, steps, begun)
            if step is not None:
                steps[step.name] = step
                on_step(step)
    failed = [step for step in steps.values() if step.state in ("failed", "running")]
    if failed or not tail or tail[-1] != _FINISHED:
        name = failed[-1].name if failed else "the run"
        for step in failed:
            if step.state == "running":
                on_step(replace(step, state="failed"))
        raise StepFailed(
            f"Step {name!r} failed: {_cause(tail)}.",
            remedy=f"The whole log: {log}. Run the same command again to resume: finished steps are cached.",
        )
    return Finished(
        run_id=run_id, folder=root, log=log, steps=tuple(steps.values()), seconds=time.monotonic() - started
    )


_FINISHED = "ninefold: run finished"


def _lines(document: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    environment = {
        **os.environ,
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "NINEFOLD_HOME": str(settings.home),
        "NINEFOLD_USECASES": str(settings.usecases),
        "NINEFOLD_CLOCK": settings.clock,
        # A step finds this interpreter as `python3`, whatever the shell's PATH says.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.local_run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        # A group of its own, which ends as one when its input does: with this process, however that ends.
        process_group=0,
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise StepFailed("The run's process has no pipes.")
        process.stdin.write(json.dumps(document) + "\n")
        process.stdin.flush()
        try:
            yield from process.stdout
        except BaseException:
            process.stdin.close()
            raise
        if process.wait() == 0:
            yield _FINISHED + "\n"


def _read(text: str, steps: Mapping[str, Step], begun: dict[str, list[float]]) -> Step | None:
    """The step that a log line tells of, if it tells of one."""
    if match := _STARTED.search(text):
        begun.setdefault(match[1], []).append(time.monotonic())
        return Step(name=match[1], state="running")
    if match := _ENDED.search(text):
        # Of a loop's tasks, which share a name, the one that began first is taken to end first.
        began = begun[match[1]].pop(0) if begun.get(match[1]) else time.monotonic()
        seconds = time.monotonic() - began
        return Step(name=match[1], state="done" if match[2] == "SUCCESS" else "failed", seconds=seconds)
    if (match := _CACHED.search(text)) and match[1] not in steps:
        return Step(name=match[1], state="cached")
    return None


def _cause(tail: list[str]) -> str:
    """The error that ended it: the one that the step's last traceback ends in, or the step's last words."""
    end = max((i for i, line in enumerate(tail) if _ENDED.search(line)), default=len(tail))
    own = tail[:end]
    begin = max((i for i, line in enumerate(own) if _TRACEBACK in line), default=None)
    if begin is not None:
        indent = len(own[begin]) - len(own[begin].lstrip())
        for line in own[begin + 1 :]:
            # The frames are indented; the error itself stands below the word Traceback.
            if (match := _ERROR.fullmatch(line[indent:])) is not None:
                return f"{match[2].strip()} ({match[1]})" if match[2] else match[1]
    last = own[-1].strip() if own else ""
    if last == "Killed":
        return "it was killed, as the system does when memory runs out"
    return last if re.search(r"\w", last) else "it ended without a word"
