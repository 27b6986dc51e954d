"""From what annotators said of a task to its truth, by rule; or why there is none.

Only answers that the interface offers are votes. Choices: what more than half of the votes say. Numbers: their median,
where they lie within the declared spread. Ties and votes too far apart stay unsettled until somebody else says
something, or changes their mind.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ninefold.labels import Annotation, LabellingInterface, LabelTask, newest_of_each
from ninefold.records import Truth, derived_id

State = Literal["unanswered", "waiting", "settled", "conflicting", "skipped", "outside"]
"""What became of a task. ``waiting``: fewer votes than the interface asks for; ``conflicting``: enough, and no truth.

``skipped`` and ``outside``: nobody gave an answer that the interface offers, and that is what they did instead.
"""

_LONGEST_NAMES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How a task stands.

    Args:
        task: The task.
        state: What became of it.
        said: The newest word of each annotator, oldest first.
        agreeing: Those that make the truth: of numbers all votes, as the median is of all.
        value: What they settled on; None unless ``settled``.
    """

    task: LabelTask
    state: State
    said: tuple[Annotation, ...]
    agreeing: tuple[Annotation, ...]
    value: float | None

    @property
    def votes(self) -> list[Annotation]:
        """The words that count: answers that the interface offers."""
        return _votes(self.said)

    @property
    def values(self) -> list[float]:
        """The votes' values."""
        return _values(self.votes)

    def truth(self, received_at: datetime) -> Truth | None:
        """The truth that they settled on; None unless ``settled``. The same votes make the same truth.

        Args:
            received_at: When it is kept.
        """
        if self.value is None:
            return None
        votes = self.votes
        names = ", ".join(sorted({vote.annotator for vote in self.agreeing}))
        return Truth(
            truth_id=derived_id(
                "label", self.task.use_case, self.task.key, repr(self.value),
                *sorted(vote.annotation_id for vote in votes),
            ),
            use_case=self.task.use_case,
            key=self.task.key,
            value=self.value,
            known_at=votes[-1].said_at,
            received_at=received_at,
            source="labeller",
            annotator=names if len(names) <= _LONGEST_NAMES else f"{names[: _LONGEST_NAMES - 1]}…",
            note=f"{len(self.agreeing)} of {len(votes)} annotators." if len(votes) > 1 else None,
        )  # fmt: skip


def settle(
    interface: LabellingInterface, tasks: Iterable[LabelTask], annotations: Iterable[Annotation]
) -> list[Settled]:
    """How each task stands, in the tasks' order.

    Args:
        interface: How many have to answer, and how far apart numbers may lie.
        tasks: The tasks.
        annotations: All that was said, superseded answers too; what belongs to none of the tasks is left out.
    """
    newest = newest_of_each(annotations)
    return [_settled(interface, task, newest.get(task.task_id, {}).values()) for task in tasks]


def _settled(interface: LabellingInterface, task: LabelTask, newest: Collection[Annotation]) -> Settled:
    said = tuple(sorted(newest, key=lambda one: (one.said_at, one.annotation_id)))
    votes = _votes(said)
    value = _value(interface, _values(votes)) if len(votes) >= interface.annotators else None
    state: State
    if value is not None:
        state = "settled"
    elif votes:
        state = "conflicting" if len(votes) >= interface.annotators else "waiting"
    else:
        outcomes = {one.outcome for one in said}
        state = "outside" if "outside" in outcomes else "skipped" if outcomes else "unanswered"
    agreeing = [vote for vote in votes if value is not None and (not interface.choices or vote.value == value)]
    return Settled(task=task, state=state, said=said, agreeing=tuple(agreeing), value=value)


def _votes(said: Iterable[Annotation]) -> list[Annotation]:
    return [one for one in said if one.outcome == "labelled" and one.value is not None]


def _values(votes: Iterable[Annotation]) -> list[float]:
    return [vote.value for vote in votes if vote.value is not None]


def _value(interface: LabellingInterface, votes: Sequence[float]) -> float | None:
    if interface.choices:
        [(value, count)] = Counter(votes).most_common(1)
        return value if 2 * count > len(votes) else None
    if interface.spread is not None and max(votes) - min(votes) > interface.spread:
        return None
    return statistics.median(votes)
