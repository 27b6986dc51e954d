"""Reading JSON that others send: an error names the field where there is one to name."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson

from ninefold.errors import InvalidInput


def read_json_body(body: bytes | bytearray, *, remedy: str) -> Any:
    """The JSON value in a body.

    Args:
        body: What was sent.
        remedy: What should be sent instead of something that is not JSON.

    Raises:
        InvalidInput: It is not JSON. Where all that is wrong is a number that is NaN or infinite, which some clients
            write and JSON has no word for, the message names its place (``instances[3].temperature``).
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        place = _place_of_no_number(body)
        if place is not None:
            raise InvalidInput(
                place, "is NaN or infinite, and JSON has no such number.", remedy="Send a finite number, or null."
            ) from None
        raise InvalidInput("body", f"is not JSON: {error}.", remedy=remedy) from error


def _place_of_no_number(body: bytes | bytearray) -> str | None:
    """Where the first number stands that is not finite; None when there is none, or more is wrong than that."""
    try:
        # Python's own parser takes what others write: NaN, Infinity, and 1e999 as infinity.
        waiting = [("", json.loads(body))]
    except (ValueError, RecursionError):
        return None
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return place or "body"
        if isinstance(value, dict):
            waiting += [(f"{place}.{name:.60}".removeprefix("."), inner) for name, inner in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [(f"{place}[{number}]", value[number]) for number in reversed(range(len(value)))]
    return None
