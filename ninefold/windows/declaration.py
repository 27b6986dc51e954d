"""A sliding-window feature, declared once and executed in batch, in a stream and on Spark.

The value of a window at instant t is over the events of its key with ``t - length < known_at <= t``: an event that is
exactly ``length`` old has left, and an event counts from when it was *known*, not from when it happened. An event whose
value or whose key is null counts for nothing: it is in no window, not even as a count.

Values are summed as integers in units of ``resolution``, so that the executions agree bit for bit; running sums of
floats drift. Every execution computes, in IEEE 754 doubles and in this order: ``units = round(value / resolution)``,
half to even; ``sum = total of units * resolution``; ``mean = sum / count``, null when the count is 0. A key has no row
before its first event, and a row with count 0 after its last one has left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from ninefold.clock import format_duration
from ninefold.errors import ConfigurationError, DataError

Aggregate = Literal["mean", "count", "sum"]

KNOWN_AT = "known_at"
"""Column with the instant at which a row or an event became known."""

MAX_UNITS = 2**42
"""Greatest absolute value of one event, in units: two million of them still sum without overflow in 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A sliding window over a stream of events.

    Args:
        name: Its logical name; features are called ``{name}__{aggregate}``.
        stream: The stream whose events it sees.
        key: Columns of the stream, and fields of the request, that name the entity.
        value: The stream's column that is aggregated; ignored by ``count``.
        aggregates: What is computed.
        length: Its length where nobody chose another.
        lengths: Lengths that tuning may try.
        resolution: The unit in which values are summed as integers (1.0 for whole minutes, 0.01 for cents).
    """

    name: str
    stream: str
    key: tuple[str, ...]
    value: str
    length: timedelta
    aggregates: tuple[Aggregate, ...] = ("mean", "count")
    lengths: tuple[timedelta, ...] = ()
    resolution: float = 1.0

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or "__" in self.name:
            raise ConfigurationError(f"Window name {self.name!r} is not an identifier without '__'.")
        if not self.key:
            raise ConfigurationError(f"Window {self.name!r} has no key.")
        if taken := sorted({KNOWN_AT, "mean", "count", "sum"} & set(self.key)):
            raise ConfigurationError(f"Window {self.name!r}: {taken[0]!r} can't be a key: it is a column of the rows.")
        if not self.aggregates or len(set(self.aggregates)) != len(self.aggregates):
            raise ConfigurationError(f"Window {self.name!r} has no aggregate, or one of them twice.")
        if not 0 < self.resolution < math.inf:
            raise ConfigurationError(f"Window {self.name!r} has resolution {self.resolution}, which is not positive.")
        for length in (self.length, *self.lengths):
            if length < timedelta(seconds=1) or length % timedelta(seconds=1):
                raise ConfigurationError(f"Window {self.name!r} has length {length}, not whole seconds, at least one.")

    def of(self, length: timedelta) -> Window:
        """The same window with another length."""
        return Window(
            name=self.name,
            stream=self.stream,
            key=self.key,
            value=self.value,
            length=length,
            aggregates=self.aggregates,
            lengths=self.lengths,
            resolution=self.resolution,
        )

    @property
    def max_value(self) -> float:
        """Greatest absolute value of an event that sums without overflow."""
        return MAX_UNITS * self.resolution

    def units(self, value: float) -> int:
        """The value as a whole number of resolutions, half to even.

        Raises:
            DataError: The value is not finite, or beyond ``max_value``.
        """
        if not -self.max_value <= value <= self.max_value:
            raise out_of_bounds(self, value)
        return round(value / self.resolution)

    @property
    def view(self) -> str:
        """The name of its feature view, which holds the length: ``destination_gain_6h``."""
        return f"{self.name}_{format_duration(self.length)}"

    @property
    def features(self) -> tuple[str, ...]:
        """Logical names of its features, which do not hold the length: ``destination_gain__mean``."""
        return tuple(f"{self.name}__{aggregate}" for aggregate in self.aggregates)


def out_of_bounds(window: Window, value: float) -> DataError:
    """The error about a value that a window can't sum."""
    return DataError(
        f"Window {window.name!r}: the value {value!r} is not finite or beyond ±{window.max_value:g}.",
        remedy="Correct the event, or declare a coarser resolution.",
    )
