"""The labelling demo tells what it did, and claims no more than its intervals."""

from __future__ import annotations

import io
import socket

import numpy as np
import pytest
from rich.console import Console

from components.evaluator.comparison import compare
from ninefold.errors import ConfigurationError, UsageError
from ninefold.fields import Metric
from ninefold.settings import Settings, settings
from ninefold.store import open_store
from pipelines.commands import demo
from pipelines.labelling_demo import difference, run_labelling_demo
from pipelines.labelling_story import EXPERT
from serving.supervisor.foreground import stop
from usecases.reviews import few_labels

BRIER = Metric(name="brier", direction="minimize")


def test_better_is_said_of_what_its_interval_shows_to_be_better() -> None:
    dice = np.random.default_rng(0)
    truth = dice.integers(0, 2, 400).astype(float)
    good, bad = np.abs(truth - 0.2), np.abs(truth - 0.4)
    noise = np.clip(good + dice.normal(0, 0.1, 400), 0, 1)
    rows = np.arange(400)
    assert difference("Against it", compare(BRIER, truth, bad, noise, rows)).endswith(": better.")
    assert difference("Against it", compare(BRIER, truth, good, bad, rows)).endswith(": worse.")
    assert difference("Against it", compare(BRIER, truth, good, good, rows)).endswith(": not shown to differ.")


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
            assert sum(1 / chance for chance in chances if chance) == pytest.approx(3_673)
            assert [one.version for one in store.versions("reviews")] == [0, 1, 2]
    finally:
        stop(here)
    text = told.getvalue()
    for words in ("Against version 1: ", "Against as many at random: ", "as good as", "ninefold label up", "curl -s"):
        assert words in text, text
