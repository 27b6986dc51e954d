"""The labelling demo tells what it did, and claims no more than its intervals."""

from __future__ import annotations

import io
import socket

import numpy as np
import pytest
from rich.console import Console

from components.evaluator.blocks import Interval
from ninefold.errors import ConfigurationError, UsageError
from ninefold.settings import Settings, settings
from ninefold.store import open_store
from pipelines.commands import demo
from pipelines.labelling_demo import difference, run_labelling_demo
from pipelines.labelling_recipe import compared
from pipelines.labelling_story import EXPERT
from serving.supervisor.foreground import stop
from usecases.reviews import few_labels


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.001, 0.02, "better"), (-0.02, -0.001, "worse"), (-0.01, 0.02, "not shown to differ")],
)
def test_better_is_said_of_what_its_interval_shows_to_be_better(low: float, high: float, verdict: str) -> None:
    assert difference("Against it", "AUC", Interval((low + high) / 2, low, high)).endswith(f": {verdict}.")


def test_only_labels_finds_a_gain_where_there_is_one_and_none_where_there_is_none() -> None:
    dice = np.random.default_rng(1)
    truth = dice.integers(0, 2, 600).astype(float)

    def scores(noise: float) -> np.ndarray:
        return 1 / (1 + np.exp(-(2 * truth - 1 + dice.normal(0, noise, 600))))

    weak = [scores(2.0) for _ in range(5)]
    found = compared("auc", truth, scores(1.0), weak)
    assert found.gain.low > 0
    assert found.gain.value == pytest.approx(found.picked - np.mean(found.by_chance))
    same = compared("auc", truth, scores(2.0), weak).gain
    assert same.low < 0 < same.high


def test_what_models_are_judged_on_is_in_nothing_that_they_learn_from() -> None:
    history, asked, held = few_labels.extract(), few_labels.asked(), few_labels.held_back()
    assert history.requests.height == history.truths.height == few_labels.LABELLED
    assert held.height == 1_000
    assert not set(asked["review_id"]) & set(held["review_id"])
    assert not set(asked["input"]) & set(held["input"])
    assert set(history.requests["review_id"]) == set(asked["review_id"][: few_labels.LABELLED])


def test_a_demo_that_there_is_not_is_named() -> None:
    with pytest.raises(UsageError, match="churn has no demo"):
        demo("churn")
    with pytest.raises(UsageError, match="reviews has no short demo"):
        demo("reviews", short=True)


def test_a_production_database_that_is_not_the_demos_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NINEFOLD_STORE_URL", "sqlite:////nowhere/production.db")
    settings.cache_clear()
    with pytest.raises(ConfigurationError, match="not its own"):
        run_labelling_demo(Console(file=io.StringIO()))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_small_one_from_its_beginning_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FRONT_END", "COLLECTOR", "MODELS_FROM", "GATEWAY", "GATEWAY_INNER"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            monkeypatch.setenv(f"NINEFOLD_PORTS__{name}", str(free.getsockname()[1]))
    settings.cache_clear()
    told = io.StringIO()
    here = Settings(home=settings().home / "demo-reviews")
    try:
        run_labelling_demo(Console(file=told, width=120), batch=300)
        with open_store(here.store_url) as store:
            tasks = store.label_tasks("reviews")
            assert len(tasks) == 300
            assert len(store.labellers_truths("reviews")) == 300
            assert {one.annotator for one in store.annotations("reviews")} == {EXPERT}
            chances = [task.inclusion_probability for task in tasks]
            assert sum(1 / chance for chance in chances if chance) == pytest.approx(3_973 - few_labels.LABELLED)
    finally:
        stop(here)
    text = told.getvalue()
    for words in ("Against version ", "Against as many at random: ", "as good as", "ninefold label up", "curl -s"):
        assert words in text, text
