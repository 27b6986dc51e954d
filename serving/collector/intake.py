"""What the collector accepts: JSON in, checked inputs out, every error named by its place (``truths[3].value``).

A batch is accepted whole or refused whole. Times are checked here and given to records by the writer, which knows the
watermark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from ninefold.clock import format_instant, parse_instant
from ninefold.errors import ConfigurationError, InvalidInput, TooLarge
from ninefold.fields import Field, digest
from ninefold.records import FEEDBACK_STREAM, WAITING_STREAM, entity_key
from ninefold.usecase import UseCase
from serving.collector.inputs import EventInput, FeedbackInput, InvalidBatch, TruthInput

MAX_AHEAD = timedelta(minutes=5)
"""How far a producer's clock may run ahead of the collector's."""

_MAX_ID = 256
_MAX_NOTE = 10_000
MAX_TEXT = 2_000
"""Longest text of a user, in characters."""
_LONGEST_TIME = 64
# A window before or after them, instants are still in the calendar.
_YEARS = range(1900, 3000)
_T = TypeVar("_T")


class Intake:
    """Reads bodies by a use case's declaration.

    Args:
        use_case: Whose truths and events.
        clock: ``wall``, where time is the collector's to say, or ``event``, where events carry it.
        max_items: Most items of a batch.

    Raises:
        ConfigurationError: A stream has the name that is kept for feedback.
    """

    def __init__(self, use_case: UseCase, *, clock: Literal["wall", "event"], max_items: int) -> None:
        self._use_case = use_case
        self._clock = clock
        self._max_items = max_items
        self._key = [use_case.fields[name] for name in use_case.key]
        self._digests = {f.name: use_case.fields[f.digest_of] for f in self._key if f.digest_of is not None}
        self._key_fields = tuple(dict.fromkeys((*use_case.key, *(f.name for f in self._digests.values()))))
        self._streams = {stream.name: {field.name: field for field in stream.fields} for stream in use_case.streams}
        for reserved in {FEEDBACK_STREAM, WAITING_STREAM} & set(self._streams):
            raise ConfigurationError(
                f"{use_case.name}: no stream can be called {reserved!r}.", remedy="Rename the stream."
            )
        # Past it a window's sum would overflow; of several windows the finest one decides.
        self._largest: dict[tuple[str, str], float] = {}
        for window in use_case.windows:
            place = (window.stream, window.value)
            self._largest[place] = min(window.max_value, self._largest.get(place, window.max_value))

    def truths(self, body: Any, now: datetime) -> list[TruthInput]:
        """The truths in a body: ``{"truths": [...]}``, or one.

        Args:
            body: JSON.
            now: The present instant.

        Raises:
            InvalidBatch: An item is wrong.
            InvalidInput: The body is.
            TooLarge: Too many items.
        """
        items, rest = self._items(body, "truths")
        _refuse_unknown(rest, (), "")
        return _each(items, lambda item, where: self._truth(item, where, now))

    def events(self, body: Any, now: datetime) -> tuple[list[EventInput], datetime | None]:
        """The events in a body, ``{"events": [...], "advance_to": …}`` or one; and where the watermark is to go.

        Raises: as ``truths``.
        """
        items, rest = self._items(body, "events")
        advance_to = None
        if "advance_to" in rest:
            if self._clock == "wall":
                raise InvalidInput("advance_to", "the wall clock moves the watermark here.", remedy="Leave it out.")
            advance_to = _instant(rest.pop("advance_to"), "advance_to", None)
        _refuse_unknown(rest, (), "")
        return _each(items, lambda item, where: self._event(item, where, now)), advance_to

    def feedback(self, body: Any, now: datetime) -> list[FeedbackInput]:
        """The feedback in a body: ``{"feedback": [...]}``, or one. Raises: as ``truths``."""
        items, rest = self._items(body, "feedback")
        _refuse_unknown(rest, (), "")
        return _each(items, lambda item, where: self._feedback(item, where, now))

    def _items(self, body: Any, name: str) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
        """The items with their places, and what stands beside them."""
        if not isinstance(body, dict):
            raise InvalidInput("body", "is not a JSON object.", remedy=f'Send {{"{name}": [...]}}, or one of them.')
        if name not in body:
            if set(body) == {"advance_to"}:
                return [], dict(body)
            return [("", body)], {}
        rest = {key: value for key, value in body.items() if key != name}
        batch = body[name]
        if not isinstance(batch, list):
            raise InvalidInput(name, "is not a list.", remedy=f'Send {{"{name}": [...]}}.')
        if len(batch) > self._max_items:
            raise TooLarge(
                f"{name}: {len(batch):,} are more than {self._max_items:,} in one batch.",
                remedy="Send smaller batches.",
            )
        return [(f"{name}[{place}].", item) for place, item in enumerate(batch)], rest

    def _truth(self, item: Any, where: str, now: datetime) -> TruthInput:
        fields = _fields(item, where)
        _refuse_unknown(fields, ("id", "key", "value", "known_at", "source", "annotator", "note"), where)
        if self._clock == "event" and fields.get("known_at") is None:
            raise InvalidInput(
                f"{where}known_at", "is missing.", remedy="In event time, a truth says when it was known."
            )
        source = fields.get("source", "system")
        if source not in ("system", "user", "labeller"):
            raise InvalidInput(
                f"{where}source", f"{source!r:.60} is no source.", remedy="Send system, user or labeller."
            )
        return TruthInput(
            id=_text(fields, "id", where, _MAX_ID),
            key=self._entity(fields.get("key"), f"{where}key"),
            value=self._truth_value(fields.get("value"), where),
            known_at=self._optional_instant(fields, "known_at", where, now),
            source=source,
            annotator=_text(fields, "annotator", where, _MAX_ID),
            note=_text(fields, "note", where, _MAX_NOTE),
        )

    def _entity(self, key: Any, where: str) -> str:
        values = _fields(key, where + ".")
        _refuse_unknown(values, self._key_fields, where + ".")
        return entity_key([self._key_value(field, values, where + ".") for field in self._key])

    def _key_value(self, field: Field, values: Mapping[str, Any], where: str) -> Any:
        """A key field's value; a digest that is left out is made of what it is the digest of, as in a request."""
        source = self._digests.get(field.name)
        if source is not None and values.get(field.name) is None and values.get(source.name) is not None:
            return digest(source.check(values[source.name], where=where))
        return field.check(values.get(field.name), where=where)

    def _truth_value(self, value: Any, where: str) -> float:
        target = self._use_case.target
        name = f"{where}value"
        if value is None:
            raise InvalidInput(name, "is missing.", remedy=f"Send the {target.name}.")
        try:
            number = float(target.check(value))
        except InvalidInput as error:
            raise InvalidInput(name, error.message.removeprefix(f"{target.name}: "), remedy=error.remedy) from error
        if self._use_case.problem == "binary" and number not in (0.0, 1.0):
            raise InvalidInput(name, f"{value!r} is no class.", remedy="Send 0 or 1.")
        if not target.in_range(number):
            raise InvalidInput(
                name,
                f"{value!r} is not a possible {target.name}.",
                remedy=f"It lies between {target.minimum} and {target.maximum}.",
            )
        return number

    def _event(self, item: Any, where: str, now: datetime) -> EventInput:
        fields = _fields(item, where)
        _refuse_unknown(fields, ("id", "stream", "happened_at", "known_at", "values"), where)
        stream = fields.get("stream")
        declared = self._streams.get(stream) if isinstance(stream, str) else None
        if declared is None:
            raise InvalidInput(
                f"{where}stream",
                "is missing." if stream is None else f"{stream!r:.60} is not declared.",
                remedy=f"The streams are {', '.join(self._streams) or 'none'}.",
            )
        if "known_at" in fields and self._clock == "wall":
            raise InvalidInput(
                f"{where}known_at", "an event is known when the collector gets it.", remedy="Leave it out."
            )
        happened_at = self._optional_instant(fields, "happened_at", where, now)
        if happened_at is None:
            raise InvalidInput(f"{where}happened_at", "is missing.", remedy="Send when it happened.")
        at = f"{where}values."
        values = _fields(fields.get("values"), at)
        _refuse_unknown(values, tuple(declared), at)
        return EventInput(
            id=_text(fields, "id", where, _MAX_ID),
            stream=str(stream),
            happened_at=happened_at,
            known_at=self._optional_instant(fields, "known_at", where, now),
            values={
                name: self._event_value(str(stream), field, values.get(name), at) for name, field in declared.items()
            },
        )

    def _event_value(self, stream: str, field: Field, value: Any, where: str) -> Any:
        checked = field.check(value, where=where)
        if isinstance(checked, datetime):
            return format_instant(checked)
        largest = self._largest.get((stream, field.name))
        if largest is not None and checked is not None and abs(checked) > largest:
            raise InvalidInput(
                where + field.name, f"{value!r:.60} is too large for a window.", remedy=f"At most ±{largest:g}."
            )
        return checked

    def _feedback(self, item: Any, where: str, now: datetime) -> FeedbackInput:
        fields = _fields(item, where)
        _refuse_unknown(fields, ("id", "prediction_id", "value", "wrong", "text", "user", "known_at"), where)
        prediction_id = _text(fields, "prediction_id", where, _MAX_ID)
        if prediction_id is None:
            raise InvalidInput(f"{where}prediction_id", "is missing.", remedy="Send the prediction's id.")
        value = None if fields.get("value") is None else self._truth_value(fields["value"], where)
        text = _text(fields, "text", where, MAX_TEXT)
        wrong = fields.get("wrong")
        if wrong is not None and not isinstance(wrong, bool):
            raise InvalidInput(f"{where}wrong", f"{wrong!r:.60} is neither true nor false.", remedy="Send a boolean.")
        if value is None and text is None and wrong is None:
            raise InvalidInput(
                f"{where}value", "is missing, and so are wrong and text.", remedy="Send one of them, or several."
            )
        return FeedbackInput(
            id=_text(fields, "id", where, _MAX_ID),
            prediction_id=prediction_id,
            value=value,
            text=text,
            user=_text(fields, "user", where, _MAX_ID),
            wrong=wrong,
            known_at=self._optional_instant(fields, "known_at", where, now),
        )

    def _optional_instant(self, fields: Mapping[str, Any], name: str, where: str, now: datetime) -> datetime | None:
        value = fields.get(name)
        latest = now + MAX_AHEAD if self._clock == "wall" else None
        return None if value is None else _instant(value, where + name, latest)


def _instant(value: Any, name: str, latest: datetime | None) -> datetime:
    if not isinstance(value, str) or len(value) > _LONGEST_TIME:
        raise InvalidInput(name, f"{value!r:.60} is not a time.", remedy="Write it as 2013-07-01T12:30:00Z.")
    instant = parse_instant(value, field=name)
    if instant.year not in _YEARS:
        raise InvalidInput(name, f"{value!r} lies outside of the years {_YEARS.start} to {_YEARS.stop - 1}.")
    if latest is not None and instant > latest:
        raise InvalidInput(name, f"{value!r} lies in the future.", remedy="Check the sender's clock.")
    return instant


def _fields(item: Any, where: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise InvalidInput(where.rstrip(".") or "body", "is missing, or not a JSON object.", remedy="Send an object.")
    return item


def _refuse_unknown(fields: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in fields:
        if name not in known:
            raise InvalidInput(
                f"{where}{name:.60}", "is not a field.", remedy=f"The fields are {', '.join(known)}." if known else ""
            )


def _text(fields: Mapping[str, Any], name: str, where: str, longest: int) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise InvalidInput(where + name, f"{value!r:.60} is not a text.", remedy="Send a string.")
    if len(value) > longest:
        raise InvalidInput(where + name, f"is {len(value):,} characters long.", remedy=f"Send at most {longest:,}.")
    if "\0" in value:
        # As in a field's text: PostgreSQL keeps none.
        raise InvalidInput(where + name, "holds the character NUL.", remedy="Leave it out.")
    return value


def _each(items: list[tuple[str, Any]], read: Callable[[Any, str], _T]) -> list[_T]:
    """Every item read; or every item's error."""
    accepted, errors = [], []
    for where, item in items:
        try:
            accepted.append(read(item, where))
        except InvalidInput as error:
            errors.append(error)
    if errors:
        raise InvalidBatch(errors, total=len(items))
    return accepted
