"""Clocks without a date, and means as of last night."""

from datetime import UTC, date, datetime, timedelta

import polars as pl

from ninefold.sources.schedules import daily_means, with_next_on_clock

_TIME = pl.Datetime("us", "UTC")


def test_a_clock_without_a_date_means_the_next_time_it_shows_that() -> None:
    rows = pl.DataFrame(
        {
            "left": [datetime(2013, 7, 2, 3, 59, tzinfo=UTC), datetime(2013, 11, 3, 4, tzinfo=UTC)],
            "clock": [344, 130],
            "zone": ["America/Puerto_Rico", "America/New_York"],
        },
        schema_overrides={"left": _TIME},
    )
    found = with_next_on_clock(rows, "due", clock="clock", after=pl.col("left"), zone="zone").sort("left")
    # In November half past one comes twice in New York: the first is meant.
    assert found["due"].to_list() == [datetime(2013, 7, 2, 7, 44, tzinfo=UTC), datetime(2013, 11, 3, 5, 30, tzinfo=UTC)]


def test_a_daily_job_sees_what_was_known_at_its_very_instant_and_a_quiet_key_keeps_its_row() -> None:
    start = datetime(2013, 5, 1, 8, tzinfo=UTC)
    events = pl.DataFrame(
        [
            {"key": "a", "gain": 4, "at": start},
            {"key": "a", "gain": 8, "at": start + timedelta(microseconds=1)},
            {"key": "b", "gain": 1, "at": start + timedelta(days=3)},
        ],
        schema_overrides={"at": _TIME},
    )
    rows = daily_means(events, ["key"], value="gain", at="at", days=(3, 1), job=timedelta(hours=8))
    found = [(r["key"], r["known_at"].date(), r["mean_3d"], r["mean_1d"], r["count_1d"]) for r in rows.to_dicts()]
    assert found == [
        ("a", date(2013, 5, 1), 4.0, 4.0, 1.0),
        ("a", date(2013, 5, 2), 6.0, 8.0, 1.0),
        ("a", date(2013, 5, 3), 6.0, None, 0.0),
        ("a", date(2013, 5, 4), 8.0, None, 0.0),
        ("b", date(2013, 5, 4), 1.0, 1.0, 1.0),
    ]
