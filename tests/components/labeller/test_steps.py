"""A labelling run sends what is worth a look, brings home what experts said, and says what that makes of the model.

What stands in for Label Studio here keeps tasks and annotations in memory.
"""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components.labeller import steps
from components.labeller.sampling.mix import Mix
from components.labeller.selection import mix_of
from components.labeller.steps import collect_step, send_step
from ninefold.labelling.answers import CONTROL
from ninefold.loading import load_use_case
from ninefold.records import Prediction
from ninefold.settings import settings
from ninefold.store import open_store

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class InMemory:
    """Label Studio as far as sending and collecting ask it."""

    url = "http://label-studio"

    def __init__(self) -> None:
        self.project: dict[str, Any] | None = None
        self.known: dict[int, dict[str, Any]] = {}
        self._numbers = itertools.count(1)

    def __enter__(self) -> InMemory:
        return self

    def __exit__(self, *_: object) -> None: ...

    def version(self) -> str:
        return "1.0"

    def projects(self) -> list[dict[str, Any]]:
        return [self.project] if self.project else []

    def create_project(self, settings: dict[str, Any]) -> dict[str, Any]:
        self.project = {"id": 1, **settings}
        return self.project

    def update_project(self, number: int, settings: dict[str, Any]) -> None: ...

    def tasks(self, project: int) -> list[dict[str, Any]]:
        return list(self.known.values())

    def import_tasks(self, project: int, tasks: list[dict[str, Any]]) -> None:
        for task in tasks:
            number = next(self._numbers)
            self.known[number] = {"id": number, "annotations": [], **task}

    def people(self) -> dict[int, str]:
        return {1: "jo@example.com"}

    def webhooks(self, project: int) -> list[dict[str, Any]]:
        return []

    def save_webhook(self, number: int | None, settings: dict[str, Any]) -> None: ...

    def answer(self, label: str, count: int) -> None:
        """An expert answers the first tasks that nobody has."""
        for task in [task for task in self.known.values() if not task["annotations"]][:count]:
            said = {"from_name": CONTROL, "value": {"choices": [label]}}
            task["annotations"].append(
                {"id": next(self._numbers), "completed_by": 1, "created_username": " jo@example.com, 1",
                 "updated_at": "2026-01-02T00:00:00Z", "result": [said]}
            )  # fmt: skip


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> InMemory:
    made = InMemory()
    monkeypatch.setattr(steps, "connect", lambda _: made)
    with open_store(settings().store_url) as store:
        store.write_predictions(
            Prediction(
                prediction_id=f"p{i}", use_case="reviews", request_id=None, key=f"k{i}",
                decided_at=BEGAN + timedelta(seconds=i), received_at=BEGAN + timedelta(seconds=i), version=0,
                cohort="live", request={"input": f"text {i} of its own {i}", "review_id": f"k{i}"}, features={},
                value=i / 40,
            )
            for i in range(41)
        )  # fmt: skip
    return made


def _run(tmp_path: Path, name: str, count: int = 10) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    collected, summary = tmp_path / "collected.json", tmp_path / "summary.md"
    came = collect_step("reviews", str(collected))
    sent = send_step("reviews", count, "", "", "", name, str(collected), str(summary))
    result = json.loads((settings().home / "reports" / "reviews" / name / "result.json").read_text())
    assert result["summary"] in summary.read_text()
    return came, sent, result


def test_a_run_sends_and_the_next_brings_home_and_sends_others(studio: InMemory, tmp_path: Path) -> None:
    came, sent, result = _run(tmp_path, "first")
    assert came == {}
    assert sent == {"pool": 41.0, "picked": 10.0, "sent": 10.0}
    assert ["picked: uncertainty", "9"] in result["rows"]
    studio.answer("great", 10)
    came, sent, result = _run(tmp_path, "second")
    assert (came["annotations"], came["truths"]) == (10.0, 10.0)
    assert sent == {"pool": 31.0, "picked": 10.0, "sent": 10.0}
    assert len(studio.known) == 20
    assert len({task["data"]["key"] for task in studio.known.values()}) == 20
    assert "By 10 labels" in result["summary"]
    with open_store(settings().store_url) as store:
        assert len(store.labellers_truths("reviews")) == 10


def test_a_step_that_is_tried_again_sends_the_same(studio: InMemory, tmp_path: Path) -> None:
    collected = str(tmp_path / "collected.json")
    collect_step("reviews", collected)
    for _ in range(2):
        send_step("reviews", 41, "random=1", "", "", "again", collected, str(tmp_path / "summary.md"))
    assert len(studio.known) == 41
    with open_store(settings().store_url) as store:
        assert {task.inclusion_probability for task in store.label_tasks("reviews")} == {1.0}


def test_where_nobody_labels_no_more_are_sent(studio: InMemory, tmp_path: Path) -> None:
    for number in range(8):
        _, sent, result = _run(tmp_path, f"run-{number}", count=2)
    assert sent["picked"] == 0
    assert len(studio.known) == 10
    assert "10 tasks wait for an expert: no more were sent." in result["summary"]


def test_a_number_without_an_interval_is_picked_at_random() -> None:
    assert mix_of(load_use_case("arrivals"), "") == Mix.parse("random=1")
    assert mix_of(load_use_case("reviews"), "") == Mix()
    assert mix_of(load_use_case("reviews"), "uncertainty=1") == Mix.parse("uncertainty=1")
