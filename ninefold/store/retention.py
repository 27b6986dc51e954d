"""What is too old to keep: a cut-off a kind and use case, and the rules that hold one back.

An age is counted by a record's own time and by when it was received: what arrived today about last year is new.

- A prediction that an open rollout is judged on stays.
- A truth stays while a prediction of its key is kept, and as long as a prediction of its age would be.
- An event stays while the longest window at now, or at the oldest prediction that is kept, can see it: a training run
  computes the windows of kept predictions anew, and an event that is missing would be counted as none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ninefold.clock import parse_duration
from ninefold.settings import Retention
from ninefold.usecase import UseCase


@dataclass(frozen=True, slots=True)
class Cutoff:
    """What lies before an instant goes.

    Args:
        before: The instant.
        held_by: What keeps it from being later; empty when the policy alone says so.
    """

    before: datetime
    held_by: str = ""


def longest_window(use_case: UseCase, lengths: Iterable[Mapping[str, str]]) -> timedelta:
    """The longest window that is declared, that tuning may try, or that any version needs, retired ones included.

    A retired version can go live again, and its windows are then filled from the log.

    Args:
        use_case: Declares the windows.
        lengths: Of each version, window name → length.
    """
    declared = [length for window in use_case.windows for length in (window.length, *window.lengths)]
    needed = [parse_duration(text) for version in lengths for text in version.values()]
    return max([*declared, *needed], default=timedelta(0))


def predictions_cutoff(policy: Retention, now: datetime, rollout_since: datetime | None) -> Cutoff | None:
    """The predictions' cut-off; None keeps all.

    Args:
        policy: How long each kind is kept.
        now: The instant that ages are counted to.
        rollout_since: When the oldest open rollout was opened.
    """
    if policy.predictions_days is None:
        return None
    return _earliest(_ago(now, policy.predictions_days), (rollout_since, "a rollout that is open"))


def truths_cutoff(policy: Retention, now: datetime, predictions: Cutoff | None) -> Cutoff | None:
    """The truths' cut-off; None keeps all. A truth of a key that has a kept prediction stays in any case."""
    if policy.truths_days is None:
        return None
    before = None if predictions is None else predictions.before
    return _earliest(_ago(now, policy.truths_days), (before, "the predictions' retention"))


def events_cutoff(
    policy: Retention, now: datetime, longest: timedelta, oldest_prediction: datetime | None
) -> Cutoff | None:
    """The events' cut-off; None keeps all.

    Args:
        policy: How long each kind is kept.
        now: The instant that ages are counted to.
        longest: The longest window; 0 where there is none.
        oldest_prediction: Decision moment of the oldest prediction that is kept; None where none is.
    """
    if policy.events_days is None:
        return None
    holds: list[tuple[datetime | None, str]] = []
    if longest:
        holds.append((now - longest, "the longest window"))
        if oldest_prediction is not None:
            holds.append((oldest_prediction - longest, "the longest window of the oldest prediction that is kept"))
    return _earliest(_ago(now, policy.events_days), *holds)


def cutoff(days: float | None, now: datetime) -> Cutoff | None:
    """The cut-off of a kind that nothing holds back; None keeps all."""
    return None if days is None else Cutoff(_ago(now, days))


def _ago(now: datetime, days: float) -> datetime:
    return now - timedelta(days=days)


def _earliest(wanted: datetime, *holds: tuple[datetime | None, str]) -> Cutoff:
    found = Cutoff(wanted)
    for before, why in holds:
        if before is not None and before < found.before:
            found = Cutoff(before, why)
    return found
