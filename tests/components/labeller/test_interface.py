"""What experts see: nothing that anybody wrote becomes a tag or a variable."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.labeller.interface import label_config, project, task_document
from ninefold.errors import ConfigurationError
from ninefold.labelling.answers import annotation_from
from ninefold.labels import LabellingInterface, LabelTask
from ninefold.loading import load_use_case
from ninefold.records import Prediction
from ninefold.usecase import UseCase

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REVIEWS = load_use_case("reviews")
CHURN = load_use_case("churn")
STAYS = LabellingInterface(
    title="A customer", question="Leaves?", show=("customer_id", "customer__tenure", "customer__total_charges"),
    choices={"leaves": 1.0, "stays": 0.0},
)  # fmt: skip
HOURS = LabellingInterface(title="A customer", question="How many?", show=("customer_id",), minimum=0, maximum=9.5)


def task(use_case: str) -> LabelTask:
    return LabelTask(
        task_id="t1", use_case=use_case, key="k1", prediction_id="p1", batch="b1", sampler="uncertain",
        reason="The model is unsure.", score=0.9, inclusion_probability=1.0, sent_at=NOW,
    )  # fmt: skip


def prediction(use_case: UseCase, value: float, **request: object) -> Prediction:
    return Prediction(
        prediction_id="p1", use_case=use_case.name, request_id=None, key="k1", decided_at=NOW, received_at=NOW,
        version=4, cohort="live", request=request, value=value,
        features={"customer__tenure": 3.0, "customer__total_charges": None} if use_case is CHURN else {},
    )  # fmt: skip


def interface_of(use_case: UseCase) -> LabellingInterface:
    assert use_case.labelling is not None
    return use_case.labelling


def test_a_review_is_shown_with_why_and_what_the_model_said() -> None:
    interface = interface_of(REVIEWS)
    document = task_document(REVIEWS, interface, task("reviews"), prediction(REVIEWS, 0.47, input="Good <b>tea</b> $5"))
    data = document["data"]
    assert data["shown_input"] == "Good <b>tea</b> $5"
    assert data["why"] == "Why this one: The model is unsure."
    assert data["model"] == "Version 4 answered: other, with a probability of 0.53."
    assert document["predictions"][0]["model_version"] == "reviews-v4"
    config = ElementTree.fromstring(label_config(REVIEWS, interface))
    assert [choice.get("value") for choice in config.iter("Choice")] == ["great", "other"]
    # Every variable that the interface names is in the data.
    assert set(re.findall(r"\$(\w+)", label_config(REVIEWS, interface))) <= set(data)


def test_what_is_no_text_stands_in_a_table_with_units_and_gaps() -> None:
    document = task_document(CHURN, STAYS, task("churn"), prediction(CHURN, 0.2, customer_id=7.0))
    assert document["data"]["facts"] == {
        "customer id": "7", "customer: tenure (month)": "3", "customer: total charges (USD)": "not known",
    }  # fmt: skip
    assert "$facts" in label_config(CHURN, STAYS)


def test_a_number_is_asked_in_its_range() -> None:
    [number] = ElementTree.fromstring(label_config(CHURN, HOURS)).iter("Number")
    assert (number.get("min"), number.get("max"), number.get("name")) == ("0", "9.5", "answer")


def test_experts_have_to_say_something_of_their_own() -> None:
    assert project(REVIEWS, interface_of(REVIEWS))["show_collab_predictions"] is False


@given(st.text(min_size=1).filter(str.strip), st.text(min_size=1, max_size=50).filter(lambda t: t == t.strip()))
def test_any_words_make_a_readable_interface_without_variables(words: str, label: str) -> None:
    interface = LabellingInterface(title=words, question=words, show=("input",), choices={label: 1.0, label + "!": 0.0})
    written = label_config(REVIEWS, interface)
    config = ElementTree.fromstring(written)
    assert {element.tag for element in config.iter()} == {"View", "Header", "Text", "Choices", "Choice"}
    headers = [element.get("value", "") for element in config.iter("Header")]
    named = [name for value in headers for name in re.findall(r"\$[\w\[\].{}]+", value)]
    assert named == ["$why", "$model"]


@given(st.floats(0, 1))
def test_what_the_model_said_can_be_read_back_as_an_answer(value: float) -> None:
    interface = interface_of(REVIEWS)
    [said] = task_document(REVIEWS, interface, task("reviews"), prediction(REVIEWS, value, input="x"))["predictions"]
    if not said["result"]:
        return
    annotation = {"id": 1, "completed_by": 1, "updated_at": "2026-01-01T00:00:00Z", "result": said["result"]}
    read = annotation_from(interface, task("reviews"), annotation, {1: "model"}, received_at=NOW)
    assert (read.outcome, read.value) == ("labelled", float(value >= 0.5))
    assert 0.5 <= said["score"] <= 1.0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"show": ("prices",)}, "names prices"),
        ({"show": ()}, "shows nothing"),
        ({"show": ("input", "input")}, "twice"),
        ({"choices": {"great": 1.0}}, "one choice"),
        ({"choices": {"great": 1.0, "superb": 1.0}}, "two of the same value"),
        ({"choices": {"great": 1.0, "bad": -1.0}}, "can't be that"),
        ({"choices": {"great ": 1.0, "other": 0.0}}, "space around"),
        ({"choices": {}}, "offers no choices"),
        ({"choices": {}, "minimum": 0, "maximum": 1}, "offers numbers"),
        ({"minimum": 0}, "choices and a range"),
        ({"annotators": 0}, "at least one"),
        ({"question": " "}, "a title and a question"),
    ],
)
def test_an_interface_that_can_t_work_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        replace(REVIEWS, labelling=replace(interface_of(REVIEWS), **change))  # type: ignore[arg-type]
