"""Tasks, annotations and annotators, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ninefold.errors import DataError
from ninefold.labels import Annotation, LabelTask, label_task_id
from ninefold.loading import load_use_case
from ninefold.records import Prediction, Truth
from ninefold.settings import Retention
from ninefold.store import Store
from ninefold.store.erasure import erase_records, key_of
from ninefold.store.pruning import prune_records

NOW = datetime(2026, 3, 1, tzinfo=UTC)
REVIEWS = load_use_case("reviews")


def task(key: str, days: float = 0.0, **more: object) -> LabelTask:
    made = LabelTask(
        task_id=label_task_id("reviews", key), use_case="reviews", key=key, prediction_id=f"p-{key}", batch="b1",
        sampler="uncertainty", reason="The model is unsure.", score=0.9, inclusion_probability=1.0,
        sent_at=NOW - timedelta(days=days),
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def annotation(key: str, number: int = 1, days: float = 0.0, **more: object) -> Annotation:
    at = NOW - timedelta(days=days)
    made = Annotation(
        annotation_id=f"{key}-{number}", use_case="reviews", task_id=label_task_id("reviews", key), key=key,
        annotator="jo", value=1.0, outcome="labelled", said_at=at, received_at=at, label="great",
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def test_what_is_kept_comes_back_as_it_was(store: Store) -> None:
    tasks = [task("a"), task("b", 1, prediction_id=None, score=None, inclusion_probability=None, batch="b2")]
    said = [annotation("a"), annotation("b", value=None, outcome="skipped", label=None)]
    assert (store.record_label_tasks(tasks), store.record_annotations(said)) == (2, 2)
    assert store.label_tasks("reviews") == [tasks[1], tasks[0]]
    assert store.label_tasks("reviews", "b2") == [tasks[1]]
    assert store.label_task(tasks[0].task_id) == tasks[0]
    assert store.label_task("nobody's") is None
    assert store.annotations("reviews") == said
    assert store.annotations("reviews", [tasks[1].task_id]) == [said[1]]
    assert store.label_tasks("churn") == store.annotations("churn") == []


def test_a_key_that_is_picked_again_keeps_its_first_task(store: Store) -> None:
    store.record_label_tasks([task("a")])
    again = store.record_label_tasks([task("a", batch="b2", reason="Another.", sent_at=NOW + timedelta(days=1))])
    assert (again, again.repeated, again.conflicts) == (0, 1, ())
    assert [kept.batch for kept in store.label_tasks("reviews")] == ["b1"]


def test_an_annotation_is_kept_once_and_what_contradicts_it_aside(store: Store) -> None:
    store.record_annotations([annotation("a")])
    assert store.record_annotations([annotation("a", received_at=NOW + timedelta(hours=1))]).conflicts == ()
    assert store.record_annotations([annotation("a", value=0.0)]).conflicts == ("a-1",)
    assert [one.value for one in store.annotations("reviews")] == [1.0]


def test_what_can_t_be_kept_is_refused(store: Store) -> None:
    with pytest.raises(DataError):
        store.record_annotations([annotation("a", value=float("nan"))])
    with pytest.raises(DataError):
        store.record_label_tasks([task("a", sent_at=datetime(2026, 1, 1))])


def test_of_labellers_truths_the_newest_of_a_key_is_told(store: Store) -> None:
    def truth(key: str, value: float, minute: int, source: str = "labeller") -> Truth:
        at = NOW + timedelta(minutes=minute)
        return Truth(
            truth_id=f"{key}{minute}{source}", use_case="reviews", key=key, value=value, known_at=at, received_at=at,
            source=source,  # type: ignore[arg-type]
        )  # fmt: skip

    store.write_truths([truth("a", 0, 2), truth("a", 1, 1), truth("a", 1, 3, "system"), truth("b", 1, 0)])
    assert store.labellers_truths("reviews") == {"a": 0.0, "b": 1.0}
    assert store.labellers_truths("reviews", ["b", "c"]) == {"b": 1.0}


def test_people_are_known_by_number_and_may_change_their_name(store: Store) -> None:
    store.record_annotators({1: "admin@localhost", 2: "jo@example.com"})
    store.record_annotators({2: "joe@example.com"})
    store.record_annotators({})
    assert store.annotators() == {1: "admin@localhost", 2: "joe@example.com"}


def test_an_erased_key_is_gone_from_tasks_and_annotations_and_stays_gone(store: Store) -> None:
    store.record_label_tasks([task("a", 1), task("b", 1)])
    store.record_annotations([annotation("a", days=1), annotation("b", days=1)])
    store.record_annotations([annotation("a", value=0.0)])
    removed = erase_records(store, REVIEWS, key_of(REVIEWS, "a", []), now=NOW, actor="me")
    assert {kind: n for kind, n in removed.items() if n} == {"label_tasks": 1, "annotations": 1, "conflicts": 1}
    assert store.record_label_tasks([task("a", 1)]).erased == 1
    assert store.record_annotations([annotation("a", days=1)]).erased == 1
    assert [one.key for one in store.annotations("reviews")] == ["b"]
    assert store.erased_keys("reviews", ["a", "b"]) == {"a"}


def test_labels_go_with_the_truths_that_were_made_of_them(store: Store) -> None:
    store.record_label_tasks([task("old", 40), task("new", 1), task("asked", 40)])
    store.record_annotations([annotation("old", days=39), annotation("new", days=1), annotation("asked", days=39)])
    store.write_predictions(
        [
            Prediction(
                prediction_id="p", use_case="reviews", request_id=None, key="asked", decided_at=NOW, received_at=NOW,
                version=1, cohort="live", request={}, features={}, value=0.5,
            )
        ]
    )  # fmt: skip
    done = {
        part.kind: part.removed
        for part in prune_records(store, Retention(truths_days=30), {"reviews": None}, now=NOW, actor="me")
    }
    assert (done["label_tasks"], done["annotations"]) == (1, 1)
    assert {one.key for one in store.label_tasks("reviews")} == {"new", "asked"}
    assert {one.key for one in store.annotations("reviews")} == {"new", "asked"}
