"""Reading the body of a request: bounded, parsed, and every value of every instance checked.

``Field.check`` is the rule and the source of every message. A checker here takes only values that are plainly right,
in a fraction of the time, and hands all others to ``Field.check``: the two can't disagree. Most texts (airports, days,
scheduled times) come again and again, so what a checker made of one is remembered for a while.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ninefold.errors import InvalidInput, TooLarge
from ninefold.fields import MAX_CATEGORY_LENGTH, MAX_TEXT_LENGTH, Field, digest
from ninefold.json_input import read_json_body

Row = list[Any]
"""The checked values of one instance, in the order of the fields: float, str, aware datetime, or None."""

_LARGEST_EXACT = 2**63
_MOST_REMEMBERED = 4096
_LONGEST_REMEMBERED = 64
"""Characters of a text that is worth to be remembered; with the bound above, a field keeps half a megabyte at most."""

_Checker = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """The instances of one request.

    Args:
        rows: Their checked values.
        instances: What the client sent, field by field, and the digests of what it left out.
    """

    rows: list[Row]
    instances: list[dict[str, Any]]


def parse_body(body: bytes | bytearray) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        InvalidInput: It is not JSON (the message names a number that is NaN or infinite), or not an object.
    """
    document = read_json_body(body, remedy='Send {"instances": [...]}.')
    if type(document) is not dict:
        raise InvalidInput("body", f"is a JSON {_json_type(document)}.", remedy='Send {"instances": [...]}.')
    return document


class RequestParser:
    """Turns bodies into batches.

    Args:
        fields: The fields that an instance may hold.
        name: What holds them, for messages (the use case's name).
        max_instances: Most instances in one request.
    """

    def __init__(self, fields: Sequence[Field], *, name: str, max_instances: int) -> None:
        self._name = name
        self._max_instances = max_instances
        self._names = frozenset(field.name for field in fields)
        self._order = [field.name for field in fields]
        named = {field.name: field for field in fields}
        self._digests = [(field.name, named[field.digest_of]) for field in fields if field.digest_of is not None]
        self._checks = [
            (field.name, _Remembered(check).__getitem__, check, field)
            for field, check in ((field, _checker(field)) for field in fields)
        ]

    def parse(self, body: bytes | bytearray) -> Batch:
        """Parses and checks a body.

        Raises:
            InvalidInput: Not JSON; no list of instances; none in it; a field that is missing, unknown or wrong. The
                message names the field with its place: ``instances[3].carrier``.
            TooLarge: More instances than are allowed.
        """
        document = parse_body(body)
        try:
            instances = document["instances"]
        except KeyError:
            raise InvalidInput("instances", "is missing.", remedy='Send {"instances": [...]}.') from None
        if len(document) > 1:
            other = next(name for name in document if name != "instances")
            raise InvalidInput(other[:60], "is not known here.", remedy="Send instances alone.")
        if type(instances) is not list:
            raise InvalidInput("instances", f"is a JSON {_json_type(instances)}.", remedy="Send a list.")
        if not instances:
            raise InvalidInput("instances", "is empty.", remedy="Send at least one instance.")
        if len(instances) > self._max_instances:
            raise TooLarge(
                f"instances: {len(instances):,} are over the bound of {self._max_instances:,}.",
                remedy="Send smaller batches.",
            )
        rows = [self._row(instance, place) for place, instance in enumerate(instances)]
        return Batch(rows, instances)

    def _row(self, instance: Any, place: int) -> Row:
        if type(instance) is not dict:
            raise InvalidInput(
                f"instances[{place}]",
                f"is a JSON {_json_type(instance)}.",
                remedy=f"Send an object with {', '.join(self._order)}.",
            )
        if not self._names.issuperset(instance):
            unknown = next(name for name in instance if name not in self._names)
            raise InvalidInput(
                f"instances[{place}].{unknown[:60]}",
                f"is not a field of {self._name}.",
                remedy=f"Its fields are {', '.join(self._order)}.",
            )
        for name, source in self._digests:
            if instance.get(name) is None:
                # Kept with what was sent: whoever reads the request later joins by it.
                instance[name] = digest(source.check(instance.get(source.name), where=f"instances[{place}]."))
        row = []
        get = instance.get
        for name, remembered, check, field in self._checks:
            value = get(name)
            checked = remembered(value) if type(value) is str else check(value) if value is not None else None
            row.append(field.check(value, where=f"instances[{place}].") if checked is None else checked)
        return row


class _Remembered(dict[str, Any]):
    """Texts, and the values that a checker made of them; a text that is not there is checked.

    Args:
        check: The checker; what it doesn't take is not remembered.
    """

    def __init__(self, check: _Checker) -> None:
        super().__init__()
        self._check = check

    def __missing__(self, text: str) -> Any:
        value = self._check(text)
        if value is not None and len(text) <= _LONGEST_REMEMBERED:
            if len(self) >= _MOST_REMEMBERED:
                self.clear()
            self[text] = value
        return value


def _checker(field: Field) -> _Checker:
    """A function that returns the checked value of what is plainly right, and None for what ``Field.check`` decides."""
    match field.kind:
        case "number":
            return _number
        case "integer":
            return _integer
        case "boolean":
            return _boolean
        case "time":
            return _time
        case "category" if field.categories is not None or field.pattern is not None:
            return _closed_category(field)
        case "category":
            return _category
        case "text":
            return _text


def _number(value: Any) -> float | None:
    kind = type(value)
    if kind is float:
        return value if -math.inf < value < math.inf else None
    if kind is int and -_LARGEST_EXACT < value < _LARGEST_EXACT:
        return float(value)
    return None


def _integer(value: Any) -> float | None:
    kind = type(value)
    if kind is int and -_LARGEST_EXACT < value < _LARGEST_EXACT:
        return float(value)
    if kind is float and value.is_integer():
        return value
    return None


def _boolean(value: Any) -> float | None:
    if value is True:
        return 1.0
    return 0.0 if value is False else None


def _time(value: Any) -> datetime | None:
    if type(value) is not str:
        return None
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        return None
    return instant if instant.tzinfo is UTC else None


def _category(value: Any) -> str | None:
    return value if type(value) is str and len(value) <= MAX_CATEGORY_LENGTH and "\0" not in value else None


def _text(value: Any) -> str | None:
    return value if type(value) is str and len(value) <= MAX_TEXT_LENGTH and "\0" not in value else None


def _closed_category(field: Field) -> _Checker:
    categories = frozenset(field.categories) if field.categories is not None else None
    match_whole = re.compile(field.pattern).fullmatch if field.pattern is not None else None

    def check(value: Any) -> str | None:
        if type(value) is not str or len(value) > MAX_CATEGORY_LENGTH or "\0" in value:
            return None
        if categories is not None and value not in categories:
            return None
        return value if match_whole is None or match_whole(value) is not None else None

    return check


_JSON_TYPES: dict[type, str] = {
    type(None): "null", bool: "boolean", int: "number", float: "number", str: "string", list: "list", dict: "object",
}  # fmt: skip


def _json_type(value: Any) -> str:
    return _JSON_TYPES[type(value)]
