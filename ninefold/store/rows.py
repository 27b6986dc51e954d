"""Records as rows and back; and what else the store keeps: measurements, runs, conflicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import Table

from ninefold.errors import DataError
from ninefold.labels import Annotation, LabelTask
from ninefold.records import Event, Prediction, Truth
from ninefold.store import tables

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Severity = Literal["warning", "critical"]
Told = Literal["raised", "cleared"]

RunState = Literal["requested", "running", "succeeded", "failed"]

Record = TypeVar("Record", Prediction, Truth, Event, LabelTask, Annotation)


def to_micros(instant: datetime) -> int:
    """Whole microseconds since 1970 of an aware instant.

    Raises:
        TypeError: The instant is naive.
    """
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def from_micros(micros: int) -> datetime:
    """The aware instant in UTC behind ``to_micros``."""
    return _EPOCH + timedelta(microseconds=micros)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One number that a version was judged by. Its identity is everything but its value.

    Args:
        use_case: Name of the use case.
        version: The version that was measured.
        name: The metric (``mae``, ``latency_p99_ms``).
        value: None where it can't be computed (no truths yet): missing is never zero.
        at: When it was computed, in the clock's time.
        window: What it is over (``offline``, ``2013-07-01/2013-07-08``).
        cohort: Cohort that it is restricted to; empty for all.
        slice: Slice that it is restricted to (``carrier=UA``); empty for all.
    """

    use_case: str
    version: int
    name: str
    value: float | None
    at: datetime
    window: str
    cohort: str = ""
    slice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a pipeline.

    Args:
        run_id: Minted by who asks for it.
        pipeline: Its name (``training``).
        use_case: Name of the use case.
        state: ``requested`` (a row that asks for a run), ``running``, ``succeeded`` or ``failed``.
        started_at: When it was asked for or started.
        parameters: What it was started with.
        ended_at: When it ended; None until then.
        step: The step that it is in or ended in.
        error: Why it failed.
    """

    run_id: str
    pipeline: str
    use_case: str
    state: RunState
    started_at: datetime
    parameters: Mapping[str, Any] = field(default_factory=dict)
    ended_at: datetime | None = None
    step: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that the monitor found wrong for long enough to say so.

    Args:
        alert_id: Derived from use case, check, subject and window: raising it twice is raising it once.
        use_case: Name of the use case.
        check: What was looked at (``loss``, ``drift``, ``null_share``, …).
        subject: What it was looked at of (``version 3``, ``feature weather__humidity``).
        severity: ``critical`` where answers are worse or missing, else ``warning``.
        window: Window that raised it (``2013-07-01/2013-07-02``).
        value: What was measured there; None where nothing could be.
        limit: What it was held against; None where there is none.
        message: One sentence for people.
        raised_at: When it was raised.
        cleared_at: When it cleared; None while it stands.
        told: The newest state that a webhook took; None while it took none.
    """

    alert_id: str
    use_case: str
    check: str
    subject: str
    severity: Severity
    window: str
    value: float | None
    limit: float | None
    message: str
    raised_at: datetime
    cleared_at: datetime | None = None
    told: Told | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A record that came under an id which another content holds already; the first one stands.

    Args:
        kind: ``predictions``, ``truths``, ``events``, ``label_tasks`` or ``annotations``.
        use_case: Name of the use case.
        record_id: The id that both have.
        content: The record that was turned away, as its row.
        seen_at: When it came.
    """

    kind: str
    use_case: str
    record_id: str
    content: Mapping[str, Any]
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A prediction, and what turned out as far as it is known.

    Args:
        prediction: What was answered.
        truth: The newest truth of its key; None while there is none.
    """

    prediction: Prediction
    truth: Truth | None


@dataclass(frozen=True, slots=True)
class Kind(Generic[Record]):
    """How records of one type are kept.

    Args:
        table: Where.
        identity: Column of the record's id.
        time: Column that a bulk read selects by.
        stamped: Columns that receivers fill, so that a retry may differ in them: no part of the record's content.
        to_row: A record as a row.
        from_row: And back.
    """

    table: Table
    identity: str
    time: str
    stamped: frozenset[str]
    to_row: Callable[[Record], dict[str, Any]]
    from_row: Callable[[Any], Record]

    @property
    def name(self) -> str:
        """Name of the table, which is the kind's name everywhere."""
        return str(self.table.name)

    def encode(self, record: Record) -> dict[str, Any]:
        """A record as a row.

        Raises:
            DataError: The record holds what can't be kept: a naive time, a value that is not finite.
        """
        try:
            return self.to_row(record)
        except (TypeError, ValueError, OverflowError) as error:
            named = getattr(record, self.identity, "?")
            raise DataError(f"The record {named!r} of {self.name} can't be kept: {error}.") from error


def finite(value: float) -> float:
    """The value.

    Raises:
        ValueError: It is not finite.
    """
    if not math.isfinite(value):
        raise ValueError(f"its value is {value}")
    return value


def text_of(identity: str) -> str:
    """The identity.

    Raises:
        TypeError: It is no text.
    """
    if not isinstance(identity, str):
        raise TypeError(f"its id is {identity!r}")
    return identity


def bounds_of(interval: Sequence[float] | None) -> dict[str, float | None]:
    """An interval as the columns ``lower`` and ``upper``; both null where there is none.

    Raises:
        ValueError: A bound is not finite, or they are not two.
    """
    if interval is None:
        return {"lower": None, "upper": None}
    lower, upper = interval
    return {"lower": finite(lower), "upper": finite(upper)}


def _prediction_row(record: Prediction) -> dict[str, Any]:
    return {
        "prediction_id": text_of(record.prediction_id),
        "use_case": record.use_case,
        "request_id": record.request_id,
        "key": record.key,
        "decided_at_us": to_micros(record.decided_at),
        "received_at_us": to_micros(record.received_at),
        "version": record.version,
        "cohort": record.cohort,
        "request": dict(record.request),
        "features": dict(record.features),
        "value": finite(record.value),
        "fallback": record.fallback,
        "flags": record.flags,
        "latency_ms": finite(record.latency_ms),
        "rollout_id": record.rollout_id,
        "rollout_revision": record.rollout_revision,
        **bounds_of(record.interval),
    }


def _prediction(row: Any) -> Prediction:
    return Prediction(
        prediction_id=row.prediction_id,
        use_case=row.use_case,
        request_id=row.request_id,
        key=row.key,
        decided_at=from_micros(row.decided_at_us),
        received_at=from_micros(row.received_at_us),
        version=row.version,
        cohort=row.cohort,
        request=row.request,
        features=row.features,
        value=row.value,
        fallback=row.fallback,
        flags=tuple(row.flags),
        latency_ms=row.latency_ms,
        rollout_id=row.rollout_id,
        rollout_revision=row.rollout_revision,
        interval=None if row.lower is None else (row.lower, row.upper),
    )


def _truth_row(record: Truth) -> dict[str, Any]:
    return {
        "truth_id": text_of(record.truth_id),
        "use_case": record.use_case,
        "key": record.key,
        "value": finite(record.value),
        "known_at_us": to_micros(record.known_at),
        "received_at_us": to_micros(record.received_at),
        "source": record.source,
        "annotator": record.annotator,
        "note": record.note,
    }


def truth_from(row: Any, *, prefix: str = "") -> Truth:
    """A truth out of a row's columns under a prefix."""

    def column(name: str) -> Any:
        return getattr(row, prefix + name)

    return Truth(
        truth_id=column("truth_id"),
        use_case=column("use_case"),
        key=column("key"),
        value=column("value"),
        known_at=from_micros(column("known_at_us")),
        received_at=from_micros(column("received_at_us")),
        source=column("source"),
        annotator=column("annotator"),
        note=column("note"),
    )


def _event_row(record: Event) -> dict[str, Any]:
    return {
        "event_id": text_of(record.event_id),
        "use_case": record.use_case,
        "stream": record.stream,
        "happened_at_us": to_micros(record.happened_at),
        "known_at_us": to_micros(record.known_at),
        "received_at_us": to_micros(record.received_at),
        "values": dict(record.values),
    }


def _event(row: Any) -> Event:
    return Event(
        event_id=row.event_id,
        use_case=row.use_case,
        stream=row.stream,
        happened_at=from_micros(row.happened_at_us),
        known_at=from_micros(row.known_at_us),
        received_at=from_micros(row.received_at_us),
        values=row._mapping["values"],
    )


_PREDICTION_STAMPS = frozenset({"received_at_us", "latency_ms", "rollout_id", "rollout_revision"})
PREDICTIONS: Kind[Prediction] = Kind(
    tables.predictions, "prediction_id", "decided_at_us", _PREDICTION_STAMPS,
    _prediction_row, _prediction,
)  # fmt: skip
TRUTHS: Kind[Truth] = Kind(
    tables.truths, "truth_id", "known_at_us", frozenset({"received_at_us"}), _truth_row, truth_from
)
# The collector lifts an event that comes late past the watermark, so a retry can come with another known_at.
EVENTS: Kind[Event] = Kind(
    tables.events, "event_id", "known_at_us", frozenset({"received_at_us", "known_at_us"}), _event_row, _event
)
