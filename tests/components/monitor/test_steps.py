"""What a run judges when it is not told: whole windows before its instant, back to where truths may still come."""

from __future__ import annotations

from datetime import UTC, datetime
from types import ModuleType

import pytest

from components.monitor.steps import period
from components.monitor.summary import picture
from components.monitor.windows import windows_between
from ninefold.errors import UsageError
from ninefold.settings import Settings
from ninefold.store import Measurement, Store

NOW = datetime(2024, 3, 15, 9, 41, tzinfo=UTC)


@pytest.mark.parametrize("until", ["", "2024-03-15", "2024-03-15T00:30:00Z", "2024-03-15T23:59:59Z"])
def test_at_any_instant_of_a_day_the_same_whole_days_are_judged(stalls: ModuleType, until: str) -> None:
    # Truths come within a day, so the day before yesterday may still have changed.
    begin, end, known = period(stalls.USE_CASE, "", until, "", Settings(), NOW)
    assert known is None
    assert [w.label for w in windows_between(begin, end, "day")] == ["2024-03-13/2024-03-14", "2024-03-14/2024-03-15"]


def test_where_events_are_the_clock_now_has_to_be_said(stalls: ModuleType) -> None:
    with pytest.raises(UsageError, match="Give --from and --to"):
        period(stalls.USE_CASE, "", "", "", Settings(clock="event"), NOW)


def test_what_was_measured_before_a_release_is_no_day_of_the_picture(stalls: ModuleType, store: Store) -> None:
    drawn = []
    for version, window in ((2, "2024-03-13/2024-03-14"), (3, "offline")):
        one = Measurement(use_case="stalls", version=version, name="mae", value=3.0, at=NOW, window=window)
        assert store.write_metrics([one]) == 1
        drawn.append(picture(stalls.USE_CASE, store, windows_from="2024-03-01"))
    assert drawn[0] == drawn[1]
