"""What an online row is, and what every online store does with it.

A row holds all columns of its view, msgpack-encoded in the view's order, and the instant at which they became known. A
write is guarded by that instant: an older event never overwrites a newer row, however late it comes. Each view also has
a watermark: the instant up to which everything known has been written, moved on also when nothing happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from ninefold.errors import Outdated

Value = float | int | str | bool | None
"""One feature's value as a row keeps it; a number is a float64 to the last bit, and null is None, never NaN."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class OnlineRow(NamedTuple):
    """What is known of one entity in one view.

    Args:
        key: ``entity_key`` of the entity's values, in the order of the view's key.
        known_at: When the values became known; aware, UTC.
        values: In the order of ``FeatureView.columns``.
    """

    key: str
    known_at: datetime
    values: tuple[Value, ...]


class OnlineStore(Protocol):
    """Where online rows lie. An instance belongs to one thread; any number of instances and processes share a store."""

    def read_many(self, requests: Sequence[tuple[str, str]]) -> list[OnlineRow | None]:
        """The rows of (view, key) pairs, in their order, from one consistent state; None where there is none."""
        ...

    def write(self, view: str, rows: Iterable[OnlineRow]) -> int:
        """Writes rows, all or none, and returns how many changed something.

        A row is written when it is newer than what is there, or differs at the same instant; an older one never is.
        """
        ...

    def write_views(
        self,
        rows: Mapping[str, Iterable[OnlineRow]],
        watermark: datetime,
        *,
        after: Mapping[str, datetime | None] | None = None,
    ) -> int:
        """Writes rows of several views, as ``write`` does, and moves these views' watermarks: all or nothing.

        Args:
            rows: View → rows.
            watermark: Where the watermarks go.
            after: View → where its watermark stands, as far as the writer knows. Another one means that somebody else
                writes too, or that the store came back without what was written last.

        Raises:
            Outdated: A watermark is not the one that ``after`` names; nothing is written.
        """
        ...

    def watermark(self, view: str) -> datetime | None:
        """The instant up to which everything known is in the view's rows; None before the first."""
        ...

    def watermarks(self, views: Iterable[str]) -> dict[str, datetime | None]:
        """The watermarks of several views."""
        ...

    def advance_watermark(self, view: str, to: datetime) -> None:
        """Moves a watermark forward; an earlier instant leaves it where it is."""
        ...

    def forget(self, view: str) -> int:
        """Removes a view's rows and watermark, and returns the number of rows."""
        ...

    def remove(self, pairs: Iterable[tuple[str, str]]) -> int:
        """Erases the rows of (view, key) pairs, leaving nothing of them on the disk; how many there were."""
        ...

    def close(self) -> None:
        """Ends the connection; the instance can't be used any more."""
        ...


def to_microseconds(instant: datetime) -> int:
    """Whole microseconds since 1970, exact; an aware instant.

    Raises:
        TypeError: The instant is naive.
    """
    return (instant - _EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """The instant, aware, in UTC, that ``to_microseconds`` counted."""
    return _EPOCH + timedelta(0, 0, microseconds)


def moved(where: str, view: str, present: datetime | None, expected: datetime | None) -> Outdated:
    """The error of a writer that goes by a watermark which is not there."""
    stands = "has no watermark" if present is None else f"has the watermark {present.isoformat()}"
    wanted = "none" if expected is None else expected.isoformat()
    return Outdated(
        f"The view {view} {stands} in {where}, not {wanted}: somebody else wrote it, or rows were lost.",
        remedy="Its writer computes the rows anew from the log.",
    )
