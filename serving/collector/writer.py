"""The one thread that writes: requests queue for it, share its commits, and are answered when they are kept.

A queue that is full answers at once that it is. Whatever goes wrong while a group is kept, the windows are restored
from the log before the next one: an event that reached the log is counted once, neither lost nor doubled.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import structlog

from ninefold.errors import DataError, InvalidInput, NinefoldError, StoreError, Unavailable
from serving.collector.keeper import Batch, Outcome

log = structlog.get_logger()

TICK_SECONDS = 1.0
"""How often time passes in the windows when nothing happens."""

MAX_GROUP = 64
"""Most requests that share a commit."""


class Session(Protocol):
    """What the thread works with; opened and closed in the thread."""

    @property
    def watermark(self) -> datetime | None:
        """How far the windows reach."""
        ...

    def keep(self, batches: list[Batch]) -> list[Outcome]:
        """Keeps a group of batches."""
        ...

    def flush(self) -> None:
        """Writes the windows that changed."""
        ...

    def tick(self) -> None:
        """Lets time pass, and takes up windows that new versions need."""
        ...

    def close(self) -> None:
        """Ends connections."""
        ...


@dataclass(slots=True)
class _Job:
    batch: Batch
    wait_for_windows: bool
    received: float
    kept: Future[Outcome] = field(default_factory=Future)


class Writer:
    """Runs a session in a thread of its own.

    Args:
        open_session: Opens the stores and restores the windows; called in the thread, again after a failure.
        max_waiting: Most records that wait; a single batch may be larger.
        on_windows: Told, for each request with events, the seconds from its arrival to its windows being written.
    """

    def __init__(
        self, open_session: Callable[[], Session], *, max_waiting: int, on_windows: Callable[[float], None]
    ) -> None:
        self._open = open_session
        self._max_waiting = max_waiting
        self._on_windows = on_windows
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._session: Session | None = None
        self._problem: str | None = "The windows are being restored."
        self._stopping = False
        self._watermark: datetime | None = None
        self._thread = threading.Thread(target=self._run, name="collector-writer", daemon=True)

    @property
    def problem(self) -> str | None:
        """Why nothing can be kept at present; None when all is well."""
        return self._problem

    @property
    def watermark(self) -> datetime | None:
        """How far the windows reached when this was last known; None before the first time."""
        return self._watermark

    @property
    def waiting(self) -> int:
        """Records that wait to be written."""
        return self._waiting

    def start(self) -> None:
        """Starts the thread, which opens the session."""
        self._thread.start()

    def stop(self) -> None:
        """Writes what waits, and ends; nothing is taken any more."""
        with self._lock:
            self._stopping = True
        self._queue.put(None)
        self._thread.join()

    def submit(self, batch: Batch, *, wait_for_windows: bool) -> Future[Outcome]:
        """Queues a batch; the future tells when it is kept, or when its windows are written.

        Raises:
            Unavailable: Too much waits already, or the service is stopping.
        """
        job = _Job(batch, wait_for_windows, time.perf_counter())
        # Who stops waiting can't take it back: it is kept all the same, and the thread may tell of it.
        job.kept.set_running_or_notify_cancel()
        size = max(1, len(batch))
        with self._lock:
            if self._stopping:
                raise Unavailable("The collector is stopping.", remedy="Send it again.")
            if self._waiting and self._waiting + size > self._max_waiting:
                raise Unavailable(f"{self._waiting:,} records wait to be written.", remedy="Send it again in a second.")
            self._waiting += size
            self._queue.put(job)
        return job.kept

    def _run(self) -> None:
        next_tick = time.monotonic()
        stopping = False
        while not stopping:
            jobs, stopping = self._next_group(max(0.0, next_tick - time.monotonic()))
            if self._session is None:
                self._reopen()
            if jobs:
                self._keep(jobs)
            if time.monotonic() >= next_tick or stopping:
                next_tick = time.monotonic() + TICK_SECONDS
                self._tick()
        if self._session is not None:
            self._session.close()

    def _next_group(self, timeout: float) -> tuple[list[_Job], bool]:
        """The requests that wait, at most a group; and whether it is time to end."""
        jobs: list[_Job] = []
        try:
            while len(jobs) < MAX_GROUP:
                job = self._queue.get(timeout=timeout) if not jobs else self._queue.get_nowait()
                if job is None:
                    return jobs, True
                jobs.append(job)
        except queue.Empty:
            pass
        return jobs, False

    def _reopen(self) -> None:
        try:
            self._session = self._open()
            self._problem = None
        except Exception as error:
            # The thread has to outlive any failure; the next turn tries again, and readiness tells why.
            self._report(error, "the collector can't open its stores")

    def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _keep(self, jobs: list[_Job]) -> None:
        session = self._session
        if session is None:
            self._fail(jobs, Unavailable(self._problem or "The stores are closed.", remedy="Send it again."))
            return
        try:
            outcomes = session.keep([job.batch for job in jobs])
        except Exception as error:
            self._report(error, "a group could not be kept")
            self._drop_session()
            self._reopen()
            if len(jobs) > 1 and not isinstance(error, StoreError):
                # One of them is at fault, and the others must not pay for it.
                for job in jobs:
                    self._keep([job])
            else:
                self._fail(jobs, error)
            return
        self._done(jobs)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if not job.wait_for_windows:
                job.kept.set_result(outcome)
        self._flush(session, list(zip(jobs, outcomes, strict=True)))

    def _flush(self, session: Session, kept: list[tuple[_Job, Outcome]]) -> None:
        waiting = [(job, outcome) for job, outcome in kept if job.wait_for_windows]
        try:
            session.flush()
        except Exception as error:
            # All is in the log, and the next turn writes the windows; who asked for them is told.
            self._report(error, "windows could not be written")
            for job, _ in waiting:
                job.kept.set_exception(
                    Unavailable(f"Kept, but the windows are not written: {error}", remedy="Send it again.")
                )
            return
        self._watermark = session.watermark
        self._problem = None
        for job, outcome in waiting:
            job.kept.set_result(outcome)
        for job, _ in kept:
            if job.batch.events:
                self._on_windows(time.perf_counter() - job.received)

    def _tick(self) -> None:
        session = self._session
        if session is None:
            return
        try:
            session.tick()
        except Exception as error:
            self._report(error, "time could not pass")
            self._drop_session()
            return
        self._flush(session, [])

    def _done(self, jobs: list[_Job]) -> None:
        with self._lock:
            self._waiting -= sum(max(1, len(job.batch)) for job in jobs)

    def _fail(self, jobs: list[_Job], error: Exception) -> None:
        self._done(jobs)
        for job in jobs:
            # What can't be kept is the sender's to correct; all else is ours.
            job.kept.set_exception(InvalidInput("body", str(error)) if isinstance(error, DataError) else error)

    def _report(self, error: Exception, event: str) -> None:
        self._problem = str(error)
        if isinstance(error, NinefoldError):
            log.error(event, error=str(error))
        else:
            log.exception(event, exc_info=error)
