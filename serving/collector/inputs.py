"""What came in, checked, before the writer gives it its times and makes records of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ninefold.errors import InvalidInput
from ninefold.records import TruthSource


class InvalidBatch(InvalidInput):
    """Items of a batch are wrong; nothing of it was kept.

    Args:
        errors: Of each item that is wrong, its first one.
        total: How many items there are.
    """

    def __init__(self, errors: Sequence[InvalidInput], *, total: int) -> None:
        first = errors[0]
        # The field stands in the first error's message already.
        super().__init__(first.field, first.message.removeprefix(f"{first.field}: "), remedy=first.remedy)
        self.errors = tuple(errors)
        self.total = total


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthInput:
    """A truth as it came.

    Args:
        id: What the producer calls it.
        key: ``entity_key`` of the request's key fields.
        value: In the target's unit; 0 or 1 for a class.
        known_at: When the producer knew it; None where it did not say.
        earliest: Instant before which nobody can have known it, where that is known.
        source: Who says so.
        annotator: The person.
        note: Free text.
    """

    id: str | None
    key: str
    value: float
    known_at: datetime | None
    earliest: datetime | None = None
    source: TruthSource = "system"
    annotator: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventInput:
    """An event as it came.

    Args:
        id: What the producer calls it.
        stream: Name of its stream.
        happened_at: When it happened.
        known_at: When it became known; None where the clock says so.
        values: The stream's fields, checked; times as text.
    """

    id: str | None
    stream: str
    happened_at: datetime
    known_at: datetime | None
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackInput:
    """What a user said of a prediction.

    Args:
        id: What the producer calls it.
        prediction_id: The prediction.
        value: What would have been right; None where the user does not say.
        text: In the user's words.
        user: Who.
        wrong: Whether the user calls it wrong, or right; None where the user says neither.
        known_at: When the user said so; None where the clock says so.
    """

    id: str | None
    prediction_id: str
    value: float | None
    text: str | None
    user: str | None
    wrong: bool | None
    known_at: datetime | None
