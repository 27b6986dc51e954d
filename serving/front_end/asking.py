"""Asks a version's model server for the rows of a batch: one call, and a reason to fall back where it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from serving.front_end.metrics import Metrics
from serving.front_end.model_client import Bounded, ModelFailure
from serving.front_end.prepared import Prepared


class Caller(NamedTuple):
    """Who asks.

    Args:
        name: Name of the key.
        request_id: The client's ``X-Request-ID``; None where it sent none.
        trace: The client's ``traceparent``; empty where it sent none.
    """

    name: str
    request_id: str | None = None
    trace: bytes = b""

    @property
    def followed(self) -> bool:
        """Whether the trace is recorded: then the call of the model server has to carry it, and it alone."""
        # The last digit of a traceparent holds the flag "sampled" (W3C Trace Context, 3.2.2.5).
        return bool(self.trace) and not (len(self.trace) == 55 and self.trace[-1:] in b"02468ace")


class Part(NamedTuple):
    """A request's rows in a batch.

    Args:
        places: Where they stand.
        caller: Who asks for them.
    """

    places: Sequence[int]
    caller: Caller


Failed = Callable[[str, str], None]
"""Told the reason and the details of a call that gave no good answer."""


async def ask(
    prepared: Prepared, parts: Sequence[Part], values: list[float], *, metrics: Metrics, failed: Failed
) -> bool:
    """Asks in one call for the rows of some requests that have no reason to fall back.

    Args:
        prepared: The batch; intervals are put in it and, where the model gives no good answer, the reason.
        parts: The requests.
        values: Where answers are put.
        metrics: Where the call is counted.
        failed: Told of failures.

    Returns:
        False where a fault of one request may have broken the call of several: nothing is settled, and each has to be
        asked for by itself.
    """
    fallbacks = prepared.fallbacks
    asked = [place for part in parts for place in part.places if fallbacks[place] is None]
    served = prepared.served
    if not asked or served is None:
        return True
    rows = prepared.model_rows
    metrics.model_calls += 1
    try:
        answers = await served.client.predict(
            rows if len(asked) == len(rows) else [rows[place] for place in asked],
            header_lines([part.caller for part in parts]),
        )
    except ModelFailure as failure:
        if failure.reason == "model_error" and len(parts) > 1:
            return False
        failed(failure.reason, failure.detail)
        prepared.fall_back(asked, failure.reason)
        return True
    for place, answer in zip(asked, answers, strict=True):
        if answer is None:
            failed("model_error", "a prediction is no finite number")
            fallbacks[place] = "model_error"
        elif isinstance(answer, Bounded):
            values[place] = answer.prediction
            prepared.intervals[place] = (answer.lower, answer.upper)
        else:
            values[place] = answer
    return True


def header_lines(callers: Sequence[Caller]) -> bytes:
    """What goes through to the model server: the ids of all, and the trace of one who is alone."""
    ids = [caller.request_id.encode("latin-1") for caller in callers if caller.request_id is not None]
    lines = b"x-request-id: %b\r\n" % b",".join(ids) if ids else b""
    if len(callers) == 1 and callers[0].trace:
        lines += b"traceparent: %b\r\n" % callers[0].trace
    return lines
