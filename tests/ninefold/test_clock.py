"""Instants are aware UTC; durations have one unit."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.clock import EventClock, WallClock, format_duration, format_instant, parse_duration, parse_instant
from ninefold.errors import InvalidInput


@given(st.datetimes(min_value=datetime(1900, 1, 1), timezones=st.just(UTC)))
def test_an_instant_survives_its_text(instant: datetime) -> None:
    assert parse_instant(format_instant(instant)) == instant


@given(st.integers(1, 10**7).map(lambda s: timedelta(seconds=s)))
def test_a_duration_survives_its_text(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize("text", ["", "h", "0h", "-3h", "1.5h", "3w", "3 h", "²d", "9" * 12 + "d", "9" * 5_000 + "s"])
def test_a_wrong_duration_is_named(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"length: .*not a duration"):
        parse_duration(text, field="length")


def test_the_event_clock_never_goes_back() -> None:
    clock = EventClock(datetime(2013, 7, 1, tzinfo=UTC))
    clock.advance(datetime(2013, 7, 2, tzinfo=UTC))
    clock.advance(datetime(2013, 6, 1, tzinfo=UTC))
    assert clock.now() == datetime(2013, 7, 2, tzinfo=UTC)


def test_the_wall_clock_is_aware() -> None:
    assert WallClock().now().tzinfo is UTC


def test_an_instant_that_utc_has_no_year_for_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"known_at: .*is not a time"):
        parse_instant("9999-12-31T23:59:59-10:00", field="known_at")
