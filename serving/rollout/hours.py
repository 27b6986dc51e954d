"""Reading a growing table again and again: hours that did not change since the last look are not read twice.

Records are written once, but not in the order of their times (a journal ships late, a truth comes in late, an erasure
takes rows away), so no cursor tells what is new. The count of each hour does: it comes out of an index alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

HOUR = 3_600_000_000
"""Microseconds."""

Part = TypeVar("Part")


class Hours(Generic[Part]):
    """The rows of a table's hours, each kept as what was made of them.

    Args:
        time: The column of microseconds that an index orders by, after those that ``where`` fixes.
        where: Which rows are counted; what the same index answers.
        read: Makes something of the rows of [from, to) microseconds.
    """

    def __init__(
        self,
        time: sa.Column[int],
        where: Sequence[sa.ColumnElement[bool]],
        read: Callable[[Connection, int, int], Part],
    ) -> None:
        # Written out: as a parameter, PostgreSQL would not see that it groups by what it selects.
        self._hour = time.op("/", return_type=sa.BigInteger())(sa.literal_column(str(HOUR)))
        self._where = where
        self._read = read
        self._parts: dict[int, tuple[int, Part]] = {}

    def look(self, connection: Connection) -> bool:
        """Reads the hours whose count has changed; whether any had."""
        query = sa.select(self._hour.label("hour"), sa.func.count().label("rows")).where(*self._where)
        # Counted before they are read: what is committed between the two is counted, and read again, next time.
        counts = {int(row.hour): int(row.rows) for row in connection.execute(query.group_by(self._hour))}
        before = {hour: rows for hour, (rows, _) in self._parts.items()}
        if counts == before:
            return False
        self._parts = {hour: part for hour, part in self._parts.items() if hour in counts}
        for hour, rows in counts.items():
            if before.get(hour) != rows:
                self._parts[hour] = rows, self._read(connection, hour * HOUR, (hour + 1) * HOUR)
        return True

    @property
    def parts(self) -> list[Part]:
        """What was made of each hour, oldest first."""
        return [self._parts[hour][1] for hour in sorted(self._parts)]
