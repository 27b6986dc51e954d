"""The clock is passed in: wall time in production, event time in replays and tests.

Code never asks the operating system for the time of day; it asks the clock it was given. Time is UTC and aware.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Protocol

from ninefold.errors import InvalidInput

RESOLUTION = timedelta(microseconds=1)
"""The finest difference between two instants that Ninefold keeps, everywhere."""


class Clock(Protocol):
    """Anything that tells the time."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        ...


class WallClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        return datetime.now(UTC)


class EventClock:
    """A clock that stands where the newest event put it, and never goes back.

    Args:
        start: Where it stands at first.
    """

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        """The newest instant that it was advanced to."""
        return self._now

    def advance(self, to: datetime) -> None:
        """Moves it forward; an earlier instant leaves it where it is."""
        self._now = max(self._now, to)


def parse_instant(text: str, *, field: str = "time") -> datetime:
    """Reads an ISO 8601 / RFC 3339 instant as aware UTC; a naive one is taken as UTC.

    Raises:
        InvalidInput: ``text`` is not an instant.
    """
    try:
        instant = datetime.fromisoformat(text)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    # The last hours of the year 9999 in the west are in no year of UTC.
    except (ValueError, OverflowError) as error:
        raise InvalidInput(field, f"{text!r} is not a time.", remedy="Write it as 2013-07-01T12:30:00Z.") from error


def format_instant(instant: datetime) -> str:
    """Writes an instant as RFC 3339 in UTC, without a fraction where there is none."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def parse_duration(text: str, *, field: str = "duration") -> timedelta:
    """Reads ``90s``, ``15m``, ``6h`` or ``28d``.

    Raises:
        InvalidInput: ``text`` is not a positive whole number with one of the four units.
    """
    number, unit = text[:-1], text[-1:]
    # Digits of other scripts, and thousands of them, are more than int or timedelta takes.
    seconds = int(number) * _UNITS.get(unit, 0) if re.fullmatch("[0-9]{1,15}", number) else 0
    if not 0 < seconds <= timedelta.max.total_seconds():
        raise InvalidInput(field, f"{text[:60]!r} is not a duration.", remedy="Write it as 90s, 15m, 6h or 28d.")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Writes a whole number of seconds in the largest unit that keeps it whole (``6h``, ``28d``)."""
    seconds = duration // timedelta(seconds=1)
    for unit, size in _UNITS.items():
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
