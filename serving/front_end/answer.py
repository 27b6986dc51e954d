"""Turns predictions into answers: clipped, decided, identified, kept in the journal, and only then given."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from ninefold.errors import Unavailable
from ninefold.interval import Bounds
from ninefold.records import derived_id
from ninefold.usecase import UseCase
from serving.front_end.asking import Caller
from serving.front_end.directions import OpenRollout
from serving.front_end.keeper import Keeper
from serving.front_end.metrics import Metrics
from serving.front_end.recording import Recorder, new_id
from serving.front_end.shadow import Seen, Shadow
from serving.front_end.together import Share, Together
from serving.front_end.validation import Batch, RequestParser
from serving.front_end.versions import Versions

_JSON = orjson.OPT_SERIALIZE_NUMPY

Answered = Callable[[bytes | Exception], None]
"""Told the answer to a request, or why there is none; it raises nothing."""


@dataclass(slots=True)
class _Asked:
    """A request on its way.

    Args:
        batch: Its instances.
        caller: Who asks.
        answered: Told the answer.
        waits: Whether the answer is held back until the candidate's is kept too.
        cohorts: How many cohorts its rows fall in.
        started: When it came.
        shares: Of each cohort that has answered: its share, and the places of its rows in the request.
        refused: Whether it was refused because of the rows of one.
    """

    batch: Batch
    caller: Caller
    answered: Answered
    waits: bool
    cohorts: int
    started: float
    shares: list[tuple[Share, Sequence[int]]] = field(default_factory=list)
    refused: bool = False


@dataclass(slots=True)
class _Given:
    """What is given when it is kept."""

    answers: list[dict[str, Any]]
    rollout: OpenRollout | None
    seen: list[Seen]
    encoded: bytes = b""


class Answers:
    """Answers prediction requests.

    Args:
        use_case: The use case.
        parser: Reads bodies.
        versions: Knows who answers.
        together: Prepares requests and asks the model, for each cohort.
        recorder: Makes records.
        keeper: Keeps answers before they are given.
        shadow: Asks the candidate behind the live version.
        metrics: What is counted.
    """

    def __init__(
        self,
        use_case: UseCase,
        *,
        parser: RequestParser,
        versions: Versions,
        together: Mapping[str, Together],
        recorder: Recorder,
        keeper: Keeper,
        shadow: Shadow,
        metrics: Metrics,
    ) -> None:
        self._use_case = use_case
        self._parser = parser
        self._versions = versions
        self._together = together
        self._recorder = recorder
        self._keeper = keeper
        self._shadow = shadow
        self._metrics = metrics
        self._decide = use_case.decision
        self._bounded = use_case.interval is not None
        self._names = [field.name for field in use_case.request]

    async def predict(self, body: bytes | bytearray, caller: Caller, *, waits: bool = False) -> bytes:
        """Answers a request, as ``begin`` does.

        Raises:
            InvalidInput, TooLarge: The request is wrong.
            Unavailable: The journal can't be written, so that no answer may be given.
        """
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.begin(body, caller, partial(_resolve, answered), waits=waits)
        return await answered

    def begin(self, body: bytes | bytearray, caller: Caller, answered: Answered, *, waits: bool = False) -> None:
        """Begins to answer a request; the model's failures become the baseline's answers.

        Args:
            body: What was sent.
            caller: Who sent it.
            answered: Called later, from the event loop, when the answer is kept or can't be given.
            waits: Whether the answer is held back until what the candidate says in its shadow is kept too.

        Raises:
            InvalidInput, TooLarge: The request is wrong.
        """
        started = time.perf_counter()
        batch = self._parser.parse(body)
        rows = batch.rows
        routes = self._versions.directions.of(rows)
        asked = _Asked(batch, caller, answered, waits, len(routes), started)
        for route, places in routes:
            self._together[route.cohort].answer(
                rows if len(places) == len(rows) else [rows[place] for place in places],
                caller,
                route,
                partial(self._finish, asked, places),
            )

    def decide(self, row: list[Any], value: float, interval: Bounds | None = None) -> Any:
        """The decision that follows from a prediction and the interval around it."""
        return self._decide(dict(zip(self._names, row, strict=True)), value, interval)

    def _finish(self, asked: _Asked, places: Sequence[int], share: Share | Exception) -> None:
        if asked.refused:
            return
        if isinstance(share, Exception):
            self._refuse(asked, share)
            return
        asked.shares.append((share, places))
        if len(asked.shares) < asked.cohorts:
            return
        try:
            given, records = self._answers(asked)
            # Before anything is kept: what can't be answered must not be on record as an answer.
            given.encoded = orjson.dumps({"predictions": given.answers}, option=_JSON)
        except Exception as error:
            # A use case's own code may raise anything, and this request is the only one that it concerns.
            self._refuse(asked, error)
            return
        self._keeper.keep(records, partial(self._give, asked, given))

    def _refuse(self, asked: _Asked, error: Exception) -> None:
        # The other cohort's rows may yet come: they have nobody to be given to.
        asked.refused = True
        asked.answered(error)

    def _give(self, asked: _Asked, given: _Given, refused: Unavailable | None) -> None:
        if refused is not None:
            asked.answered(refused)
            return
        metrics, rollout = self._metrics, given.rollout
        for answer in given.answers:
            cohort = answer["cohort"]
            metrics.predictions[answer["version"], cohort, answer["fallback"]] += 1
            for flag in answer["flags"]:
                metrics.flags[flag] += 1
            if rollout is not None:
                rollout.observed[cohort] += 1
        metrics.observe(time.perf_counter() - asked.started)
        if not given.seen:
            asked.answered(given.encoded)
        elif asked.waits:
            self._shadow.follow(given.seen, asked.caller, partial(asked.answered, given.encoded))
        else:
            asked.answered(given.encoded)
            self._shadow.follow(given.seen, asked.caller)

    def _answers(self, asked: _Asked) -> tuple[_Given, list[bytes]]:
        """What is answered, and what is kept of it."""
        batch, caller, recorder = asked.batch, asked.caller, self._recorder
        latency_ms = (time.perf_counter() - asked.started) * 1e3
        answers: list[Any] = [None] * len(batch.rows)
        records = []
        seen: list[Seen] = []
        own_id = caller.request_id
        if own_id is None and any(share.prepared.route.shadow is not None for share, _ in asked.shares):
            # What the candidate says of the same row is found by it.
            own_id = new_id()
        for share, places in asked.shares:
            prepared, route = share.prepared, share.prepared.route
            version = route.served.version if route.served is not None else 0
            for shared, place in enumerate(places, share.start):
                row, instance = batch.rows[place], batch.instances[place]
                key = recorder.key(row)
                flags = prepared.flags[shared]
                fallback = prepared.fallbacks[shared]
                value = recorder.clip(share.values[shared], flags)
                interval = recorder.clip_interval(prepared.intervals.get(shared))
                request_id = None if own_id is None else f"{own_id}#{place}"
                if caller.request_id is None:
                    prediction_id = new_id()
                else:
                    prediction_id = derived_id(self._use_case.name, caller.name, caller.request_id, str(place), key)
                answers[place] = answer = {
                    "prediction_id": prediction_id,
                    "prediction": value,
                    "decision": self.decide(row, value, interval),
                    "version": version if fallback is None else 0,
                    "cohort": route.cohort,
                    "fallback": fallback,
                    "flags": flags,
                }
                if self._bounded:
                    answer["interval"] = interval
                records.append(
                    recorder.record(
                        prepared,
                        shared,
                        prediction_id=prediction_id,
                        request_id=request_id,
                        key=key,
                        value=value,
                        instance=instance,
                        latency_ms=latency_ms,
                        interval=interval,
                    )
                )
                if route.shadow is not None:
                    seen.append(Seen(prepared, shared, prediction_id, request_id or "", key, instance))
        return _Given(answers, asked.shares[0][0].prepared.route.rollout, seen), records


def _resolve(answered: asyncio.Future[bytes], answer: bytes | Exception) -> None:
    if answered.done():
        return
    if isinstance(answer, Exception):
        answered.set_exception(answer)
    else:
        answered.set_result(answer)
