"""Python source of values, laid out as a formatter would leave it: on one line where it fits, else one item a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

WIDTH = 120


def literal(value: Any) -> str:
    """A plain value as source, strings in double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if value.isprintable() else ascii(value)
    return repr(value)


def call(name: str, arguments: Mapping[str, str], *, indent: int = 0, before: str = "", after: str = "") -> str:
    """A call with keyword arguments whose values are source already.

    Args:
        name: What is called.
        arguments: Name → source of its value.
        indent: Spaces before the line.
        before: What stands before it on its line.
        after: What stands behind it.
    """
    return bracketed(
        f"{before}{name}(", (f"{key}={value}" for key, value in arguments.items()), f"){after}", indent=indent
    )


def bracketed(begin: str, items: Iterable[str], end: str, *, indent: int = 0, alone: str = "") -> str:
    """Items between brackets.

    Args:
        begin: What opens, with what stands before it on its line.
        items: Source of each.
        end: What closes, with what stands behind it.
        indent: Spaces before the line.
        alone: Put behind a single item on one line: the comma of a tuple of one.
    """
    parts = list(items)
    line = " " * indent + begin + ", ".join(parts) + (alone if len(parts) == 1 else "") + end
    if len(line) <= WIDTH and "\n" not in line:
        return line
    inner = " " * (indent + 4)
    return "\n".join([" " * indent + begin, *(f"{inner}{part}," for part in parts), " " * indent + end])


def names(values: Iterable[str]) -> list[str]:
    """Strings as source."""
    return [literal(value) for value in values]


def duration(length: timedelta) -> str:
    """A duration as source, in its largest whole unit."""
    seconds = int(length.total_seconds())
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds % size == 0:
            return f"timedelta({unit}={seconds // size})"
    return f"timedelta(seconds={seconds})"
