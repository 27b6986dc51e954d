"""A stream that stands still is found by what it does to answers, and a healthy one is never."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from components.monitor.alerts import AT_ONCE, Finding
from components.monitor.checks import check_freshness
from components.monitor.windows import Window
from ninefold.loading import load_use_case
from ninefold.usecase import Gates

USE_CASE = dataclasses.replace(load_use_case("arrivals"), gates=Gates(max_null_share=0.05))
DAY = Window(datetime(2013, 7, 1, tzinfo=UTC), datetime(2013, 7, 1, tzinfo=UTC) + timedelta(days=1))


def _found(stale: int, rows: int = 200) -> dict[str, Finding]:
    flags = [["range:humidity", "stale:origin_gain"]] * stale + [[], ["stale:weather"]] * ((rows - stale) // 2)
    frame = pl.DataFrame({"flags": pl.Series(flags, dtype=pl.List(pl.String))})
    return {f.subject: f for f in check_freshness(USE_CASE, DAY, frame)}


@pytest.mark.parametrize(("stale", "outcome"), [(0, "within"), (10, "within"), (12, "over"), (200, "over")])
def test_a_window_that_is_stale_too_often_is_over_its_limit(stale: int, outcome: str) -> None:
    found = _found(stale)
    assert found["window origin_gain"].outcome == outcome
    assert found["window origin_gain"].value == stale / 200
    # One stream's trouble is not another's, and a batch row past its time is a null, which other checks count.
    assert {f.outcome for subject, f in found.items() if subject != "window origin_gain"} == {"within"}
    assert set(found) == {f"window {w.name}" for w in USE_CASE.windows}


def test_few_answers_are_blindness_and_one_window_raises() -> None:
    assert {f.outcome for f in _found(10, rows=60).values()} == {"blind"}
    assert "stale" in AT_ONCE
