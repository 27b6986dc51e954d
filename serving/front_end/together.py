"""Answers requests that came at the same moment as one batch, and each as if it had come alone.

Reading rows, deriving and asking the model cost nearly the same for one row and for ten. A request that finds nothing
under way is worked on at once, with whatever else arrived in the same turn of the event loop; one that comes meanwhile
goes with the next batch, which begins when this one has ended, or 2 ms later at the latest. So an idle front end adds
no wait, and under load a request costs a fraction.

No request pays for another: where a batch fails for a reason that lies in one of its rows, each is tried by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serving.front_end.asking import Caller, Part, ask
from serving.front_end.directions import Route
from serving.front_end.metrics import Metrics
from serving.front_end.prepared import Prepared, Preparer
from serving.front_end.validation import Row

MAX_WAIT_SECONDS = 0.002
"""Longest wait for a batch that is under way: a slow model must not make others wait for it."""

MAX_ROWS = 64
"""Most rows that are worked on together; a request with more goes alone."""


@dataclass(slots=True)
class Share:
    """A request's part of a batch.

    Args:
        prepared: The whole batch.
        values: The whole batch's values.
        start: Place of the request's first row in it.
    """

    prepared: Prepared
    values: list[float]
    start: int


Done = Callable[[Share | Exception], None]
"""Told a request's share, or why there is none; it raises nothing."""


@dataclass(slots=True)
class _Request:
    rows: list[Row]
    caller: Caller
    route: Route
    done: Done
    start: int = 0


class Together:
    """Prepares requests and asks the model, or the baseline.

    Each cohort has one of its own: a candidate that hangs is waited for by those alone who are given to it.

    Args:
        preparer: Reads features and derives inputs.
        metrics: What is counted.
    """

    def __init__(self, preparer: Preparer, metrics: Metrics) -> None:
        self._preparer = preparer
        self._metrics = metrics
        self._waiting: list[_Request] = []
        self._rows = 0
        self._beginning: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._alone: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether a request is under way; one that goes alone is long, and nobody holds back for it."""
        # A task leaves the set one turn of the loop after its end, which is when its answers are given.
        return bool(self._waiting) or not all(task.done() for task in self._tasks)

    def answer(self, rows: list[Row], caller: Caller, route: Route, done: Done) -> None:
        """Gets one value a row: the model's where it answers, else the baseline's; the reason is left in the batch.

        Args:
            rows: Checked values.
            caller: Who asks.
            route: Where the rows go.
            done: Called from the event loop, later.
        """
        request = _Request(rows, caller, route, done)
        if len(rows) > MAX_ROWS:
            task = asyncio.create_task(self._work([request]))
            self._alone.add(task)
            task.add_done_callback(self._alone.discard)
            return
        waiting = self._waiting
        if waiting and (self._rows + len(rows) > MAX_ROWS or waiting[0].route is not route):
            self._begin()
        if self._beginning is None:
            loop = asyncio.get_running_loop()
            # Whoever else is ready in this turn of the loop comes before what is called soon.
            self._beginning = (
                loop.call_later(MAX_WAIT_SECONDS, self._begin) if self._tasks else loop.call_soon(self._begin)
            )
        self._waiting.append(request)
        self._rows += len(rows)

    def _begin(self) -> None:
        if self._beginning is not None:
            self._beginning.cancel()
            self._beginning = None
        if self._waiting:
            requests, self._waiting, self._rows = self._waiting, [], 0
            task = asyncio.create_task(self._work(requests))
            self._tasks.add(task)
            task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks and self._beginning is not None:
            self._beginning.cancel()
            # One turn of the loop later: who has just been answered asks again by then, and shares the batch.
            self._beginning = asyncio.get_running_loop().call_soon(self._begin)

    async def _work(self, requests: list[_Request]) -> None:
        try:
            shares = await self._answer(requests)
        except Exception as error:
            if len(requests) > 1:
                for request in requests:
                    await self._work([request])
            else:
                requests[0].done(error)
            return
        for request, share in zip(requests, shares, strict=True):
            request.done(share)

    async def _answer(self, requests: list[_Request]) -> list[Share]:
        if len(requests) == 1:
            requests[0].start = 0
            rows = requests[0].rows
        else:
            rows = []
            for request in requests:
                request.start = len(rows)
                rows += request.rows
        prepared = self._preparer.prepare(rows, requests[0].route)
        values = [0.0] * len(rows)
        if prepared.served is not None:
            if prepared.to_read is not None:
                # Behind the call of the model server, and before its answer: for nobody to wait for.
                asyncio.get_running_loop().call_soon(prepared.read_on)
            groups = [[request] for request in requests if request.caller.followed]
            if len(groups) < len(requests):
                groups.append([request for request in requests if not request.caller.followed])
            await self._ask_each(prepared, groups, values)
        fallen = [place for place, reason in enumerate(prepared.fallbacks) if reason is not None]
        if fallen:
            for place, value in zip(fallen, self._preparer.baseline(prepared, fallen), strict=True):
                values[place] = value
        prepared.read_on()
        return [Share(prepared, values, request.start) for request in requests]

    async def _ask_each(self, prepared: Prepared, groups: Sequence[list[_Request]], values: list[float]) -> None:
        if len(groups) == 1:
            await self._ask(prepared, groups[0], values)
        else:
            await asyncio.gather(*(self._ask(prepared, group, values) for group in groups))

    async def _ask(self, prepared: Prepared, requests: list[_Request], values: list[float]) -> None:
        parts = [Part(range(r.start, r.start + len(r.rows)), r.caller) for r in requests]
        metrics = self._metrics
        if not await ask(prepared, parts, values, metrics=metrics, failed=metrics.model_failed):
            await self._ask_each(prepared, [[request] for request in requests], values)
