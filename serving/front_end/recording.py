"""What is kept of a prediction: one record of the journal, whoever answered it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from typing import Any

from ninefold.interval import Bounds
from ninefold.records import entity_key
from ninefold.store.journalled import journalled
from ninefold.usecase import UseCase
from serving.front_end.prepared import Prepared
from serving.front_end.validation import Row


class Recorder:
    """Makes records.

    Args:
        use_case: The use case.
    """

    def __init__(self, use_case: UseCase) -> None:
        names = [field.name for field in use_case.request]
        self._name = use_case.name
        self._names = names
        self._key = [names.index(name) for name in use_case.key]
        self._least, self._greatest = use_case.minimum_prediction, use_case.maximum_prediction

    def key(self, row: Row) -> str:
        """What joins a row's prediction to its truth."""
        return entity_key([row[column] for column in self._key])

    def clip(self, value: float, flags: list[str]) -> float:
        """The value within the bounds of the use case; flagged when it was not."""
        least, greatest = self._least, self._greatest
        if least is not None and value < least:
            flags.append("clipped")
            return least
        if greatest is not None and value > greatest:
            flags.append("clipped")
            return greatest
        return value

    def clip_interval(self, interval: Bounds | None) -> Bounds | None:
        """Both bounds within those of the use case; the value that they hold, clipped, stays between them."""
        if interval is None or (self._least is None and self._greatest is None):
            return interval
        least = -math.inf if self._least is None else self._least
        greatest = math.inf if self._greatest is None else self._greatest
        lower, upper = interval
        return min(max(lower, least), greatest), min(max(upper, least), greatest)

    def record(
        self,
        prepared: Prepared,
        place: int,
        *,
        prediction_id: str,
        request_id: str | None,
        key: str,
        value: float,
        instance: Mapping[str, Any],
        latency_ms: float,
        interval: Bounds | None,
    ) -> bytes:
        """The record of one row.

        Args:
            prepared: The batch that it was answered in.
            place: Its place there.
            prediction_id: Its id.
            request_id: The request's id and the row's place in it; None where the client sent none.
            key: The row's ``key``.
            value: What was predicted, clipped.
            instance: What the client sent.
            latency_ms: How long the answer took.
            interval: Around the value, clipped; None where there is none.
        """
        route, fallback = prepared.route, prepared.fallbacks[place]
        served = route.served
        fields: dict[str, Any] = {
            "prediction_id": prediction_id,
            "use_case": self._name,
            "request_id": request_id,
            "key": key,
            "decided_at": prepared.decided[place],
            "received_at": prepared.received[place],
            "version": 0 if served is None or fallback is not None else served.version,
            "cohort": route.cohort,
            "value": value,
            "fallback": fallback,
            "flags": prepared.flags[place],
            "latency_ms": latency_ms,
        }
        if interval is not None:
            fields["interval"] = interval
        if route.rollout is not None:
            fields.update(route.rollout.stamp)
        features = dict(zip(prepared.reader.names, prepared.features[place].values, strict=True))
        return journalled(fields, self._sent(instance), features)

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
    try:
        random = _random.pop()
    except IndexError:
        # Asking the system for one id's bits costs more than making the id does.
        drawn = os.urandom(10 * _DRAWN).hex()
        _random.extend(drawn[start : start + 20] for start in range(20, 20 * _DRAWN, 20))
        random = drawn[:20]
    return f"{time.time_ns() // 1_000_000:012x}{random}"


_DRAWN = 256
_random: list[str] = []
# A process that is forked must not give the ids that its parent gives.
os.register_at_fork(after_in_child=_random.clear)
