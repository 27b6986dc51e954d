"""The builds of the service: a bounded queue, one worker process at a time, and what became of each.

A build runs in a process of its own: its memory is given back, and its death is a failed build, not a dead service.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import prometheus_client
import structlog

from ninefold.clock import Clock, format_instant
from ninefold.errors import NotFound, Unavailable

log = structlog.get_logger()

MAX_QUEUED = 16
MAX_KEPT = 1_000
"""Finished builds whose outcome is remembered; their packages lie in the model store for good."""
_LINE_BYTES = 16 * 2**20
_PATIENCE = 60.0
"""Seconds beyond twice its training time after which a worker is taken for hung."""

_ENDED = prometheus_client.Counter("ninefold_builds_total", "Builds of the model builder by outcome.", ["outcome"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Specification:
    """What a client asks for; paths are checked already."""

    train: str
    validation: str
    metric: str | None
    max_training_time: float
    models_url: str
    seed: int = 0
    threads: int = 2


@dataclass(slots=True, kw_only=True)
class Build:
    """One build and where it stands."""

    build_id: str
    specification: Specification
    submitted_at: datetime
    status: Literal["queued", "running", "done", "failed"] = "queued"
    progress: dict[str, Any] = field(default_factory=dict)
    leaderboard: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The body of ``GET /v1/builds/{id}``."""
        asked = self.specification
        return {
            "id": self.build_id,
            "status": self.status,
            "submitted_at": format_instant(self.submitted_at),
            "train": asked.train,
            "validation": asked.validation,
            "metric": asked.metric,
            "max_training_time": asked.max_training_time,
            "progress": self.progress,
            "leaderboard": self.leaderboard,
            "result": self.result,
            "error": self.error,
        }


class Builds:
    """Queue, worker and memory of the service.

    Args:
        clock: Tells when a build was submitted.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._builds: OrderedDict[str, Build] = OrderedDict()
        self._queue: asyncio.Queue[Build] = asyncio.Queue(MAX_QUEUED)

    def submit(self, specification: Specification) -> Build:
        """Queues a build.

        Raises:
            Unavailable: The queue is full.
        """
        build = Build(build_id=uuid.uuid4().hex, specification=specification, submitted_at=self._clock.now())
        try:
            self._queue.put_nowait(build)
        except asyncio.QueueFull:
            raise Unavailable(f"{MAX_QUEUED} builds are waiting already.", remedy="Try again later.") from None
        self._builds[build.build_id] = build
        self._forget()
        return build

    def get(self, build_id: str) -> Build:
        """The build of that id.

        Raises:
            NotFound: There is none, or it ended long ago.
        """
        if build_id not in self._builds:
            raise NotFound(f"There is no build {build_id[:64]!r}.")
        return self._builds[build_id]

    def _forget(self) -> None:
        ended = [key for key, build in self._builds.items() if build.status in ("done", "failed")]
        for key in ended[: max(len(self._builds) - MAX_KEPT, 0)]:
            del self._builds[key]

    async def work(self) -> None:
        """Runs queued builds, one after another, until it is cancelled."""
        while True:
            build = await self._queue.get()
            build.status = "running"
            asked = build.specification
            try:
                async with asyncio.timeout(2 * asked.max_training_time + _PATIENCE):
                    await self._run(build)
            except TimeoutError:
                build.error = f"The worker did not end within {2 * asked.max_training_time + _PATIENCE:.0f} s."
            except (OSError, ValueError) as error:
                build.error = f"The worker can't be started or understood: {error}."
            build.status = "failed" if build.result is None else "done"
            _ENDED.labels(build.status).inc()
            log.info("build ended", build=build.build_id, status=build.status, error=build.error)

    async def _run(self, build: Build) -> None:
        asked = build.specification
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "components.model_builder.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES, env={**os.environ, "PYTHONSAFEPATH": "1"},
        )  # fmt: skip
        stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
        if stdin is None or stdout is None or stderr is None:
            raise OSError("it has no pipes")
        said: deque[str] = deque(maxlen=5)
        listening = asyncio.create_task(_tail(stderr, said))
        try:
            stdin.write(json.dumps({name: getattr(asked, name) for name in asked.__slots__}).encode())
            stdin.close()
            async for line in stdout:
                _take(build, json.loads(line))
            code = await process.wait()
            await listening
        finally:
            listening.cancel()
            if process.returncode is None:
                process.kill()
                await process.wait()
        if build.result is None and build.error is None:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            build.error = f"The worker {how}. {' '.join(said)}".strip()


def _take(build: Build, message: dict[str, Any]) -> None:
    build.error = message.get("error", build.error)
    build.result = message.get("result", build.result)
    if "progress" in message:
        build.progress = message["progress"]
        row = build.progress.pop("row")
        if row is not None:
            build.leaderboard.append(row)
    if build.result is not None:
        # Sorted, and with the chosen one marked by being equal to ``chosen``.
        build.leaderboard = build.result.pop("leaderboard")


async def _tail(stream: asyncio.StreamReader, lines: deque[str]) -> None:
    async for line in stream:
        lines.append(line.decode("utf-8", "replace").strip()[:500])
