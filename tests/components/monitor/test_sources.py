"""Users who find every answer wrong are told of, and set nothing in motion."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import ModuleType

import pytest

from components.monitor.joined import counted, read_joined
from components.monitor.run import with_inputs
from components.monitor.sources import by_source, check_feedback, told
from components.monitor.windows import judge, windows_between
from ninefold.store import Store


def test_the_metric_is_told_by_source_and_what_users_say_only_warns(stalls: ModuleType, store: Store) -> None:
    use_case = stalls.USE_CASE
    asked = stalls.days(stalls.BEGAN, 1, seed=0)
    made = [stalls.prediction(number, stall) for number, stall in enumerate(asked)]
    store.write_predictions(made)
    store.write_truths([stalls.truth(one, one.value + 1.0, 2) for one in made])
    store.write_truths([replace(stalls.truth(one, one.value + 50.0, 3, number=1), source="user") for one in made])
    until = stalls.BEGAN + timedelta(days=1)
    frame = counted(use_case, with_inputs(use_case, read_joined(store, use_case, stalls.BEGAN, until)))
    (rows, value), (said, by_users) = by_source(use_case, frame)["system"], by_source(use_case, frame)["user"]
    assert rows == said == len(frame)
    assert (value, by_users) == (pytest.approx(1.0), pytest.approx(50.0))
    (window,) = windows_between(stalls.BEGAN, until, "day")
    judged = list(judge(use_case, frame, window, until + timedelta(days=9)))
    assert judged[0].value == pytest.approx(1.0)
    assert told(judged[0], "mae")["mae.by_user"] == pytest.approx(50.0)
    (finding,) = check_feedback(use_case, judged, worst=10.0)
    assert (finding.outcome, finding.check) == ("over", "feedback")
    (finding,) = check_feedback(use_case, judged, worst=60.0)
    assert finding.outcome == "within"
    assert list(check_feedback(use_case, judged, worst=float("nan"))) == []
