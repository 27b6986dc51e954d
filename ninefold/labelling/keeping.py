"""Keeping what experts said: annotations first, then the truths that they settle. Pull and webhook both end here.

All of it can be done again: the same annotation is kept once, and the same votes make the same truth.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from ninefold.labelling.settling import Settled, settle
from ninefold.labels import Annotation, LabellingInterface, LabelTask
from ninefold.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What became of it.

    Args:
        new: Annotations that were not kept yet.
        truths: Truths that were not kept yet.
        settled: How each task stands, in the given tasks' order.
    """

    new: int
    truths: int
    settled: Sequence[Settled]


def keep_annotations(
    store: Store,
    interface: LabellingInterface,
    tasks: Sequence[LabelTask],
    annotations: Collection[Annotation],
    *,
    now: datetime,
) -> Kept:
    """Keeps annotations, and of each task the truth that its annotators settled on.

    A task whose annotators say what its newest truth by labellers says makes no other one. One that was settled and is
    not any more, as somebody changed their mind, keeps its truth until it is settled anew: truths are never taken back.

    Args:
        store: The production database.
        interface: What may be answered.
        tasks: The tasks that may have changed.
        annotations: What was said of them.
        now: When truths are kept.

    Raises:
        StoreError: The database refuses; everything can be done again.
    """
    written = store.record_annotations(annotations)
    if not tasks:
        return Kept(new=int(written), truths=0, settled=())
    use_case = tasks[0].use_case
    ids = [task.task_id for task in tasks] if len(tasks) == 1 else None
    settled = settle(interface, tasks, store.annotations(use_case, task_ids=ids))
    known = store.labellers_truths(use_case, keys=[task.key for task in tasks] if ids else None)
    truths = [
        truth
        for one in settled
        if one.value is not None and one.value != known.get(one.task.key) and (truth := one.truth(now)) is not None
    ]
    return Kept(new=int(written), truths=int(store.write_truths(truths)), settled=settled)
