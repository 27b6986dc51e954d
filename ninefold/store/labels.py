"""What experts were asked and what they said: each task and each annotation is kept once, as it was first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ninefold.labels import Annotation, LabelTask
from ninefold.store.database import Database
from ninefold.store.rows import Kind, finite, from_micros, text_of, to_micros
from ninefold.store.tables import annotators, label_annotations, label_tasks, predictions, truths
from ninefold.store.tombstones import erased_keys
from ninefold.store.writing import Written, write


class Labels(Database):
    """Tasks for experts, and their annotations."""

    def record_label_tasks(self, tasks: Iterable[LabelTask]) -> Written:
        """Keeps the tasks that are not kept yet; how many those were.

        A key that was asked about before keeps its first task: its batch, and why it was picked then.

        Raises:
            StoreError: The database refuses; the call can be repeated.
            DataError: A task can't be kept (a number is not finite, a time is naive).
        """
        return write(self, LABEL_TASKS, tasks)

    def label_tasks(self, use_case: str, batch: str | None = None) -> list[LabelTask]:
        """Tasks in the order in which they were sent.

        Args:
            use_case: Name of the use case.
            batch: Only those of this batch.
        """
        where = [label_tasks.c.use_case == use_case]
        if batch is not None:
            where.append(label_tasks.c.batch == batch)
        query = sa.select(label_tasks).where(*where).order_by(label_tasks.c.sent_at_us, label_tasks.c.task_id)
        with self.reading() as connection:
            return [LABEL_TASKS.from_row(row) for row in connection.execute(query)]

    def record_annotations(self, records: Iterable[Annotation]) -> Written:
        """Keeps the annotations that are not kept yet; how many those were. Raises as ``record_label_tasks``."""
        return write(self, ANNOTATIONS, records)

    def annotations(self, use_case: str, task_ids: Sequence[str] | None = None) -> list[Annotation]:
        """All annotations, superseded ones too, in the order in which they were said.

        Args:
            use_case: Name of the use case.
            task_ids: Only those of these tasks, a few.
        """
        query = sa.select(label_annotations).where(label_annotations.c.use_case == use_case)
        if task_ids is not None:
            # The index begins with the key, which the tasks know.
            keys = sa.select(label_tasks.c.key).where(label_tasks.c.task_id.in_(task_ids))
            query = query.where(label_annotations.c.key.in_(keys), label_annotations.c.task_id.in_(task_ids))
        with self.reading() as connection:
            ordered = query.order_by(label_annotations.c.said_at_us, label_annotations.c.annotation_id)
            return [ANNOTATIONS.from_row(row) for row in connection.execute(ordered)]

    def label_task(self, task_id: str) -> LabelTask | None:
        """One task; None when there is none of that id."""
        with self.reading() as connection:
            row = connection.execute(sa.select(label_tasks).where(label_tasks.c.task_id == task_id)).one_or_none()
        return None if row is None else LABEL_TASKS.from_row(row)

    def labellers_truths(self, use_case: str, keys: Sequence[str] | None = None) -> dict[str, float]:
        """Key → value of the newest truth that labellers told of it.

        Args:
            use_case: Name of the use case.
            keys: Only these, a few.
        """
        where = [truths.c.use_case == use_case, truths.c.source == "labeller"]
        if keys is not None:
            where.append(truths.c.key.in_(keys))
        order = (truths.c.known_at_us, truths.c.received_at_us, truths.c.truth_id)
        with self.reading() as connection:
            query = sa.select(truths.c.key, truths.c.value).where(*where).order_by(*order)
            return {row.key: row.value for row in connection.execute(query)}

    def first_asked(self, use_case: str) -> dict[str, datetime]:
        """Key → when it was first predicted, of the keys that experts were asked about."""
        asked = sa.select(label_tasks.c.key).where(label_tasks.c.use_case == use_case)
        query = (
            sa.select(predictions.c.key, sa.func.min(predictions.c.received_at_us).label("first"))
            .where(predictions.c.use_case == use_case, predictions.c.key.in_(asked))
            .group_by(predictions.c.key)
        )
        with self.reading() as connection:
            return {row.key: from_micros(row.first) for row in connection.execute(query)}

    def record_annotators(self, people: Mapping[int, str]) -> None:
        """Keeps who Label Studio's people are: number → name; a number that is known gets the new name."""
        known = self.annotators()
        changed = [{"number": n, "name": name} for n, name in sorted(people.items()) if known.get(n) != name]
        if not changed:
            return
        insert = (postgresql.insert if self.is_postgresql else sqlite.insert)(annotators)
        keeping = insert.on_conflict_do_update(index_elements=["number"], set_={"name": insert.excluded.name})
        with self.writing() as connection:
            connection.execute(keeping, changed)

    def annotators(self) -> dict[int, str]:
        """Label Studio's people: number → name."""
        with self.reading() as connection:
            return {row.number: row.name for row in connection.execute(sa.select(annotators))}

    def erased_keys(self, use_case: str, keys: Iterable[str]) -> set[str]:
        """Of the keys, those that were ever erased: what is elsewhere of them has to go as well."""
        with self.reading() as connection:
            return erased_keys(connection, use_case, keys)


def _finite(value: float | None) -> float | None:
    return None if value is None else finite(value)


def _task_row(record: LabelTask) -> dict[str, Any]:
    return {
        "task_id": text_of(record.task_id),
        "use_case": record.use_case,
        "key": record.key,
        "prediction_id": record.prediction_id,
        "batch": record.batch,
        "sampler": record.sampler,
        "reason": record.reason,
        "score": _finite(record.score),
        "inclusion_probability": _finite(record.inclusion_probability),
        "sent_at_us": to_micros(record.sent_at),
    }


def _task(row: Any) -> LabelTask:
    return LabelTask(
        task_id=row.task_id,
        use_case=row.use_case,
        key=row.key,
        prediction_id=row.prediction_id,
        batch=row.batch,
        sampler=row.sampler,
        reason=row.reason,
        score=row.score,
        inclusion_probability=row.inclusion_probability,
        sent_at=from_micros(row.sent_at_us),
    )


def _annotation_row(record: Annotation) -> dict[str, Any]:
    return {
        "annotation_id": text_of(record.annotation_id),
        "use_case": record.use_case,
        "task_id": record.task_id,
        "key": record.key,
        "annotator": record.annotator,
        "value": _finite(record.value),
        "outcome": record.outcome,
        "said_at_us": to_micros(record.said_at),
        "received_at_us": to_micros(record.received_at),
        "label": record.label,
    }


def _annotation(row: Any) -> Annotation:
    return Annotation(
        annotation_id=row.annotation_id,
        use_case=row.use_case,
        task_id=row.task_id,
        key=row.key,
        annotator=row.annotator,
        value=row.value,
        outcome=row.outcome,
        said_at=from_micros(row.said_at_us),
        received_at=from_micros(row.received_at_us),
        label=row.label,
    )


# A key that is picked again comes with another batch and reason: its first task stands, and that is no contradiction.
_AS_FIRST_SENT = frozenset(
    {"prediction_id", "batch", "sampler", "reason", "score", "inclusion_probability", "sent_at_us"}
)
LABEL_TASKS: Kind[LabelTask] = Kind(label_tasks, "task_id", "sent_at_us", _AS_FIRST_SENT, _task_row, _task)
ANNOTATIONS: Kind[Annotation] = Kind(
    label_annotations, "annotation_id", "said_at_us", frozenset({"received_at_us"}), _annotation_row, _annotation
)
