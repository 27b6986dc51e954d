"""A window that is judged by labels counts each for what it stands for, and none that was picked by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import ModuleType

import numpy as np
import pytest

from components.monitor.joined import counted, read_joined
from components.monitor.label_weights import WEIGHT, with_label_weights
from components.monitor.windows import Window, judge
from ninefold.labels import LabelTask, label_task_id
from ninefold.store import Store


@pytest.fixture
def made(stalls: ModuleType, store: Store) -> list[object]:
    found = [stalls.prediction(i, row) for i, row in enumerate(stalls.days(stalls.BEGAN, 1, seed=0)[:8], start=1)]
    store.write_predictions(found)
    return found


def _ask(stalls: ModuleType, store: Store, prediction, chance: float | None, batch: str = "b") -> None:
    sent = stalls.BEGAN + timedelta(days=2)
    store.record_label_tasks(
        [
            LabelTask(
                task_id=label_task_id(prediction.use_case, prediction.key), use_case=prediction.use_case,
                key=prediction.key, prediction_id=prediction.prediction_id, batch=batch, sampler="random", reason="",
                score=None, inclusion_probability=chance, sent_at=sent,
            )
        ]
    )  # fmt: skip
    error = 10.0 if chance == 1.0 else 1.0
    store.write_truths([replace(stalls.truth(prediction, prediction.value + error, 2), source="labeller")])


def _judged(stalls: ModuleType, store: Store):
    until = stalls.BEGAN + timedelta(days=1)
    frame = with_label_weights(read_joined(store, stalls.USE_CASE, stalls.BEGAN, until), store, stalls.USE_CASE)
    rows = counted(stalls.USE_CASE, frame)
    rows = rows.with_columns(baseline=np.zeros(len(rows)))
    (found,) = judge(stalls.USE_CASE, rows, Window(stalls.BEGAN, until), until + timedelta(days=9))
    return found


def test_a_random_label_counts_for_all_that_it_was_drawn_from(stalls: ModuleType, store: Store, made: list) -> None:
    _ask(stalls, store, made[0], 1.0)
    for prediction in made[1:3]:
        _ask(stalls, store, prediction, 2 / 7)
    found = _judged(stalls, store)
    assert found.known == 3
    # One answer is off by 10; the two others, by 1, stand for seven.
    assert found.value == pytest.approx((10 + 7 * 1) / 8)
    assert found.evaluation.effective_rows == pytest.approx(8**2 / (1 + 2 * 3.5**2))


def test_what_was_picked_by_hand_judges_nobody(stalls: ModuleType, store: Store, made: list) -> None:
    _ask(stalls, store, made[0], None, batch="by hand")
    found = _judged(stalls, store)
    assert (found.known, found.evaluation) == (0, None)


def test_where_no_expert_was_asked_everything_is_as_before(stalls: ModuleType, store: Store, made: list) -> None:
    store.write_truths([stalls.truth(prediction, prediction.value + 2, 2) for prediction in made])
    frame = read_joined(store, stalls.USE_CASE, stalls.BEGAN, stalls.BEGAN + timedelta(days=1))
    assert WEIGHT not in with_label_weights(frame, store, stalls.USE_CASE).columns
    found = _judged(stalls, store)
    assert (found.known, found.value, found.evaluation.effective_rows) == (8, pytest.approx(2), None)
