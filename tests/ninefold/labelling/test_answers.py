"""What Label Studio says of an annotation, as a record."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.errors import InvalidInput, NotAuthenticated
from ninefold.labelling.answers import UnknownAnnotator, annotation_from, person_in, task_named
from ninefold.labelling.webhook import admit, read_call
from ninefold.labels import Annotation, LabellingInterface, LabelTask

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CHOICE = LabellingInterface(title="t", question="q", show=("x",), choices={"great": 1.0, "other": 0.0})
NUMBER = LabellingInterface(title="t", question="q", show=("x",), minimum=0, maximum=100)
TASK = LabelTask(
    task_id="t1", use_case="reviews", key="k1", prediction_id="p1", batch="b", sampler="random", reason="why",
    score=None, inclusion_probability=None, sent_at=NOW,
)  # fmt: skip
PEOPLE = {7: "jo@example.com"}


def annotation(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": 5, "result": list(parts), "created_username": "Jo Doe jo@example.com, 7", "completed_by": 7,
        "was_cancelled": False, "updated_at": "2026-02-28T11:54:37.676558Z", **more,
    }  # fmt: skip


def choice(*labels: Any, name: str = "answer") -> dict[str, Any]:
    return {"from_name": name, "to_name": "shown_x", "type": "choices", "value": {"choices": list(labels)}}


def number(value: Any) -> dict[str, Any]:
    return {"from_name": "answer", "to_name": "shown_x", "type": "number", "value": {"number": value}}


def read(said: dict[str, Any], interface: LabellingInterface = CHOICE) -> Annotation:
    return annotation_from(interface, TASK, said, PEOPLE, received_at=NOW)


def test_a_choice_and_a_number_are_read() -> None:
    one = read(annotation(choice("great")))
    assert (one.outcome, one.value, one.label, one.annotator, one.key) == (
        "labelled", 1.0, "great", "jo@example.com", "k1",
    )  # fmt: skip
    assert one.said_at == datetime(2026, 2, 28, 11, 54, 37, 676558, tzinfo=UTC)
    assert read(annotation(number(12.5)), NUMBER).value == 12.5


@pytest.mark.parametrize(
    ("said", "interface", "label"),
    [
        (annotation(choice("superb")), CHOICE, "superb"),
        (annotation(choice("great", "other")), CHOICE, "great, other"),
        (annotation(choice("great", name="mood")), CHOICE, "great"),
        (annotation(), CHOICE, ""),
        (annotation(number(1)), CHOICE, "1"),
        (annotation(choice(1)), CHOICE, "1"),
        (annotation(number(100.5)), NUMBER, "100.5"),
        (annotation(number(True)), NUMBER, ""),
        (annotation(result=None), CHOICE, ""),
        (annotation(result=["?", {"from_name": "answer"}]), CHOICE, ""),
        (annotation(choice("gr\0eat" + "!" * 500)), CHOICE, ("great" + "!" * 500)[:200]),
    ],
)
def test_what_the_interface_does_not_offer_is_outside_and_kept(
    said: dict[str, Any], interface: LabellingInterface, label: str
) -> None:
    one = read(said, interface)
    assert (one.outcome, one.value, one.label) == ("outside", None, label)


def test_a_skipped_task_says_nothing() -> None:
    one = read(annotation(choice("great"), was_cancelled=True))
    assert (one.outcome, one.value, one.label) == ("skipped", None, None)


def test_the_same_annotation_has_one_id_and_a_changed_one_another() -> None:
    first = read(annotation(choice("great")))
    assert read(annotation(choice("great"))) == first
    assert read(annotation(choice("great"), updated_at="2026-02-28T11:55:00Z")).annotation_id != first.annotation_id


def test_the_webhook_s_annotation_is_the_api_s() -> None:
    by_webhook = annotation(choice("great"))
    del by_webhook["created_username"]
    assert read(by_webhook) == read(annotation(choice("great")))
    with pytest.raises(UnknownAnnotator, match="number 8"):
        read({**by_webhook, "completed_by": 8})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": None}, "annotation.id"), ({"id": True}, "annotation.id"), ({"updated_at": 3}, "annotation.updated_at"),
        ({"updated_at": "soon"}, "annotation.updated_at"), ({"completed_by": None}, "annotation.completed_by"),
    ],
)  # fmt: skip
def test_what_is_no_annotation_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(annotation(choice("great"), **change))
    assert refused.value.field == field


def test_who_it_was_stands_at_the_end_of_the_name() -> None:
    assert person_in({"created_username": " admin@localhost, 1"}) == (1, "admin@localhost")
    assert person_in({"created_username": "Doe, Jo jo@example.com, 12"}) == (12, "jo@example.com")
    assert person_in({"created_username": ""}) is person_in({}) is None


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["id", "result", "updated_at", "completed_by", "was_cancelled"]), json))
def test_whatever_comes_is_read_or_refused(said: dict[str, Any]) -> None:
    try:
        one = read({**annotation(choice("great")), **said})
    except InvalidInput:
        return
    assert (one.value is not None) == (one.outcome == "labelled")


@given(json)
def test_a_call_is_read_or_refused(body: Any) -> None:
    try:
        told = read_call(body)
    except InvalidInput:
        return
    assert told is None


def test_a_call_names_its_task_and_other_actions_are_no_news() -> None:
    body = {"action": "ANNOTATION_UPDATED", "annotation": {"id": 1}, "task": {"data": {"ninefold_task": "t1"}}}
    told = read_call(body)
    assert told is not None
    assert (told.task_id, told.annotation) == ("t1", {"id": 1})
    assert read_call({"action": "PROJECT_UPDATED"}) is None
    assert task_named({"data": {"ninefold_task": 3}}) is task_named({"data": []}) is None


def test_only_the_secret_is_let_in() -> None:
    admit("right", [(b"x-ninefold-webhook", b"right")])
    for secret, headers in (
        ("right", []), ("right", [(b"x-ninefold-webhook", b"wrong")]), ("right", [(b"x-ninefold-webhook", b"")]),
        (None, [(b"x-ninefold-webhook", b"None")]), (None, []),
    ):  # fmt: skip
        with pytest.raises(NotAuthenticated):
            admit(secret, headers)
