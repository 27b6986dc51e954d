"""Removes what a store holds of one key, and notes that it did: under a salted hash, without the key."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ninefold.errors import InvalidInput, UsageError
from ninefold.fields import NUMERIC, Field
from ninefold.records import FEEDBACK_STREAM, WAITING_STREAM, entity_key, key_parts
from ninefold.store.rows import to_micros
from ninefold.store.store import Store
from ninefold.store.tables import conflicts, erasures, events, label_annotations, label_tasks, predictions, truths
from ninefold.store.tombstones import ERASING_LOCK, key_hash, salt_of
from ninefold.store.writing import EVENTS_LOCK
from ninefold.usecase import UseCase

_FETCH = 5_000
_BY_KEY = (predictions, truths, label_tasks, label_annotations)


@dataclass(frozen=True, slots=True)
class EntityKey:
    """The key that is to be forgotten.

    Args:
        text: ``entity_key`` of its values.
        values: Field → value, as ``Field.check`` keeps it.
    """

    text: str
    values: Mapping[str, Any]

    def is_in(self, values: Mapping[str, Any], fields: Mapping[str, Field]) -> bool:
        """Whether an event's values name this key: all of its fields, with its values."""
        return all(
            values.get(name) is not None and _text(fields[name], values[name]) == entity_key([value])
            for name, value in self.values.items()
        )


def key_of(use_case: UseCase, text: str | None, assignments: Collection[str]) -> EntityKey:
    """Reads a key as a person writes it: its canonical text, or ``field=value`` for each of its fields.

    Raises:
        UsageError: It is neither, or a field is missing, unknown or given twice.
        InvalidInput: A value is not of its field's kind.
    """
    names = ", ".join(use_case.key)
    if (text is None) == (not assignments):
        raise UsageError(f"A key of {use_case.name} is needed.", remedy=f"Give --key TEXT, or FIELD=VALUE for {names}.")
    if text is not None:
        parts = key_parts(text)
        if len(parts) != len(use_case.key):
            raise UsageError(f"The key has {len(parts)} values, not {len(use_case.key)}: {names}, joined by '|'.")
        given = dict(zip(use_case.key, parts, strict=True))
    else:
        pairs = [assignment.partition("=") for assignment in assignments]
        given = {name: value for name, _, value in pairs}
        if set(given) != set(use_case.key) or len(pairs) != len(given):
            raise UsageError(f"The key's fields are {names}, each once.", remedy="Write them as FIELD=VALUE.")
    values = {name: _value(use_case.fields[name], given[name]) for name in use_case.key}
    return EntityKey(entity_key(values.values()), values)


def erase_records(
    store: Store, use_case: UseCase, key: EntityKey, *, now: datetime, actor: str, dry_run: bool = False
) -> dict[str, int]:
    """Removes a key's predictions, truths, feedback, labels, events that name it, and what was turned away of them.

    All of it or nothing. What comes again and is older than this is turned away (``tombstones``). Repeated, it removes
    what came since, and notes nothing where there was nothing.

    Args:
        store: The production database.
        use_case: Declares the key and the streams.
        key: What is forgotten.
        now: The instant of the erasure, by the clock that records go by.
        actor: Who erases.
        dry_run: Count, and remove nothing.

    Returns:
        Kind → how many went.
    """
    about = _about(use_case, key, _predicted(store, use_case.name, key))
    # Most of the log is read before anybody has to wait; then what came meanwhile.
    ids, cursor = _events(store, use_case.name, about, 0)
    if dry_run:
        with store.reading() as connection:
            return _counts(connection, use_case.name, key, ids, about)
    with store.writing(alone=EVENTS_LOCK) as connection:
        if store.is_postgresql:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ERASING_LOCK)))
        else:
            # Else the bytes stay in the file until something else needs their place.
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
        ids = list(dict.fromkeys([*ids, *_matching(connection, use_case.name, about, cursor)]))
        removed = _counts(connection, use_case.name, key, ids, about)
        for table in _BY_KEY:
            connection.execute(table.delete().where(table.c.use_case == use_case.name, table.c.key == key.text))
        for start in range(0, len(ids), _FETCH):
            connection.execute(events.delete().where(events.c.event_id.in_(ids[start : start + _FETCH])))
        aside = _conflicting(connection, use_case.name, key, about)
        connection.execute(conflicts.delete().where(conflicts.c.conflict_id.in_(aside)))
        salt = salt_of(connection, use_case.name) or secrets.token_hex(16)
        hashed = key_hash(salt, key.text)
        if any(removed.values()) or not _is_noted(connection, use_case.name, hashed):
            noted = {
                "use_case": use_case.name,
                "salt": salt,
                "key_hash": hashed,
                "at_us": to_micros(now),
                "removed": removed,
                "actor": actor,
            }
            connection.execute(erasures.insert().values(noted))
    return removed


def _predicted(store: Store, use_case: str, key: EntityKey) -> frozenset[str]:
    """Ids of the key's predictions: what feedback that waits knows it by."""
    mine = (predictions.c.use_case == use_case, predictions.c.key == key.text)
    with store.reading() as connection:
        return frozenset(connection.execute(sa.select(predictions.c.prediction_id).where(*mine)).scalars())


def _about(
    use_case: UseCase, key: EntityKey, predicted: Collection[str]
) -> dict[str, Callable[[Mapping[str, Any]], bool]]:
    """Stream → whether an event's values are about the key; streams that hold only some of its fields are left out."""
    about: dict[str, Callable[[Mapping[str, Any]], bool]] = {
        FEEDBACK_STREAM: lambda values: values.get("key") == key.text,
        WAITING_STREAM: lambda values: values.get("prediction_id") in predicted,
    }
    for stream in use_case.streams:
        fields = {field.name: field for field in stream.fields}
        if set(use_case.key) <= set(fields):
            about[stream.name] = lambda values, fields=fields: key.is_in(values, fields)  # type: ignore[misc]
    return about


def _events(
    store: Store, use_case: str, about: Mapping[str, Callable[[Mapping[str, Any]], bool]], cursor: int
) -> tuple[list[str], int]:
    with store.reading() as connection:
        newest = sa.select(sa.func.max(events.c.cursor)).where(events.c.use_case == use_case)
        last: int = connection.execute(newest).scalar() or 0
        return list(_matching(connection, use_case, about, cursor)), last


def _matching(
    connection: Connection, use_case: str, about: Mapping[str, Callable[[Mapping[str, Any]], bool]], cursor: int
) -> Iterator[str]:
    """Ids of the events behind a cursor that are about the key."""
    for stream, is_about in about.items():
        after = cursor
        while True:
            query = (
                sa.select(events.c.event_id, events.c.cursor, events.c["values"])
                .where(events.c.use_case == use_case, events.c.stream == stream, events.c.cursor > after)
                .order_by(events.c.cursor)
                .limit(_FETCH)
            )
            rows = connection.execute(query).all()
            if not rows:
                break
            yield from (row.event_id for row in rows if is_about(row._mapping["values"]))
            after = rows[-1].cursor


def _conflicting(
    connection: Connection,
    use_case: str,
    key: EntityKey,
    about: Mapping[str, Callable[[Mapping[str, Any]], bool]],
) -> list[str]:
    found = []
    for row in connection.execute(sa.select(conflicts).where(conflicts.c.use_case == use_case)):
        content = row.content
        if row.kind == "events":
            is_about = about.get(content["stream"])
            concerns = is_about is not None and is_about(content["values"])
        else:
            concerns = content["key"] == key.text
        if concerns:
            found.append(row.conflict_id)
    return found


def _counts(
    connection: Connection,
    use_case: str,
    key: EntityKey,
    ids: Collection[str],
    about: Mapping[str, Callable[[Mapping[str, Any]], bool]],
) -> dict[str, int]:
    counts = {}
    for table in _BY_KEY:
        query = sa.select(sa.func.count()).where(table.c.use_case == use_case, table.c.key == key.text)
        counts[str(table.name)] = connection.execute(query).scalar_one()
    counts["events"] = len(ids)
    counts["conflicts"] = len(_conflicting(connection, use_case, key, about))
    return counts


def _is_noted(connection: Connection, use_case: str, hashed: str) -> bool:
    noted = sa.select(sa.literal(1)).where(erasures.c.use_case == use_case, erasures.c.key_hash == hashed)
    return connection.execute(noted.limit(1)).first() is not None


def _text(field: Field, value: Any) -> str:
    try:
        return entity_key([field.check(value)])
    except InvalidInput:
        # Kept when the field was declared otherwise.
        return entity_key([value])


def _value(field: Field, text: str) -> Any:
    if field.kind in NUMERIC and field.kind != "boolean":
        try:
            return field.check(float(text))
        except ValueError:
            return field.check(text)
    if field.kind == "boolean":
        return field.check({"1": True, "true": True, "0": False, "false": False}.get(text.lower(), text))
    return field.check(text)
