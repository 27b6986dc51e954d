"""Sending tasks to experts: first into the store, then into Label Studio, each once, whatever breaks on the way.

The store says what was to be sent, Label Studio's project what came in. Every send brings in what is missing there, and
so goes on where the last one broke off, or where somebody deleted the project.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from components.labeller.connection import webhook
from components.labeller.interface import task_document
from components.labeller.label_studio import Interrupted, LabelStudio
from components.labeller.projects import ensure_project, ensure_webhook, interface_of
from components.labeller.selection import predictions_of
from ninefold.errors import Unavailable
from ninefold.labelling.answers import task_named
from ninefold.labelling.settling import settle
from ninefold.labels import LabelTask
from ninefold.settings import Settings
from ninefold.store.store import Store
from ninefold.usecase import UseCase

Tell = Callable[[str], None]

_BATCH = 100
_ROUNDS = 10
"""So often an import may break off in one send."""
_LEASE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of a send.

    Args:
        project: Number of the project.
        url: Where experts open it.
        new: Tasks that nobody was asked before.
        repeated: Tasks that were there already.
        imported: Tasks that Label Studio got now, the missing ones of earlier sends included.
        lost: Tasks that can't be shown any more, since their prediction is not kept.
        waiting: Tasks in the project.
    """

    project: int
    url: str
    new: int
    repeated: int
    imported: int
    lost: int
    waiting: int


def send(
    store: Store,
    use_case: UseCase,
    studio: LabelStudio,
    tasks: Sequence[LabelTask],
    settings: Settings,
    tell: Tell = lambda _: None,
) -> Sent:
    """Gives experts tasks.

    Args:
        store: The production database.
        use_case: Declares what experts see.
        studio: Label Studio.
        tasks: What they are asked; none sends what is missing of earlier sends.
        settings: How Label Studio tells the collector of annotations.
        tell: Told what happens, in lines.

    Raises:
        UsageError: The use case declares no labelling interface.
        Unavailable: Label Studio does not answer, or another send goes on. Before the first task is sent nothing is
            kept; after it, the same command goes on.
    """
    interface = interface_of(use_case)
    studio.version()
    with _alone(store, use_case.name):
        number = ensure_project(studio, use_case, tell)
        hook = webhook(settings, use_case.name, number)
        if hook is not None:
            ensure_webhook(studio, number, hook)
        store.record_annotators(studio.people())
        new = int(store.record_label_tasks(tasks))
        open_tasks = [
            one.task
            for one in settle(interface, store.label_tasks(use_case.name), store.annotations(use_case.name))
            if one.state == "unanswered"
        ]
        there = _named(studio, number)
        # What waited longest first, then in the order in which these were picked: experts go by it.
        place = {task.task_id: number for number, task in enumerate(tasks)}
        open_tasks.sort(key=lambda task: place.get(task.task_id, -1))
        missing = [task for task in open_tasks if task.task_id not in there]
        shown = predictions_of(store, missing)
        documents = {
            task.task_id: task_document(use_case, interface, task, shown[task.task_id])
            for task in missing
            if task.task_id in shown
        }
        _import(studio, number, documents, tell)
        there = _without_doubles(studio, number)
    return Sent(
        project=number,
        url=f"{studio.url}/projects/{number}",
        new=new,
        repeated=len(tasks) - new,
        imported=len(documents.keys() & there),
        lost=len(missing) - len(documents),
        waiting=len(there),
    )


def _import(studio: LabelStudio, project: int, documents: dict[str, dict[str, object]], tell: Tell) -> None:
    """Imports batch by batch; after one that broke off it looks what came in."""
    left, broken = dict(documents), 0
    while left:
        batch = list(left)[:_BATCH]
        try:
            studio.import_tasks(project, [left[task_id] for task_id in batch])
        except Interrupted as error:
            broken += 1
            if broken >= _ROUNDS:
                raise
            tell(f"{error.message} Looking what came in ...")
            there = _named(studio, project)
            left = {task_id: document for task_id, document in left.items() if task_id not in there}
            continue
        for task_id in batch:
            del left[task_id]
        if left:
            tell(f"  {len(documents) - len(left):,} of {len(documents):,} sent ...")


def _named(studio: LabelStudio, project: int) -> set[str]:
    """Ids of the ``LabelTask``s that the project has."""
    return {named for task in studio.tasks(project) if (named := task_named(task)) is not None}


def _without_doubles(studio: LabelStudio, project: int) -> set[str]:
    """As ``_named``, after removing what came in twice: an import that seemed lost may still have gone through.

    Of two that ask the same the first stays, and every one that somebody answered.
    """
    seen: set[str] = set()
    for task in list(studio.tasks(project)):
        named = task_named(task)
        if named is None:
            continue
        if named in seen and not task.get("annotations") and not task.get("drafts"):
            studio.delete_task(int(task["id"]))
        seen.add(named)
    return seen


@contextmanager
def _alone(store: Store, use_case: str) -> Iterator[None]:
    """Of two sends at the same time one waits for nobody and is refused: both would import what is missing."""
    lease = store.take_lease(f"label-send/{use_case}", f"process {os.getpid()} on {socket.gethostname()}", _LEASE)
    if lease is None:
        raise Unavailable(f"Another send of {use_case} goes on.", remedy="Wait until it has ended.")
    try:
        yield
    finally:
        store.release_lease(lease)


def batch_name(now: datetime) -> str:
    """A batch's name, by when it is sent."""
    return f"{now:%Y%m%d-%H%M%S-%f}"
