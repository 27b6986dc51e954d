"""Bringing what experts said into the store: annotations, and the truths that they settle. It can be done again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from components.labeller.agreement import Agreement, agreement
from components.labeller.label_studio import LabelStudio
from components.labeller.projects import find_project, interface_of
from ninefold.errors import InvalidInput, NotFound
from ninefold.labelling.answers import annotation_from, person_in, task_named
from ninefold.labelling.keeping import keep_annotations
from ninefold.labelling.settling import Settled, State
from ninefold.labels import Annotation, LabellingInterface
from ninefold.store.store import Store
from ninefold.usecase import UseCase

STATES: Mapping[State, str] = {
    "settled": "have a truth",
    "waiting": "wait for more annotators",
    "conflicting": "are in conflict: a tie, or numbers too far apart",
    "skipped": "were skipped",
    "outside": "got an answer that the interface does not offer",
    "unanswered": "nobody has answered",
}
"""State of a task → what it means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotator:
    """What one person did, by their newest word on each task.

    Args:
        name: As Label Studio names them.
        labelled: Tasks that they answered.
        skipped: Tasks that they skipped.
        outside: Tasks that they answered with what the interface does not offer.
        compared: Of the answered ones, those that others answered too and that are settled.
        agreed: Of the compared ones, those where they said what was settled on.
    """

    name: str
    labelled: int
    skipped: int
    outside: int
    compared: int
    agreed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection brought.

    Args:
        annotations: Annotations that were not kept yet.
        truths: Truths that were not kept yet.
        states: State → number of tasks.
        agreement: How far annotators agree.
        annotators: What each did, by name.
        unknown: Annotations of tasks that Ninefold did not send.
        unreadable: Annotations without author, number or time.
        erased: Tasks that were removed from Label Studio, as their key was erased.
    """

    annotations: int
    truths: int
    states: Mapping[State, int]
    agreement: Agreement
    annotators: tuple[Annotator, ...]
    unknown: int
    unreadable: int
    erased: int


def collect(store: Store, use_case: UseCase, studio: LabelStudio, *, now: datetime) -> Collected:
    """Collects a use case's annotations.

    Args:
        store: The production database.
        use_case: Declares what may be answered.
        studio: Label Studio.
        now: When it is done.

    Raises:
        UsageError: The use case declares no labelling interface.
        NotFound: Nothing was ever sent.
        Unavailable: Label Studio does not answer; what was kept is kept, and the call can be repeated.
    """
    interface = interface_of(use_case)
    found = find_project(studio, use_case)
    if found is None:
        raise NotFound(
            f"Label Studio at {studio.url} has no project of {use_case.name}.",
            remedy="Send tasks first: ninefold label send",
        )
    tasks = store.label_tasks(use_case.name)
    known = {task.task_id: task for task in tasks}
    said: list[Annotation] = []
    strangers: list[dict[str, Any]] = []
    unreadable = 0
    everything = list(studio.tasks(int(found["id"])))
    people = studio.people() | dict(
        person for theirs in everything for one in theirs.get("annotations") or () if (person := person_in(one))
    )
    # So that the collector, whom the webhook tells numbers alone, knows them from now on.
    store.record_annotators(people)
    for theirs in everything:
        task = known.get(task_named(theirs) or "")
        if task is None:
            strangers.append(theirs)
            continue
        for one in theirs.get("annotations") or ():
            try:
                said.append(annotation_from(interface, task, one, people, received_at=now))
            except InvalidInput:
                unreadable += 1
    erased = _forget(store, use_case.name, studio, strangers)
    kept = keep_annotations(store, interface, tasks, said, now=now)
    states = Counter(one.state for one in kept.settled)
    return Collected(
        annotations=kept.new,
        truths=kept.truths,
        states={state: states[state] for state in STATES},
        agreement=agreement_of(interface, kept.settled),
        annotators=_annotators(interface, kept.settled),
        unknown=sum(len(task.get("annotations") or ()) for task in strangers if task["id"] not in erased),
        unreadable=unreadable,
        erased=len(erased),
    )


def agreement_of(interface: LabellingInterface, settled: Sequence[Settled]) -> Agreement:
    """How far annotators agree, over all tasks that several of them answered."""
    return agreement((one.values for one in settled), "nominal" if interface.choices else "interval")


def _forget(store: Store, use_case: str, studio: LabelStudio, tasks: list[dict[str, Any]]) -> set[int]:
    """Removes what Label Studio still has of erased keys; the numbers of those tasks."""
    keys = {task["id"]: task["data"].get("key") for task in tasks if task_named(task) is not None}
    gone = store.erased_keys(use_case, {key for key in keys.values() if isinstance(key, str)})
    numbers = {int(number) for number, key in keys.items() if key in gone}
    for number in numbers:
        studio.delete_task(number)
    return numbers


def _annotators(interface: LabellingInterface, settled: Sequence[Settled]) -> tuple[Annotator, ...]:
    counts: dict[str, Counter[str]] = {}
    for one in settled:
        # Of numbers all make the median, so there is nothing that one would agree with.
        compared = bool(interface.choices) and one.state == "settled" and len(one.votes) > 1
        agreeing = {vote.annotation_id for vote in one.agreeing}
        for word in one.said:
            of_one = counts.setdefault(word.annotator, Counter())
            of_one[word.outcome] += 1
            if compared and word.outcome == "labelled":
                of_one["compared"] += 1
                of_one["agreed"] += word.annotation_id in agreeing
    return tuple(
        Annotator(
            name=name,
            labelled=of_one["labelled"],
            skipped=of_one["skipped"],
            outside=of_one["outside"],
            compared=of_one["compared"],
            agreed=of_one["agreed"],
        )
        for name, of_one in sorted(counts.items())
    )
