"""Asks a candidate for what the live version has answered, for nobody to see, and keeps what it says.

It is work for later: it begins when the live answer is on its way, takes rows of several requests in one call, never
more at a time than the event loop can spare, and waits for moments when no live request is under way. What it needs of
the past, the rows that the live answer saw, was kept with the live batch. It is bounded in calls and in rows that wait;
what is over the bound is dropped and counted.

A candidate that fails is recorded as its users would have got it: the baseline's value, and why.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ninefold.errors import Unavailable
from ninefold.records import derived_id
from serving.front_end.asking import Caller, Part, ask
from serving.front_end.directions import OpenRollout, Route
from serving.front_end.keeper import Keeper
from serving.front_end.metrics import Metrics
from serving.front_end.prepared import Prepared, Preparer
from serving.front_end.recording import Recorder

ROWS_A_CALL = 16
"""Most rows of one call: about a third of a millisecond of the event loop's time, in two pieces."""

MAX_CALLS = 4
"""Most calls at once. One is enough for a candidate that answers; four that hang leave the live version its own."""

MAX_WAITING = 256
"""Rows that may wait before more are dropped. A request comes in whole, so that large batches are evidence too."""

GATHER_SECONDS = 0.02
"""How long rows are gathered: those that share a call cost the event loop less than half of what each alone costs."""

_WRITTEN_SECONDS = 0.001
"""Where no more need be gathered: past the turns of the loop in which the live answer is written."""

_PATIENCE_SECONDS = 0.005
"""How long a moment without a live request under way is waited for; under full load there is none."""


@dataclass(slots=True)
class Seen:
    """A row that the live version answered.

    Args:
        batch: The batch that it was answered in.
        place: Its place there.
        prediction_id: Id of the live prediction.
        request_id: The request's id and the row's place in it.
        key: What joins it to its truth.
        instance: What the client sent.
    """

    batch: Prepared
    place: int
    prediction_id: str
    request_id: str
    key: str
    instance: Mapping[str, Any]


@dataclass(slots=True)
class _Request:
    """What is left of a request: rows that wait, and rows that are not kept yet."""

    rows: list[Seen]
    caller: Caller
    shadow: Route
    rollout: OpenRollout
    then: Callable[[], None] | None
    open: int
    begun: int = 0


@dataclass(slots=True)
class _Turn:
    """Rows of one call, request by request; all for one route."""

    parts: list[tuple[_Request, list[Seen]]]

    @property
    def rows(self) -> list[Seen]:
        return [row for _, rows in self.parts for row in rows]


class Shadow:
    """Asks the candidate behind the live version.

    Args:
        preparer: Makes the candidate's instances.
        recorder: Makes records.
        keeper: Keeps them.
        metrics: What is counted.
        busy: Whether a live request is under way.
    """

    def __init__(
        self,
        preparer: Preparer,
        *,
        recorder: Recorder,
        keeper: Keeper,
        metrics: Metrics,
        busy: Callable[[], bool],
    ) -> None:
        self._preparer = preparer
        self._recorder = recorder
        self._keeper = keeper
        self._metrics = metrics
        self._busy = busy
        self._patient: deque[asyncio.Future[None]] = deque()
        """Who waits for a moment without a live request."""
        self._queue: deque[_Request] = deque()
        self._queued = 0
        self._tasks: dict[asyncio.Task[None], _Turn] = {}
        self._beginning: asyncio.Handle | None = None
        self._due = 0.0
        self._closing = False
        self.waiting = 0
        """Rows that are neither kept nor dropped yet."""

    def follow(self, rows: Sequence[Seen], caller: Caller, then: Callable[[], None] | None = None) -> None:
        """Asks for rows of one request, later.

        Args:
            rows: Rows of one batch whose route has a shadow.
            caller: Who asked; its request id goes to the candidate too.
            then: Called from the event loop when all are kept or dropped. Who waits is never one too many: there are
                as many who wait as there are clients.
        """
        route = rows[0].batch.route if rows else None
        shadow = route.shadow if route is not None else None
        if shadow is None or shadow.rollout is None:
            raise ValueError("rows without a shadow to follow them")
        if self._patient and not self._busy():
            _resume(self._patient.popleft())
        # No model is asked for a field out of its declared range.
        asked = [row for row in rows if self._preparer.is_in_range(row.batch.rows[row.place])]
        read = asked if rows[0].batch.shadow_features is not None else []
        request = _Request(read, caller._replace(trace=b""), shadow, shadow.rollout, then, open=len(asked))
        self.waiting += len(asked)
        if self._closing or (then is None and self._queued >= MAX_WAITING):
            self._drop(request, len(asked), "closing" if self._closing else "full")
        elif not read:
            self._drop(request, len(asked), "unreadable", rows[0].batch.unread)
        else:
            self._queue.append(request)
            self._queued += len(read)
            if then is not None:
                self._begin_in(0.0)
            else:
                self._begin_in(GATHER_SECONDS if self._queued < ROWS_A_CALL else _WRITTEN_SECONDS)

    async def finish(self, seconds: float) -> None:
        """Finishes what waits, within a bound; what is not finished then is dropped."""
        self._closing = True
        deadline = time.perf_counter() + seconds
        while self.waiting and time.perf_counter() < deadline:
            self._begin()
            await asyncio.sleep(0.005)
        for task, turn in list(self._tasks.items()):
            if task.cancel():
                self._drop_all(turn, "closing")
        while self._queue:
            request = self._queue.popleft()
            self._drop(request, len(request.rows) - request.begun, "closing")

    def _begin_in(self, seconds: float) -> None:
        """Begins then, in a turn of the loop of its own: whoever else is ready comes before."""
        if len(self._tasks) >= MAX_CALLS:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        if self._beginning is None or due < self._due:
            self._stop_waiting()
            self._due = due
            self._beginning = loop.call_later(seconds, self._begin) if seconds else loop.call_soon(self._begin)

    def _stop_waiting(self) -> None:
        if self._beginning is not None:
            self._beginning.cancel()
            self._beginning = None

    def _begin(self) -> None:
        self._stop_waiting()
        if self._queue and len(self._tasks) < MAX_CALLS:
            turn = self._take()
            task = asyncio.get_running_loop().create_task(self._work(turn))
            self._tasks[task] = turn
            task.add_done_callback(self._end)
            if self._queue:
                self._begin_in(0.0)

    def _end(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if self._queue:
            self._begin_in(0.0)

    def _take(self) -> _Turn:
        shadow = self._queue[0].shadow
        parts: list[tuple[_Request, list[Seen]]] = []
        room = ROWS_A_CALL
        while self._queue and room and self._queue[0].shadow is shadow:
            request = self._queue[0]
            rows = request.rows[request.begun : request.begun + room]
            request.begun += len(rows)
            room -= len(rows)
            parts.append((request, rows))
            if request.begun == len(request.rows):
                self._queue.popleft()
        self._queued -= ROWS_A_CALL - room
        return _Turn(parts)

    async def _quiet(self, turn: _Turn) -> None:
        """Waits for a moment without a live request; where a client waits, or at the end, there is no other work."""
        if self._closing or not self._busy() or any(request.then is not None for request, _ in turn.parts):
            return
        loop = asyncio.get_running_loop()
        moment = loop.create_future()
        self._patient.append(moment)
        timer = loop.call_later(_PATIENCE_SECONDS, _resume, moment)
        await moment
        timer.cancel()
        if moment in self._patient:
            self._patient.remove(moment)

    async def _work(self, turn: _Turn) -> None:
        await self._quiet(turn)
        started = time.perf_counter()
        try:
            prepared, values = await self._ask(turn)
            latency_ms = (time.perf_counter() - started) * 1e3
            await self._quiet(turn)
            records = [
                self._record(prepared, place, row, values[place], latency_ms) for place, row in enumerate(turn.rows)
            ]
        except Exception as error:
            # A use case's own code may raise anything; a row that it can't take is no other's matter.
            if len(turn.parts) > 1:
                for part in turn.parts:
                    await self._work(_Turn([part]))
            else:
                self._drop_all(turn, "broken", error)
            return
        self._keeper.keep(records, partial(self._kept, turn, prepared))

    async def _ask(self, turn: _Turn) -> tuple[Prepared, list[float]]:
        prepared = self._preparer.prepare_shadow([(row.batch, row.place) for row in turn.rows], turn.parts[0][0].shadow)
        values = [0.0] * len(prepared.rows)
        parts, start = [], 0
        for request, rows in turn.parts:
            parts.append(Part(range(start, start + len(rows)), request.caller))
            start += len(rows)
        failed = self._metrics.shadow_failed
        if not await ask(prepared, parts, values, metrics=self._metrics, failed=failed):
            # One after the other: a candidate that breaks has no more calls at once than one that answers.
            for part in parts:
                await ask(prepared, [part], values, metrics=self._metrics, failed=failed)
        fallen = [place for place, reason in enumerate(prepared.fallbacks) if reason is not None]
        if fallen:
            for place, value in zip(fallen, self._preparer.baseline(prepared, fallen), strict=True):
                values[place] = value
        return prepared, values

    def _record(self, prepared: Prepared, place: int, row: Seen, value: float, latency_ms: float) -> bytes:
        rollout = row.batch.route.rollout
        return self._recorder.record(
            prepared,
            place,
            prediction_id=shadow_id(row.prediction_id, rollout.candidate if rollout is not None else 0),
            request_id=row.request_id,
            key=row.key,
            value=self._recorder.clip(value, prepared.flags[place]),
            instance=row.instance,
            latency_ms=latency_ms,
            interval=self._recorder.clip_interval(prepared.intervals.get(place)),
        )

    def _kept(self, turn: _Turn, prepared: Prepared, refused: Unavailable | None) -> None:
        if refused is not None:
            self._drop_all(turn, "unkept", refused)
            return
        rollout = turn.parts[0][0].rollout
        for fallback in prepared.fallbacks:
            outcome = "answered" if fallback is None else "failed"
            rollout.shadowed[outcome] += 1
            self._metrics.shadows[rollout.candidate, outcome, fallback or ""] += 1
        for request, rows in turn.parts:
            self._settle(request, len(rows))

    def _drop_all(self, turn: _Turn, reason: str, error: Exception | None = None) -> None:
        for request, rows in turn.parts:
            self._drop(request, len(rows), reason, error)

    def _drop(self, request: _Request, rows: int, reason: str, error: Exception | None = None) -> None:
        if rows:
            rollout = request.rollout
            rollout.shadowed["dropped"] += rows
            self._metrics.shadow_dropped(rollout.candidate, reason, rows, error)
        self._settle(request, rows)

    def _settle(self, request: _Request, rows: int) -> None:
        self.waiting -= rows
        request.open -= rows
        if request.open == 0 and request.then is not None:
            then, request.then = request.then, None
            then()


def _resume(moment: asyncio.Future[None]) -> None:
    if not moment.done():
        moment.set_result(None)


def shadow_id(prediction_id: str, version: int) -> str:
    """The id of what a version says in the shadow of a prediction; near it in the order of ids."""
    return prediction_id[:12] + derived_id("shadow", prediction_id, str(version))[:20]
