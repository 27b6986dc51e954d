"""Windows are whole days or weeks in UTC, and a version is judged in each by the truths that are known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import ModuleType

import numpy as np
import pytest

from components.monitor.joined import counted, read_joined
from components.monitor.run import with_inputs
from components.monitor.windows import badness, judge, windows_between
from ninefold.errors import UsageError
from ninefold.fields import Metric
from ninefold.store import Store


def test_only_whole_windows_are_judged() -> None:
    begin = datetime(2024, 3, 1, 6, tzinfo=UTC)
    days = windows_between(begin, begin + timedelta(days=2), "day")
    assert [w.label for w in days] == ["2024-03-02/2024-03-03"]
    weeks = windows_between(begin, begin + timedelta(days=14), "week")
    assert [w.label for w in weeks] == ["2024-03-04/2024-03-11"]
    assert weeks[0].start.weekday() == 0
    with pytest.raises(UsageError, match="no whole week"):
        windows_between(begin, begin + timedelta(days=8), "week")


def test_a_beginning_before_there_were_windows_is_refused() -> None:
    with pytest.raises(UsageError, match="Begin at 1900-01-01 or later"):
        windows_between(datetime(1, 1, 1, tzinfo=UTC), datetime(1, 2, 1, tzinfo=UTC), "day")


def test_versions_and_cohorts_are_judged_with_coverage_delay_and_the_baseline(stalls: ModuleType, store: Store) -> None:
    rows = stalls.days(stalls.BEGAN, 1, seed=0)
    made = [
        stalls.prediction(n, {**row, "value": row["truth"] + 1.0}, version=1, cohort="live" if n % 2 else "candidate")
        for n, row in enumerate(rows)
    ]
    store.write_predictions(made)
    known = len(made) // 2
    store.write_truths(stalls.truth(p, row["truth"], 4) for p, row in zip(made[:known], rows[:known], strict=True))
    frame = with_inputs(
        stalls.USE_CASE, read_joined(store, stalls.USE_CASE, stalls.BEGAN, stalls.BEGAN + timedelta(days=1))
    )
    (window,) = windows_between(stalls.BEGAN, stalls.BEGAN + timedelta(days=1), "day")
    now = window.end + timedelta(hours=23)
    whole, *cohorts = judge(stalls.USE_CASE, counted(stalls.USE_CASE, frame), window, now)
    assert (whole.version, whole.cohort, whole.requests, whole.known) == (1, "", len(made), known)
    assert whole.coverage == 0.5
    assert not whole.closed
    assert abs(whole.value - 1.0) < 1e-9
    assert whole.delay_hours == (4.0, 4.0)
    expected = np.mean([abs(2.0 * row["visits"] - row["truth"]) for row in rows[:known]])
    assert abs(whole.baseline - expected) < 1e-9
    assert [c.cohort for c in cohorts] == ["candidate", "live"]
    assert next(judge(stalls.USE_CASE, counted(stalls.USE_CASE, frame), window, now + timedelta(hours=1))).closed


def test_a_score_is_worse_when_more_of_it_is_missing() -> None:
    assert badness(Metric(name="mae", direction="minimize"), 2.0) == 2.0
    assert abs(badness(Metric(name="auc", direction="maximize"), 0.9) - 0.1) < 1e-12
