"""What Label Studio says of an annotation, read as a record: the same from its API and from its webhook.

Nothing of it is trusted: a project can be edited by hand, and whoever has the webhook's secret can send what they like.
Which task is meant is said by ``ninefold_task`` in the task's data, and counts only where the store knows such a task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ninefold.clock import parse_instant
from ninefold.errors import InvalidInput
from ninefold.labels import LONGEST_LABEL, Annotation, LabellingInterface, LabelTask, Outcome
from ninefold.records import derived_id

CONTROL = "answer"
"""Name of the control that experts answer with, in the project's labelling interface."""

TASK_FIELD = "ninefold_task"
"""Field of a task's data that names the ``LabelTask``."""

_LONGEST_NAME = 256


class UnknownAnnotator(InvalidInput):
    """An annotation's author is known by a number alone."""


def task_named(task: Mapping[str, Any]) -> str | None:
    """Id of the ``LabelTask`` that a task of Label Studio names; None where it names none."""
    data = task.get("data")
    named = data.get(TASK_FIELD) if isinstance(data, dict) else None
    return named if isinstance(named, str) and 0 < len(named) <= _LONGEST_NAME else None


def annotation_from(
    interface: LabellingInterface,
    task: LabelTask,
    said: Mapping[str, Any],
    people: Mapping[int, str],
    *,
    received_at: datetime,
) -> Annotation:
    """Reads one annotation.

    Args:
        interface: What may be answered.
        task: The task that it is about.
        said: Label Studio's annotation, as JSON.
        people: Label Studio's number of a person → name.
        received_at: When it came.

    Raises:
        InvalidInput: It is no annotation: number, author or time is missing.
    """
    number = said.get("id")
    if isinstance(number, bool) or not isinstance(number, int):
        raise InvalidInput("annotation.id", f"{number!r:.60} is no number of an annotation.")
    changed = said.get("updated_at") or said.get("created_at")
    if not isinstance(changed, str):
        raise InvalidInput("annotation.updated_at", f"{changed!r:.60} is no time.")
    said_at = parse_instant(changed, field="annotation.updated_at")
    value, label, outcome = _answer(interface, said)
    return Annotation(
        annotation_id=derived_id("label studio", task.task_id, str(number), said_at.isoformat()),
        use_case=task.use_case,
        task_id=task.task_id,
        key=task.key,
        annotator=_annotator(said, people),
        value=value,
        outcome=outcome,
        said_at=said_at,
        received_at=received_at,
        label=label,
    )


def _answer(interface: LabellingInterface, said: Mapping[str, Any]) -> tuple[float | None, str | None, Outcome]:
    """The truth's value, what was said as text, and which of the outcomes it is."""
    if said.get("was_cancelled"):
        return None, None, "skipped"
    result = said.get("result")
    parts = [part for part in result if isinstance(part, dict)] if isinstance(result, list) else []
    answers = [answer for part in parts if part.get("from_name") == CONTROL for answer in _said_in(part)]
    if len(answers) == 1 and (value := interface.value_of(answers[0])) is not None:
        return value, _text(answers[0]), "labelled"
    # Several answers to one question, none, or the answer to another question, of a control that was added by hand.
    other = answers or [answer for part in parts for answer in _said_in(part)]
    return None, ", ".join(_text(answer) for answer in other)[:LONGEST_LABEL], "outside"


def _said_in(part: Mapping[str, Any]) -> list[str | float]:
    """Choices, or a number, in one part of an annotation's result."""
    given = part.get("value")
    if not isinstance(given, dict):
        return []
    choices = given.get("choices")
    if isinstance(choices, list):
        return [choice if isinstance(choice, str) else repr(choice) for choice in choices]
    number = given.get("number")
    if isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number):
        return [number]
    return []


def _text(answer: str | float) -> str:
    # PostgreSQL keeps no text that holds a NUL.
    text = answer.replace("\0", "") if isinstance(answer, str) else f"{answer:g}"
    return text[:LONGEST_LABEL]


def person_in(said: Mapping[str, Any]) -> tuple[int, str] | None:
    """Number and address of an annotation's author, where it tells both: the API does, the webhook does not.

    They stand at the end of ``created_username``: ``Jo Doe jo@example.com, 7``.
    """
    words, _, number = str(said.get("created_username") or "").rpartition(",")
    if not number.strip().isdecimal() or not words.split():
        return None
    return int(number), words.split()[-1].replace("\0", "")[:_LONGEST_NAME]


def _annotator(said: Mapping[str, Any], people: Mapping[int, str]) -> str:
    """Raises InvalidInput where nobody knows who it was."""
    by = said.get("completed_by")
    number = by.get("id") if isinstance(by, dict) else by
    if isinstance(number, bool) or not isinstance(number, int):
        raise InvalidInput("annotation.completed_by", f"{by!r:.60} names nobody.")
    if number not in people:
        raise UnknownAnnotator(
            "annotation.completed_by", f"nobody knows who number {number} is.",
            remedy="The next `ninefold label collect` learns it.",
        )  # fmt: skip
    return people[number]
