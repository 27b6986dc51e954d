"""Turns predictions into answers: clipped, decided, identified, kept in the journal, and only then given."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import orjson

from ninefold.records import derived_id, entity_key
from ninefold.usecase import UseCase
from serving.front_end.keeper import Keeper
from serving.front_end.metrics import Metrics
from serving.front_end.together import Caller, Share, Together
from serving.front_end.validation import Batch, RequestParser
from serving.front_end.versions import LIVE

_JSON = orjson.OPT_SERIALIZE_NUMPY
_RECORD = orjson.OPT_UTC_Z | orjson.OPT_SERIALIZE_NUMPY


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
        """Answers a request; the model's failures become the baseline's answers.

        Raises:
            InvalidInput, TooLarge: The request is wrong.
            Unavailable: The journal can't be written, so that no answer may be given.
        """
        started = time.perf_counter()
        batch = self._parser.parse(body)
        share = await self._together.answer(batch.rows, caller)
        return await self._answer(batch, share, caller, started)

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

    async def _answer(self, batch: Batch, share: Share, caller: Caller, started: float) -> bytes:
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
                prediction_id = os.urandom(16).hex()
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
                {
                    "prediction_id": prediction_id,
                    "use_case": name,
                    "request_id": request_id,
                    "key": key,
                    "decided_at": prepared.decided[shared],
                    "received_at": prepared.received,
                    "version": version,
                    "cohort": LIVE,
                    "request": self._sent(batch.instances[place]),
                    "features": dict(zip(prepared.feature_names, prepared.features[shared].values, strict=True)),
                    "value": value,
                    "fallback": fallback,
                    "flags": flags,
                    "latency_ms": latency_ms,
                }
            )
        # Encoded before it is kept: what can't be answered must not be on record as an answer.
        encoded = orjson.dumps({"predictions": answers}, option=_JSON)
        await self._keeper.keep([orjson.dumps(record, option=_RECORD) for record in records])
        for answer in answers:
            self._metrics.predictions[answer["version"], LIVE, answer["fallback"]] += 1
            for flag in answer["flags"]:
                self._metrics.flags[flag] += 1
        self._metrics.observe(time.perf_counter() - started)
        return encoded

    def _sent(self, instance: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the client sent; fields that it left out are null."""
        if len(instance) == len(self._names):
            return instance
        return {name: instance.get(name) for name in self._names}
