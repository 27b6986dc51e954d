"""Rules of windows that a table of small cases says best."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from ninefold.errors import ConfigurationError, DataError
from ninefold.windows import Window
from ninefold.windows.batch import changelog
from ninefold.windows.declaration import MAX_UNITS
from ninefold.windows.stream import WindowState

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def window(**changes: object) -> Window:
    declared = {"name": "gain", "stream": "landings", "key": ("dest",), "value": "gain", "length": 2 * HOUR}
    return Window(**{**declared, **changes})  # type: ignore[arg-type]


def events(*rows: tuple[str | None, datetime, float | None]) -> pl.DataFrame:
    return pl.DataFrame(
        rows,
        schema={"dest": pl.String, "known_at": pl.Datetime("us", "UTC"), "gain": pl.Float64},
        orient="row",
    )


def test_an_event_that_is_exactly_as_old_as_the_window_has_left() -> None:
    rows = changelog(events(("BOS", NOON, 7.0)), window())
    assert rows.rows() == [("BOS", NOON, 7.0, 1), ("BOS", NOON + 2 * HOUR, None, 0)]


def test_events_of_one_instant_are_one_row_also_when_one_leaves_as_another_enters() -> None:
    rows = changelog(events(("BOS", NOON, 1.0), ("BOS", NOON, 2.0), ("BOS", NOON + 2 * HOUR, 9.0)), window())
    assert rows.rows() == [
        ("BOS", NOON, 1.5, 2),
        ("BOS", NOON + 2 * HOUR, 9.0, 1),
        ("BOS", NOON + 4 * HOUR, None, 0),
    ]


def test_null_values_and_null_keys_count_for_nothing() -> None:
    nothing = events(("BOS", NOON, None), ("BOS", NOON, float("nan")), (None, NOON, 3.0))
    assert changelog(nothing, window(aggregates=("count",))).is_empty()
    assert changelog(nothing, window()).schema == changelog(events(("BOS", NOON, 1.0)), window()).schema
    state = WindowState(window())
    state.add("BOS", None, 5)
    state.add("BOS", float("nan"), 5)
    assert state.advance(10) == []


def test_a_key_of_several_columns_keeps_them_and_their_types() -> None:
    frame = events(("BOS", NOON, 1.0)).with_columns(pl.lit(17, pl.Int32).alias("flight"))
    rows = changelog(frame, window(key=("flight", "dest")))
    assert rows.columns == ["flight", "dest", "known_at", "mean", "count"]
    assert rows.schema["flight"] == pl.Int32
    assert rows.rows()[0] == (17, "BOS", NOON, 1.0, 1)


def test_halves_round_to_even_in_units_of_the_resolution() -> None:
    rows = changelog(events(("BOS", NOON, 0.5), ("LAX", NOON, 1.5), ("MIA", NOON, -2.5)), window(aggregates=("sum",)))
    assert [row[2] for row in rows.rows()[::2]] == [0.0, 2.0, -2.0]


def test_values_are_divided_by_the_resolution_not_multiplied_by_its_reciprocal() -> None:
    """At a half the two round differently, and polars divides a column by a number in the second way."""
    for value, resolution, units in ((-19.915, 0.01, -1991), (-199.95, 0.1, -1999), (-99.975, 0.05, -1999)):
        coarse = window(aggregates=("sum",), resolution=resolution)
        assert coarse.units(value) == units
        assert changelog(events(("BOS", NOON, value)), coarse)["sum"][0] == units * resolution


def test_a_value_that_can_not_be_summed_is_refused_by_name_in_batch_and_stream() -> None:
    for value in (float("inf"), float("-inf"), 2.0 * MAX_UNITS):
        with pytest.raises(DataError, match=r"'gain'.*coarser resolution"):
            changelog(events(("BOS", NOON, value)), window())
        with pytest.raises(DataError, match=r"'gain'.*coarser resolution"):
            WindowState(window()).add("BOS", value, 0)
    assert window(resolution=10.0).units(2.0 * MAX_UNITS) == round(0.2 * MAX_UNITS)


def test_missing_columns_and_instants_are_named() -> None:
    with pytest.raises(DataError, match="no column gain"):
        changelog(events().drop("gain"), window())
    with pytest.raises(DataError, match="1 events have no known_at"):
        changelog(events(("BOS", None, 1.0)), window())  # type: ignore[arg-type]


def test_the_stream_refuses_what_the_watermark_has_passed() -> None:
    state = WindowState(window())
    assert state.advance(1_000) == []
    with pytest.raises(DataError, match="Lift late events"):
        state.add("BOS", 1.0, 1_000)
    state.add("BOS", 1.0, 1_001)
    assert state.advance(1_000) == []
    assert state.advance(1_001) == [("BOS", 1_001, (1.0, 1))]


def test_expiry_needs_no_event() -> None:
    state = WindowState(window(length=timedelta(seconds=1)))
    state.add("BOS", 4.0, 10)
    assert state.advance(10) == [("BOS", 10, (4.0, 1))]
    assert state.advance(1_000_009) == []
    assert state.advance(1_000_010) == [("BOS", 1_000_010, (None, 0))]


def test_a_key_that_is_a_column_of_the_window_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'count' can't be a key"):
        window(key=("count",))
    with pytest.raises(ConfigurationError, match="aggregate"):
        window(aggregates=("mean", "mean"))
