"""New York's clock by rule is the one of the table of zones."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.local_clock import USClock

PLACES = {"America/New_York": -5, "America/Chicago": -6, "America/Denver": -7, "America/Los_Angeles": -8}
_INSTANTS = st.datetimes(datetime(2007, 3, 1), datetime(2037, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))


@pytest.mark.parametrize("zone", PLACES)
@given(at=_INSTANTS)
def test_it_shows_what_the_table_of_zones_says(zone: str, at: datetime) -> None:
    micros = np.array([(at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)])
    shown = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) - datetime(1970, 1, 1)
    found = USClock(PLACES[zone]).minutes(micros)[0]
    assert found == pytest.approx(shown.total_seconds() / 60.0, abs=1e-6)
