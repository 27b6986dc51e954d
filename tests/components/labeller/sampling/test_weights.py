"""What labels stand for: over several batches, with skipped ones and rows that come later."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from components.labeller.sampling.mix import Mix
from components.labeller.sampling.pick import pick
from components.labeller.sampling.pool import Pool
from components.labeller.sampling.weights import Asked, label_weights, weights_of
from ninefold.errors import DataError
from ninefold.labels import LabelTask, label_task_id

START = datetime(2026, 1, 1, tzinfo=UTC)


def task(key: str, batch: int, chance: float | None) -> LabelTask:
    return LabelTask(
        task_id=label_task_id("reviews", key), use_case="reviews", key=key, prediction_id=None, batch=f"b{batch}",
        sampler="random", reason="", score=None, inclusion_probability=chance, sent_at=START + timedelta(days=batch),
    )  # fmt: skip


def test_one_batch_is_horvitz_and_thompson() -> None:
    tasks = [task("a", 0, 1.0), task("b", 0, 0.25), task("c", 0, 0.25)]
    assert weights_of(tasks, {"a": 1, "b": 1, "c": 0}, {}) == {"a": 1.0, "b": 4.0, "c": 4.0}


def test_who_skipped_is_stood_for_by_those_of_the_same_chance() -> None:
    tasks = [task("a", 0, 1.0), task("b", 0, 0.25), task("c", 0, 0.25)]
    assert weights_of(tasks, {"a": 1, "c": 0}, {}) == {"a": 1.0, "c": 8.0}


def test_where_nobody_of_a_class_answered_the_batch_tells_nothing() -> None:
    assert weights_of([task("a", 0, 1.0), task("b", 0, 0.25)], {"a": 1}, {}) == {"a": 0.0}


def test_what_was_picked_by_hand_stands_for_itself_once_a_later_batch_tells() -> None:
    by_hand = [task("a", 0, None)]
    assert weights_of(by_hand, {"a": 1}, {}) == {"a": 0.0}
    later = [*by_hand, task("b", 1, 0.1)]
    assert weights_of(later, {"a": 1, "b": 0}, {"a": START, "b": START}) == {"a": 1.0, "b": 10.0}


def test_a_chance_that_is_none_is_refused() -> None:
    one = np.array([0])
    for chance in (0.0, 1.5, -0.1):
        with pytest.raises(DataError, match="1 of 1 inclusion probabilities"):
            label_weights(Asked(batch=one, chance=np.array([chance]), answered=one == 0, arrived=one))
    with pytest.raises(DataError, match="could not have picked"):
        label_weights(Asked(batch=one, chance=np.array([1.0]), answered=one == 0, arrived=one + 1))


def test_over_batches_that_learn_from_each_other_the_weighted_total_is_right() -> None:
    """Three batches, each by a model that has seen the ones before; a third of the rows comes after the first batch."""
    dice = np.random.default_rng(3)
    rows = 240
    loss = dice.gamma(0.5, 1.0, rows)
    hardness = np.clip(loss / 3 + dice.normal(0, 0.1, rows), 0.01, 0.99)
    late = np.arange(rows) >= 160
    totals, unweighted = [], []
    for seed in range(500):
        tasks: list[LabelTask] = []
        seen: set[int] = set()
        for batch in range(3):
            pool_rows = [i for i in range(rows) if i not in seen and (batch > 0 or not late[i])]
            # What was found so far moves what is picked next.
            shift = 0.1 * math.tanh(sum(loss[i] for i in seen) / 50 - 1)
            pool = Pool(
                problem="binary", keys=[str(i) for i in pool_rows], prediction_ids=[None] * len(pool_rows),
                prediction=np.clip(0.5 + (1 - hardness[pool_rows]) / 2 + shift, 0, 1),
            )  # fmt: skip
            picks = pick(pool, 20, Mix(uncertainty=0.5, sure_but_wrong=0, random=0.5), 1_000 * batch + seed)
            tasks += [task(one.key, batch, one.inclusion_probability) for one in picks]
            seen |= {int(one.key) for one in picks}
        came = {str(i): START + timedelta(hours=12 if late[i] else -12) for i in range(rows)}
        weights = weights_of(tasks, {t.key: 1 for t in tasks}, came)
        totals.append(sum(weight * loss[int(key)] for key, weight in weights.items()))
        unweighted.append(np.mean([loss[i] for i in seen]))
    error = np.std(totals) / math.sqrt(len(totals))
    assert abs(np.mean(totals) - loss.sum()) < 4 * error
    assert error < 0.03 * loss.sum()
    assert np.mean(unweighted) > 1.1 * loss.mean()
