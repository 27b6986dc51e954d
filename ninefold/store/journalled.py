"""A prediction as a record of the journal, and as a row of the store, without the prediction between the two.

A record is three lines of JSON: the prediction's fields but two, its request, its features. The two go into the store
as they stand, so shipping reads a tenth of the record. A record of one line is ``Prediction.to_json`` as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from ninefold.clock import parse_instant
from ninefold.store.database import to_json
from ninefold.store.rows import bounds_of, finite, text_of, to_micros

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_SERIALIZE_NUMPY


def journalled(fields: Mapping[str, Any], request: Mapping[str, Any], features: Mapping[str, Any]) -> bytes:
    """The record of a prediction.

    Args:
        fields: ``Prediction.to_json`` without request and features; instants may be aware datetimes, and the rollout
            may be left out where none is open.
        request: The request's fields.
        features: What was read.

    Raises:
        TypeError: Something is none of JSON's.
    """
    return b"\n".join((orjson.dumps(fields, option=_OPTIONS), orjson.dumps(request), orjson.dumps(features)))


def row_of(record: bytes) -> dict[str, Any]:
    """The row of a record.

    Raises:
        InvalidInput: A time is none.
        KeyError, TypeError, ValueError: It is no prediction: something is missing or of another type, or not finite.
    """
    lines = record.split(b"\n")
    document = orjson.loads(lines[0])
    if len(lines) == 3:
        request: Any = _object(lines[1])
        features: Any = _object(lines[2])
    else:
        request, features = dict(document["request"]), dict(document["features"])
    return {
        "prediction_id": text_of(document["prediction_id"]),
        "use_case": document["use_case"],
        "request_id": document["request_id"],
        "key": document["key"],
        "decided_at_us": _micros_of(document["decided_at"]),
        "received_at_us": _micros_of(document["received_at"]),
        "version": document["version"],
        "cohort": document["cohort"],
        "request": request,
        "features": features,
        "value": finite(document["value"]),
        "fallback": document["fallback"],
        "flags": "[]" if (flags := document["flags"]) == [] else to_json(tuple(flags)),
        "latency_ms": finite(document["latency_ms"]),
        # Named where a rollout is open.
        "rollout_id": document.get("rollout_id"),
        "rollout_revision": document.get("rollout_revision"),
        # Named where the version that answered has one.
        **bounds_of(document.get("interval")),
    }


def _object(line: bytes) -> str:
    """A JSON object as text. A record's checksum says that it is as it was written, and only objects are written."""
    if line[:1] != b"{" or line[-1:] != b"}":
        raise ValueError("what was sent or read is no object")
    return line.decode()


# Answers of one batch came at one moment, and most decisions fall on a moment that was there before.
@lru_cache(maxsize=256)
def _micros_of(text: str) -> int:
    return to_micros(parse_instant(text))
