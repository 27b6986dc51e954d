"""Windows as time passes: the rows of the batch changelog, one after the other, with nothing but what is inside.

All events of a window live equally long, so they leave in the order in which they came: one queue for all keys holds
the expiries. Expiry is an event too; without it a quiet key would keep its last mean for ever.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from operator import itemgetter

from ninefold.errors import DataError
from ninefold.windows.declaration import Window

_MICROSECONDS = 1_000_000
_KNOWN_AT = itemgetter(0)

Values = tuple[float | int | None, ...]
Row = tuple[str, int, Values]
"""Key; microseconds since 1970 (UTC) from which the values hold; values in the order of the window's aggregates:
``count`` is an int, ``sum`` a float, ``mean`` a float or None."""


class _Entity:
    """The running sums of one key, and the instant and place of its newest row."""

    __slots__ = ("count", "key", "known_at", "place", "units")

    def __init__(self, key: str) -> None:
        self.key = key
        self.count = 0
        self.units = 0
        self.known_at: int | None = None
        self.place = 0


class WindowState:
    """One window over one stream, for all keys.

    Between calls it holds the events that are inside the window and those that wait for the watermark; a key with none
    of either takes no memory. Not safe for use by two threads at once.

    Args:
        window: What is computed.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.watermark: int | None = None
        self._length = window.length.days * 86_400 * _MICROSECONDS + window.length.seconds * _MICROSECONDS
        self._resolution = window.resolution
        self._largest = window.max_value
        self._waiting: list[tuple[int, str | None, int]] = []
        self._inside: deque[tuple[int, _Entity, int]] = deque()
        self._entities: dict[str, _Entity] = {}
        self._row_of = _row_maker(window)

    def __len__(self) -> int:
        """Number of events inside the window or waiting."""
        return len(self._inside) + len(self._waiting)

    def add(self, key: str, value: float | None, known_at: int) -> None:
        """Takes an event, which counts once the watermark reaches it. Any order after the watermark will do.

        Args:
            key: The entity.
            value: What is aggregated; an event without one (None, NaN) counts for nothing.
            known_at: Microseconds since 1970, UTC.

        Raises:
            DataError: ``known_at`` is not after the watermark, or the value can't be summed.
        """
        if self.watermark is not None and known_at <= self.watermark:
            raise DataError(
                f"Window {self.window.view!r}: an event known at {known_at} µs comes after the watermark"
                f" {self.watermark} µs passed.",
                remedy="Lift late events past the watermark.",
            )
        # A NaN is unequal to itself.
        if value is None or value != value:
            return
        if -self._largest <= value <= self._largest:
            self._waiting.append((known_at, key, round(value / self._resolution)))
        else:
            self.window.units(value)

    def advance(self, to: int) -> list[Row]:
        """Moves the watermark, and returns the rows of every instant after the old and up to the new one.

        Args:
            to: Microseconds since 1970, UTC. An instant at or before the watermark changes nothing.

        Returns:
            Rows in the order of their instants; of a key and instant there is one.
        """
        if self.watermark is not None and to <= self.watermark:
            return []
        self.watermark = to
        entering = self._due(to)
        # The last turn brings no event, only what has left by then.
        entering.append((to, None, 0))
        inside, entities, length, row_of = self._inside, self._entities, self._length, self._row_of
        rows: list[Row] = []
        emptied: list[_Entity] = []
        for known_at, key, units in entering:
            # What enters and what leaves at one instant is one change, so the order of the two does not matter.
            horizon = known_at - length
            while inside and inside[0][0] <= horizon:
                entered, entity, out = inside.popleft()
                entity.count -= 1
                entity.units -= out
                if not entity.count:
                    emptied.append(entity)
                left = entered + length
                if entity.known_at == left:
                    rows[entity.place] = row_of(entity, left)
                else:
                    entity.known_at = left
                    entity.place = len(rows)
                    rows.append(row_of(entity, left))
            if key is None:
                break
            found = entities.get(key)
            entity = entities[key] = _Entity(key) if found is None else found
            entity.count += 1
            entity.units += units
            inside.append((known_at, entity, units))
            if entity.known_at == known_at:
                rows[entity.place] = row_of(entity, known_at)
            else:
                entity.known_at = known_at
                entity.place = len(rows)
                rows.append(row_of(entity, known_at))
        for entity in emptied:
            if not entity.count:
                entities.pop(entity.key, None)
        return rows

    def _due(self, to: int) -> list[tuple[int, str | None, int]]:
        """Takes the waiting events that are known by then, in order."""
        waiting = self._waiting
        if len(waiting) > 1:
            waiting.sort(key=_KNOWN_AT)
        if not waiting or waiting[-1][0] <= to:
            self._waiting = []
            return waiting
        due = bisect_right(waiting, to, key=_KNOWN_AT)
        self._waiting = waiting[due:]
        return waiting[:due]


def _row_maker(window: Window) -> Callable[[_Entity, int], Row]:
    """What makes a row of a window out of running sums, by the arithmetic that the declaration states."""
    resolution = window.resolution
    if window.aggregates == ("mean", "count"):

        def mean_and_count(entity: _Entity, known_at: int) -> Row:
            count = entity.count
            return entity.key, known_at, (entity.units * resolution / count if count else None, count)

        return mean_and_count

    places = tuple(("mean", "count", "sum").index(aggregate) for aggregate in window.aggregates)

    def row(entity: _Entity, known_at: int) -> Row:
        count, total = entity.count, entity.units * resolution
        values = (total / count if count else None, count, total)
        return entity.key, known_at, tuple([values[place] for place in places])

    return row
