"""From what annotators said to a truth."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.labelling.settling import Settled, settle
from ninefold.labels import Annotation, LabellingInterface, LabelTask, Outcome

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CHOICE = LabellingInterface(title="t", question="q", show=("x",), choices={"great": 1.0, "other": 0.0})
NUMBER = LabellingInterface(title="t", question="q", show=("x",), minimum=0, maximum=100, spread=5.0)
TASK = LabelTask(
    task_id="t1", use_case="reviews", key="k1", prediction_id="p1", batch="b", sampler="random", reason="why",
    score=None, inclusion_probability=None, sent_at=NOW,
)  # fmt: skip


def said(
    who: str,
    value: float | None,
    minute: int = 0,
    outcome: Outcome | None = None,
    interface: LabellingInterface = CHOICE,
) -> Annotation:
    return Annotation(
        annotation_id=f"{who}-{minute}", use_case="reviews", task_id="t1", key="k1", annotator=who, value=value,
        outcome=outcome or ("skipped" if value is None else "labelled"), said_at=NOW + timedelta(minutes=minute),
        received_at=NOW,
    )  # fmt: skip


def settled(*annotations: Annotation, interface: LabellingInterface = CHOICE) -> Settled:
    [one] = settle(interface, [TASK], annotations)
    return one


def asking(annotators: int, spread: float | None = None) -> LabellingInterface:
    return LabellingInterface(
        title="t", question="q", show=("x",), choices={"great": 1.0, "other": 0.0}, annotators=annotators
    )


def test_one_answer_is_a_truth_with_its_author_and_time() -> None:
    truth = settled(said("jo", 1.0, 3)).truth(NOW + timedelta(hours=1))
    assert truth is not None
    assert (truth.source, truth.annotator, truth.value, truth.known_at) == (
        "labeller", "jo", 1.0, NOW + timedelta(minutes=3),
    )  # fmt: skip
    assert truth.note is None


@pytest.mark.parametrize(
    ("annotations", "state", "value"),
    [
        ([], "unanswered", None),
        ([said("jo", None)], "skipped", None),
        ([said("jo", None, outcome="outside")], "outside", None),
        ([said("jo", None, outcome="outside"), said("al", None)], "outside", None),
        ([said("jo", None), said("al", 0.0)], "settled", 0.0),
        ([said("jo", 1.0), said("al", 0.0)], "conflicting", None),
        ([said("jo", 1.0), said("al", 0.0), said("bo", 1.0)], "settled", 1.0),
        ([said("jo", 1.0), said("al", 0.0), said("bo", 1.0), said("mo", 0.0)], "conflicting", None),
    ],
)
def test_more_than_half_of_the_answers_settle_a_choice(
    annotations: list[Annotation], state: str, value: float | None
) -> None:
    one = settled(*annotations)
    assert (one.state, one.value) == (state, value)
    assert (one.truth(NOW) is None) == (value is None)


def test_a_changed_mind_supersedes_and_an_older_word_does_not() -> None:
    assert settled(said("jo", 1.0, 1), said("jo", 0.0, 2)).value == 0.0
    assert settled(said("jo", 1.0, 2), said("jo", 0.0, 1)).value == 1.0
    assert settled(said("jo", 1.0, 1), said("jo", None, 2)).state == "skipped"
    assert settled(said("jo", 1.0, 1), said("jo", None, 2, "outside")).state == "outside"


def test_it_waits_for_as_many_as_are_asked_for() -> None:
    one = settled(said("jo", 1.0), interface=asking(2))
    assert (one.state, one.value) == ("waiting", None)
    both = settled(said("jo", 1.0, 1), said("al", 1.0, 2), interface=asking(2))
    truth = both.truth(NOW)
    assert truth is not None
    assert (truth.annotator, truth.note, truth.known_at) == ("al, jo", "2 of 2 annotators.", NOW + timedelta(minutes=2))


def test_the_annotators_of_a_choice_are_those_who_said_it() -> None:
    truth = settled(said("jo", 1.0), said("al", 0.0), said("bo", 1.0)).truth(NOW)
    assert truth is not None
    assert (truth.annotator, truth.note) == ("bo, jo", "2 of 3 annotators.")


@pytest.mark.parametrize(
    ("numbers", "state", "value"),
    [([10.0, 12.0, 14.0], "settled", 12.0), ([10.0, 14.0], "settled", 12.0), ([10.0, 15.1], "conflicting", None)],
)
def test_numbers_settle_on_their_median_within_the_spread(
    numbers: list[float], state: str, value: float | None
) -> None:
    one = settled(*(said(f"a{i}", number) for i, number in enumerate(numbers)), interface=NUMBER)
    assert (one.state, one.value) == (state, value)


@given(st.permutations([said("jo", 1.0, 1), said("al", 0.0, 2), said("bo", 1.0, 3), said("jo", 0.0, 0)]))
def test_the_order_in_which_annotations_come_changes_nothing(annotations: list[Annotation]) -> None:
    one, ordered = settled(*annotations), settled(*sorted(annotations, key=lambda a: a.said_at))
    assert one == ordered
    assert one.truth(NOW) == ordered.truth(NOW)


def test_of_other_tasks_nothing_counts() -> None:
    other = Annotation(
        annotation_id="x", use_case="reviews", task_id="t2", key="k2", annotator="jo", value=1.0, outcome="labelled",
        said_at=NOW, received_at=NOW,
    )  # fmt: skip
    assert settled(other).state == "unanswered"
