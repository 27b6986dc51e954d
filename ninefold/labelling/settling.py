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
        votes: The newest answer of each annotator that counts, oldest first.
        agreeing: Those of them that make the truth: of numbers all, as the median is of all.
        value: What they settled on; None unless ``settled``.
        said_at: When the last of them voted; None without votes.
        skipped: How many annotators skipped it at last.
        outside: How many gave an answer at last that the interface does not offer.
    """

    task: LabelTask
    state: State
    votes: tuple[Annotation, ...]
    agreeing: tuple[Annotation, ...]
    value: float | None
    said_at: datetime | None
    skipped: int
    outside: int

    @property
    def values(self) -> list[float]:
        """The votes' values."""
        return [vote.value for vote in self.votes if vote.value is not None]

    def truth(self, received_at: datetime) -> Truth | None:
        """The truth that they settled on; None unless ``settled``. The same votes make the same truth.

        Args:
            received_at: When it is kept.
        """
        if self.value is None or self.said_at is None:
            return None
        names = ", ".join(dict.fromkeys(vote.annotator for vote in self.agreeing))
        return Truth(
            truth_id=derived_id(
                "label", self.task.use_case, self.task.key, repr(self.value),
                *sorted(vote.annotation_id for vote in self.votes),
            ),
            use_case=self.task.use_case,
            key=self.task.key,
            value=self.value,
            known_at=self.said_at,
            received_at=received_at,
            source="labeller",
            annotator=names if len(names) <= _LONGEST_NAMES else f"{names[: _LONGEST_NAMES - 1]}…",
            note=f"{len(self.agreeing)} of {len(self.votes)} annotators." if len(self.votes) > 1 else None,
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


def _settled(interface: LabellingInterface, task: LabelTask, said: Collection[Annotation]) -> Settled:
    # What was an answer once is none when the interface no longer offers it.
    votes = sorted(
        (one for one in said if one.outcome == "labelled" and one.value is not None),
        key=lambda one: (one.said_at, one.annotation_id),
    )
    skipped = sum(one.outcome == "skipped" for one in said)
    outside = sum(one.outcome == "outside" for one in said)
    value = _value(interface, [vote.value for vote in votes if vote.value is not None])
    state: State
    if not votes:
        state = "outside" if outside else "skipped" if skipped else "unanswered"
    elif len(votes) < interface.annotators:
        state, value = "waiting", None
    else:
        state = "conflicting" if value is None else "settled"
    return Settled(
        task=task,
        state=state,
        votes=tuple(votes),
        agreeing=tuple(vote for vote in votes if not interface.choices or vote.value == value),
        value=value,
        said_at=votes[-1].said_at if votes else None,
        skipped=skipped,
        outside=outside,
    )


def _value(interface: LabellingInterface, votes: Sequence[float]) -> float | None:
    if not votes:
        return None
    if interface.choices:
        [(value, count)] = Counter(votes).most_common(1)
        return value if 2 * count > len(votes) else None
    if interface.spread is not None and max(votes) - min(votes) > interface.spread:
        return None
    return statistics.median(votes)
