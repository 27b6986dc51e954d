"""Clocks on the wall in the United States, by rule: ``derive`` needs them for a row, without a table of zones.

Source: Energy Policy Act of 2005, section 110: from the second Sunday of March, 2:00, to the first Sunday of November,
2:00, of the local clock.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

YEARS = range(2007, 2100)
"""The rule holds from 2007 on; earlier and later instants are taken for standard time."""
_MINUTE = 60_000_000.0


class USClock:
    """The clock of a place that keeps summer time.

    Args:
        standard_hours: What standard time is ahead of UTC: New York −5.
    """

    def __init__(self, standard_hours: int) -> None:
        self._standard = 60.0 * standard_hours
        changes = []
        for year in YEARS:
            # Two o'clock is read off standard time in spring, and off summer time in autumn.
            for earliest, utc_hour in (
                (date(year, 3, 8), 2 - standard_hours), (date(year, 11, 1), 1 - standard_hours)
            ):  # fmt: skip
                sunday = earliest + timedelta(days=6 - earliest.weekday())
                changes.append(np.datetime64(sunday, "us") + np.timedelta64(utc_hour, "h"))
        self._changes = np.array(changes).view(np.int64)

    def minutes(self, instants: Array) -> Array:
        """What the clock shows, in minutes since its own midnight of 1970-01-01.

        Args:
            instants: int64 [rows], microseconds since 1970 in UTC.
        """
        summer = np.searchsorted(self._changes, instants, side="right") & 1
        minutes: Array = instants / _MINUTE + self._standard + 60.0 * summer
        return minutes
