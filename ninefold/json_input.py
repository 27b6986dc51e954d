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
        InvalidInput: It is not JSON. Where all that is wrong is a number that is NaN or infinite, or a text with half
            of a character, which some clients write and JSON has no word for, the message names its place
            (``instances[3].temperature``).
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        fault = _first_fault(body)
        if fault is not None:
            place, problem, instead = fault
            raise InvalidInput(place, problem, remedy=instead) from None
        raise InvalidInput("body", f"is not JSON: {error}.", remedy=remedy) from error


_NO_NUMBER = ("is NaN or infinite, and JSON has no such number.", "Send a finite number, or null.")
_NO_TEXT = ("holds half of a surrogate pair, which is no character.", "Send whole characters.")


def _first_fault(body: bytes | bytearray) -> tuple[str, str, str] | None:
    """Place, problem and remedy of the first value that JSON has no word for; None where more is wrong than that."""
    try:
        # Python's own parser takes what others write: NaN, Infinity, 1e999 as infinity, and halves of characters.
        waiting = [("", json.loads(body))]
    except (ValueError, RecursionError):
        return None
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return (place or "body", *_NO_NUMBER)
        if isinstance(value, str) and not _is_text(value):
            return (place or "body", *_NO_TEXT)
        if isinstance(value, dict):
            if not all(map(_is_text, value)):
                return (place or "body", *_NO_TEXT)
            waiting += [(f"{place}.{name:.60}".removeprefix("."), inner) for name, inner in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [(f"{place}[{number}]", value[number]) for number in reversed(range(len(value)))]
    return None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
