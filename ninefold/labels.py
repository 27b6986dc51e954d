"""What people are asked to judge, and what they said: the labelling interface, tasks, annotations.

A use case declares what experts see and may answer (``LabellingInterface``). A ``LabelTask`` is one key that was given
to them, with why; an ``Annotation`` is what one of them said of it. Tasks and annotations are kept whatever becomes of
them; only what annotators agree on becomes a ``ninefold.records.Truth`` with source ``labeller``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ninefold.errors import ConfigurationError
from ninefold.records import derived_id

Outcome = Literal["labelled", "skipped", "outside"]
"""``outside``: an answer that the interface doesn't offer, as a project that was edited by hand allows."""

LONGEST_LABEL = 200
"""Characters that are kept of an answer's text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabellingInterface:
    """What experts see and what they may answer: choices, or a number in a range.

    Args:
        title: Heading over a task.
        question: What they are asked.
        show: What they see: request fields or features (``customer__tenure``), in order.
        choices: Label → the truth's value; empty where the answer is a number.
        minimum: Least number that may be answered, in the target's unit.
        maximum: Greatest number.
        spread: How far apart the numbers of several annotators may lie for their median to be a truth, in the target's
            unit; None for any distance.
        annotators: How many people have to answer before a key is settled.
        instructions: What they read before they begin; plain text.
    """

    title: str
    question: str
    show: tuple[str, ...]
    choices: Mapping[str, float] = field(default_factory=dict)
    minimum: float | None = None
    maximum: float | None = None
    spread: float | None = None
    annotators: int = 1
    instructions: str = ""

    def __post_init__(self) -> None:
        if not self.show or len(set(self.show)) != len(self.show):
            raise ConfigurationError("A labelling interface shows nothing, or something twice.")
        if not self.title.strip() or not self.question.strip():
            raise ConfigurationError("A labelling interface needs a title and a question.")
        if self.annotators < 1:
            raise ConfigurationError(
                f"A labelling interface asks {self.annotators} annotators; at least one is needed."
            )
        if self.choices:
            self._check_choices()
        elif self.minimum is None or self.maximum is None or not self.minimum < self.maximum:
            raise ConfigurationError(
                f"A labelling interface offers no choices, and no numbers between {self.minimum} and {self.maximum}.",
                remedy="Declare choices, or a minimum and a greater maximum.",
            )
        if self.spread is not None and not self.spread >= 0:
            raise ConfigurationError(f"A labelling interface has a spread of {self.spread}.", remedy="Use 0 or more.")

    def _check_choices(self) -> None:
        if len(self.choices) < 2 or len(set(self.choices.values())) != len(self.choices):
            raise ConfigurationError("A labelling interface offers one choice, or two of the same value.")
        if self.minimum is not None or self.maximum is not None or self.spread is not None:
            raise ConfigurationError(
                "A labelling interface offers choices and a range of numbers; declare one of them."
            )
        for label, value in self.choices.items():
            if not label.strip() or len(label) > LONGEST_LABEL or label != label.strip():
                raise ConfigurationError(f"The label {label!r} is empty, too long, or has space around it.")
            if not math.isfinite(value):
                raise ConfigurationError(f"The label {label!r} stands for {value}, which is not finite.")

    def value_of(self, answer: str | float | None) -> float | None:
        """The truth's value behind an answer; None for one that the interface doesn't offer."""
        if self.choices:
            return float(self.choices[answer]) if isinstance(answer, str) and answer in self.choices else None
        if isinstance(answer, bool) or not isinstance(answer, (int, float)) or not math.isfinite(answer):
            return None
        low, high = self.minimum, self.maximum
        return float(answer) if low is not None and high is not None and low <= answer <= high else None

    def label_of(self, value: float) -> str | None:
        """The label behind a truth's value; None where there is none."""
        return next((label for label, meant in self.choices.items() if meant == value), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTask:
    """One key that experts were asked about.

    Args:
        task_id: ``label_task_id``: a key is asked about once, however often it is picked.
        use_case: Name of the use case.
        key: ``entity_key`` of the request's key fields.
        prediction_id: The prediction that it was picked by and that experts see; None where there is none.
        batch: Which call sent it: all tasks of a batch were picked together.
        sampler: What picked it (``uncertainty``, ``random``, ``keys``, ``where``).
        reason: Why, in words for the expert.
        score: The sampler's number, the higher the more wanted; None where it has none.
        inclusion_probability: With which chance it was picked, 0–1, where chance decided; None where it didn't.
        sent_at: When it was sent.
    """

    task_id: str
    use_case: str
    key: str
    prediction_id: str | None
    batch: str
    sampler: str
    reason: str
    score: float | None
    inclusion_probability: float | None
    sent_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """What one person said of one task, once. Who changes their mind makes another annotation; the newest counts.

    Args:
        annotation_id: Minted from the labelling tool's id and the instant of the change.
        use_case: Name of the use case.
        task_id: The task.
        key: Its key.
        annotator: Who said so, as the labelling tool names them.
        value: The truth's value that was said; None unless ``labelled``.
        outcome: ``labelled``; ``skipped``; or ``outside``, an answer that the interface doesn't offer.
        said_at: When it was said or last changed.
        received_at: When it was collected.
        label: The answer as the expert gave it, shortened; None for a skipped one.
    """

    annotation_id: str
    use_case: str
    task_id: str
    key: str
    annotator: str
    value: float | None
    outcome: Outcome
    said_at: datetime
    received_at: datetime
    label: str | None = None


def label_task_id(use_case: str, key: str) -> str:
    """The id of the task that asks about a key."""
    return derived_id("label task", use_case, key)


def newest_of_each(annotations: Iterable[Annotation]) -> dict[str, dict[str, Annotation]]:
    """Task → annotator → what they said last: of two said at the same instant, the one with the greater id."""
    newest: dict[str, dict[str, Annotation]] = {}
    for one in annotations:
        of_task = newest.setdefault(one.task_id, {})
        known = of_task.get(one.annotator)
        if known is None or (one.said_at, one.annotation_id) > (known.said_at, known.annotation_id):
            of_task[one.annotator] = one
    return newest
