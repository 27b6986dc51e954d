"""What passes through the system: predictions, truths, events. Types, identities and their pure rules.

Every record has an id minted by its producer, so every write is idempotent. JSON form: ``to_json`` and ``from_json``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ninefold.clock import format_instant, parse_instant

TruthSource = Literal["system", "user", "labeller"]
Fallback = Literal[
    "model_unreachable", "model_slow", "model_error", "out_of_range", "unseen_category", "feature_missing",
    "feature_stale", "no_model",
]  # fmt: skip
"""Why an answer came from the baseline."""

FEEDBACK_STREAM = "feedback"
"""Stream of what users said without naming the right value; each event's values hold the prediction's ``key``."""

WAITING_STREAM = "feedback_waiting"
"""Stream of feedback on predictions that had not reached the store when it came."""


def entity_key(values: Iterable[Any]) -> str:
    r"""The canonical text of a key's values, in the declared order: ``2013-07-01|UA|1545|EWR``.

    Whole floats lose their fraction, instants are RFC 3339, and ``|`` and ``\`` in strings are escaped, so that two
    different keys never share a text.
    """
    parts = []
    for value in values:
        if isinstance(value, str):
            # Nearly no key holds them, and this stands on the hot path.
            if "\\" in value or "|" in value:
                value = value.replace("\\", "\\\\").replace("|", "\\|")
            parts.append(value)
        elif isinstance(value, float):
            parts.append(str(int(value)) if value.is_integer() else repr(value))
        elif isinstance(value, datetime):
            parts.append(format_instant(value))
        else:
            parts.append(str(value))
    return "|".join(parts)


def key_parts(key: str) -> list[str]:
    """The texts of a key's values: what ``entity_key`` joined."""
    parts, escaped = [""], False
    for letter in key:
        if letter == "|" and not escaped:
            parts.append("")
            continue
        escaped = letter == "\\" and not escaped
        if not escaped:
            parts[-1] += letter
    return parts


def derived_id(*parts: str) -> str:
    """A stable id from its parts: 32 hexadecimal digits of a SHA-256, each part's length included."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One answer that was given, with all that it rested on.

    Args:
        prediction_id: Minted by the front end; a retry with the same client request id has the same one.
        use_case: Name of the use case.
        request_id: The client's ``X-Request-ID`` and the instance's place (``id#3``); None where it sent none.
        key: ``entity_key`` of the request's key fields: what joins it to its truth.
        decided_at: The decision moment.
        received_at: When the front end got the request.
        version: Version of the package that answered; 0 is the baseline.
        cohort: Cohort that the request fell in: ``live``, ``candidate``, or ``shadow`` for what nobody got to see.
        request: The request's fields, as JSON.
        features: Logical feature name → value that was read; null where there was none.
        value: The prediction, in the target's unit.
        fallback: Why the baseline answered; None where the model did.
        flags: What was odd (``unseen:carrier``, ``range:distance``, ``stale:weather``, ``missing:plane``, ``clipped``).
        latency_ms: From receiving the request to its answer.
        rollout_id: Rollout that was open then; None where none was.
        rollout_revision: Its revision, which says who was asked and with what share.
        interval: (lower, upper) around the value, as answered; None where the version has none, or the baseline
            answered. Its width is how unsure the model was of this one: what samplers for labelling may go by.
    """

    prediction_id: str
    use_case: str
    request_id: str | None
    key: str
    decided_at: datetime
    received_at: datetime
    version: int
    cohort: str
    request: Mapping[str, Any]
    features: Mapping[str, Any]
    value: float
    fallback: Fallback | None = None
    flags: tuple[str, ...] = ()
    latency_ms: float = 0.0
    rollout_id: str | None = None
    rollout_revision: int | None = None
    interval: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {
            "prediction_id": self.prediction_id,
            "use_case": self.use_case,
            "request_id": self.request_id,
            "key": self.key,
            "decided_at": format_instant(self.decided_at),
            "received_at": format_instant(self.received_at),
            "version": self.version,
            "cohort": self.cohort,
            "request": dict(self.request),
            "features": dict(self.features),
            "value": self.value,
            "fallback": self.fallback,
            "flags": list(self.flags),
            "latency_ms": self.latency_ms,
            "rollout_id": self.rollout_id,
            "rollout_revision": self.rollout_revision,
            "interval": None if self.interval is None else list(self.interval),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Prediction:
        """Reads what ``to_json`` wrote."""
        return cls(
            prediction_id=document["prediction_id"],
            use_case=document["use_case"],
            request_id=document["request_id"],
            key=document["key"],
            decided_at=parse_instant(document["decided_at"], field="decided_at"),
            received_at=parse_instant(document["received_at"], field="received_at"),
            version=document["version"],
            cohort=document["cohort"],
            request=document["request"],
            features=document["features"],
            value=document["value"],
            fallback=document["fallback"],
            flags=tuple(document["flags"]),
            latency_ms=document["latency_ms"],
            rollout_id=document.get("rollout_id"),
            rollout_revision=document.get("rollout_revision"),
            interval=tuple(bounds) if (bounds := document.get("interval")) is not None else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What turned out to be so, as somebody knew it at some time. Truths keep history; the newest known wins.

    Args:
        truth_id: Minted by the producer; else derived from key, value, source and ``known_at``.
        use_case: Name of the use case.
        key: ``entity_key`` of the request's key fields.
        value: The target's value, in its unit; 0 or 1 for a class.
        known_at: When it became known.
        received_at: When the collector got it.
        source: Who says so.
        annotator: The person, where one said so.
        note: Free text that came along.
    """

    truth_id: str
    use_case: str
    key: str
    value: float
    known_at: datetime
    received_at: datetime
    source: TruthSource = "system"
    annotator: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, for windows to count.

    Args:
        event_id: Minted by the producer.
        use_case: Name of the use case.
        stream: Name of the stream.
        happened_at: When it happened.
        known_at: When the system knew it: what windows go by. Lifted past the watermark when it comes too late.
        received_at: When the collector got it.
        values: The stream's fields.
    """

    event_id: str
    use_case: str
    stream: str
    happened_at: datetime
    known_at: datetime
    received_at: datetime
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One immutable version of a use case's model. Version 0 is the baseline.

    Args:
        use_case: Name of the use case.
        version: Counts from 0.
        digest: The package's digest, the trust anchor: it comes from here, never from the package.
        uri: Where the package lies.
        state: ``registered`` (known, not served), ``live``, or ``retired``.
        created_at: When it was registered.
        metrics: Offline metrics, name → value.
        lengths: Window name → length that it needs online.
        format: The package's format; ``baseline`` is the baseline's.
    """

    use_case: str
    version: int
    digest: str
    uri: str
    state: Literal["registered", "live", "retired"]
    created_at: datetime
    metrics: Mapping[str, float] = field(default_factory=dict)
    lengths: Mapping[str, str] = field(default_factory=dict)
    format: str = "onnx"
