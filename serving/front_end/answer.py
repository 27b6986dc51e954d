"""Turns predictions into answers: clipped, decided, identified, kept in the journal, and only then given."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson

from ninefold.errors import Unavailable
from ninefold.records import derived_id, entity_key
from ninefold.store.journalled import journalled
from ninefold.usecase import UseCase
from serving.front_end.keeper import Keeper
from serving.front_end.metrics import Metrics
from serving.front_end.together import Caller, Share, Together
from serving.front_end.validation import Batch, RequestParser
from serving.front_end.versions import LIVE

_JSON = orjson.OPT_SERIALIZE_NUMPY

Answered = Callable[[bytes | Exception], None]
"""Told the answer to a request, or why there is none; it raises nothing."""


class Answers:
    """Answers prediction requests.

    Args:
        use_case: The use case.
        parser: Reads bodies.
        together: Prepares requests and asks the model.
        keeper: Keeps answers before they are given.
        metrics: What is counted.
    """

    def __init__(
        self, use_case: UseCase, *, parser: RequestParser, together: Together, keeper: Keeper, metrics: Metrics
    ) -> None:
        self._use_case = use_case
        self._parser = parser
        self._together = together
        self._keeper = keeper
        self._metrics = metrics
        names = [field.name for field in use_case.request]
        self._names = names
        self._key = [names.index(name) for name in use_case.key]

    async def predict(self, body: bytes | bytearray, caller: Caller) -> bytes:
        """Answers a request, as ``begin`` does.

        Raises:
            InvalidInput, TooLarge: The request is wrong.
            Unavailable: The journal can't be written, so that no answer may be given.
        """
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.begin(body, caller, partial(_resolve, answered))
        return await answered

    def begin(self, body: bytes | bytearray, caller: Caller, answered: Answered) -> None:
        """Begins to answer a request; the model's failures become the baseline's answers.

        Args:
            body: What was sent.
            caller: Who sent it.
            answered: Called later, from the event loop, when the answer is kept or can't be given.

        Raises:
            InvalidInput, TooLarge: The request is wrong.
        """
        started = time.perf_counter()
        batch = self._parser.parse(body)
        self._together.answer(batch.rows, caller, partial(self._finish, batch, caller, started, answered))

    def clip(self, value: float, flags: list[str]) -> float:
        """The value within the bounds of the use case; flagged when it was not."""
        least, greatest = self._use_case.minimum_prediction, self._use_case.maximum_prediction
        if least is not None and value < least:
            flags.append("clipped")
            return least
        if greatest is not None and value > greatest:
            flags.append("clipped")
            return greatest
        return value

    def decide(self, row: list[Any], value: float) -> Any:
        """The decision that follows from a prediction."""
        return self._use_case.decide(dict(zip(self._names, row, strict=True)), value)

    def _finish(
        self, batch: Batch, caller: Caller, started: float, answered: Answered, share: Share | Exception
    ) -> None:
        if isinstance(share, Exception):
            answered(share)
            return
        try:
            answers, records = self._answers(batch, share, caller, started)
            # Before anything is kept: what can't be answered must not be on record as an answer.
            encoded = orjson.dumps({"predictions": answers}, option=_JSON)
        except Exception as error:
            # A use case's own code may raise anything, and this request is the only one that it concerns.
            answered(error)
            return
        self._keeper.keep(records, partial(self._give, answers, encoded, started, answered))

    def _give(
        self,
        answers: list[dict[str, Any]],
        encoded: bytes,
        started: float,
        answered: Answered,
        refused: Unavailable | None,
    ) -> None:
        if refused is not None:
            answered(refused)
            return
        for answer in answers:
            self._metrics.predictions[answer["version"], LIVE, answer["fallback"]] += 1
            for flag in answer["flags"]:
                self._metrics.flags[flag] += 1
        self._metrics.observe(time.perf_counter() - started)
        answered(encoded)

    def _answers(
        self, batch: Batch, share: Share, caller: Caller, started: float
    ) -> tuple[list[dict[str, Any]], list[bytes]]:
        """What is answered, and what is kept of it."""
        name = self._use_case.name
        prepared = share.prepared
        served_version = prepared.served.version if prepared.served is not None else 0
        latency_ms = (time.perf_counter() - started) * 1e3
        records = []
        answers = []
        for place, row in enumerate(batch.rows):
            shared = share.start + place
            key = entity_key([row[column] for column in self._key])
            flags = prepared.flags[shared]
            fallback = prepared.fallbacks[shared]
            value = self.clip(share.values[shared], flags)
            version = served_version if fallback is None else 0
            if caller.request_id is None:
                request_id = None
                prediction_id = new_id()
            else:
                request_id = f"{caller.request_id}#{place}"
                prediction_id = derived_id(name, caller.name, caller.request_id, str(place), key)
            answers.append(
                {
                    "prediction_id": prediction_id,
                    "prediction": value,
                    "decision": self.decide(row, value),
                    "version": version,
                    "cohort": LIVE,
                    "fallback": fallback,
                    "flags": flags,
                }
            )
            records.append(
                journalled(
                    {
                        "prediction_id": prediction_id,
                        "use_case": name,
                        "request_id": request_id,
                        "key": key,
                        "decided_at": prepared.decided[shared],
                        "received_at": prepared.received,
                        "version": version,
                        "cohort": LIVE,
                        "value": value,
                        "fallback": fallback,
                        "flags": flags,
                        "latency_ms": latency_ms,
                    },
                    self._sent(batch.instances[place]),
                    dict(zip(prepared.feature_names, prepared.features[shared].values, strict=True)),
                )
            )
        return answers, records

    def _sent(self, instance: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the client sent; fields that it left out are null."""
        if len(instance) == len(self._names):
            return instance
        return {name: instance.get(name) for name in self._names}


def new_id() -> str:
    """A new prediction's id: 32 hexadecimal digits, 80 of their bits random.

    It begins with the milliseconds of the moment (of the machine's clock, in a replay too), so that new ids stand side
    by side in the store's index; ids without an order cost the store a page each.
    """
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def _resolve(answered: asyncio.Future[bytes], answer: bytes | Exception) -> None:
    if answered.done():
        return
    if isinstance(answer, Exception):
        answered.set_exception(answer)
    else:
        answered.set_result(answer)
