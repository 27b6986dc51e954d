"""What users say of predictions: who may say how much, and what becomes of it.

With the right value it is a truth whose source is the user; without one it is an event, for labelling to look at. A
user is kept under a pseudonym. Feedback on a prediction that is not in the store yet is kept and joined when it comes
(``waiting``).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.concurrency import run_in_threadpool

from ninefold.clock import format_instant, parse_instant
from ninefold.keys import KeysFile
from ninefold.records import FEEDBACK_STREAM, WAITING_STREAM, Event, derived_id
from ninefold.store import Store
from serving.collector.inputs import EventInput, FeedbackInput, TruthInput
from serving.collector.keeper import Batch
from serving.collector.limits import FeedbackLimits
from serving.collector.lookup import predictions_of

_UNTOLD = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for a decision moment that is not known yet: a retry has to be the same record."""


class FeedbackDesk:
    """Takes feedback of one use case.

    Args:
        use_case: Name of the use case.
        store: The production database.
        keys: The keys that callers show: a user's pseudonym hangs on the key's secret.
        limits: How much may come.
        seconds: A clock that never goes back.
    """

    def __init__(
        self, use_case: str, store: Store, keys: KeysFile, limits: FeedbackLimits, seconds: Callable[[], float]
    ) -> None:
        self._use_case = use_case
        self._store = store
        self._keys = keys
        self._limits = limits
        self._seconds = seconds

    async def batch(self, caller: str, given: Sequence[FeedbackInput]) -> Batch:
        """What is to be kept of a request's feedback.

        Args:
            caller: Name of the key.
            given: The feedback, checked.

        Raises:
            LimitReached: The key or one of its users has said too much in the last minute.
        """
        secret = self._keys.keys.secret_of(caller)
        users = [pseudonym(secret, feedback.user) for feedback in given]
        # Who does not name its users has one.
        self._limits.take(caller, Counter(f"{caller}/{user or ''}" for user in users), self._seconds())
        ids = {feedback.prediction_id for feedback in given}
        found = await run_in_threadpool(predictions_of, self._store, self._use_case, ids)
        truths: list[TruthInput] = []
        events: list[EventInput] = []
        waiting = 0
        for feedback, user in zip(given, users, strict=True):
            said = _Said(feedback, user, _identity(self._use_case, caller, feedback, user))
            if (prediction := found.get(feedback.prediction_id)) is None:
                events.append(said.waiting())
                waiting += 1
            elif feedback.value is not None:
                truths.append(said.truth(feedback.value, *prediction))
            else:
                events.append(said.remark(*prediction))
        return Batch(truths=truths, events=events, waiting=waiting)


def pseudonym(secret: bytes, user: str | None) -> str | None:
    """What a user is kept as: the same for the same user of a key, and no name to anybody without the key.

    A keyed hash (BLAKE2b), so that who has the store alone can't try names.
    """
    if user is None:
        return None
    return "user-" + hashlib.blake2b(user.encode(), key=secret, digest_size=12).hexdigest()


class _Said:
    """One piece of feedback with what it is kept as."""

    def __init__(self, feedback: FeedbackInput, user: str | None, identity: str) -> None:
        self._feedback = feedback
        self._user = user
        self._identity = identity

    def truth(self, value: float, key: str, decided_at: datetime) -> TruthInput:
        given = self._feedback
        return TruthInput(
            # Without the sender's id the content is the identity, and back to what was said before is another truth.
            id=self._identity if given.id is not None else None,
            key=key,
            value=value,
            known_at=given.known_at,
            earliest=decided_at,
            source="user",
            annotator=self._user,
            note=given.text,
        )

    def remark(self, key: str, decided_at: datetime) -> EventInput:
        given = self._feedback
        return EventInput(
            id=self._identity,
            stream=FEEDBACK_STREAM,
            happened_at=given.known_at or decided_at,
            known_at=given.known_at,
            values=_remark(given.prediction_id, key, given.text, self._user, given.wrong),
        )

    def waiting(self) -> EventInput:
        given = self._feedback
        return EventInput(
            id=derived_id("waiting", self._identity),
            stream=WAITING_STREAM,
            happened_at=given.known_at or _UNTOLD,
            known_at=given.known_at,
            values={
                "id": self._identity,
                "prediction_id": given.prediction_id,
                "value": given.value,
                "wrong": given.wrong,
                "text": given.text,
                "user": self._user,
                "known_at": None if given.known_at is None else format_instant(given.known_at),
            },
        )


def joined(event: Event, key: str, decided_at: datetime) -> TruthInput | EventInput:
    """What becomes of feedback that waited, now that its prediction is there; the same whenever it is joined.

    Args:
        event: Of ``WAITING_STREAM``.
        key: The prediction's.
        decided_at: The prediction's.
    """
    values = event.values
    said = event.known_at if values["known_at"] is None else parse_instant(values["known_at"])
    if values["value"] is None:
        return EventInput(
            id=values["id"],
            stream=FEEDBACK_STREAM,
            happened_at=said,
            known_at=said,
            values=_remark(values["prediction_id"], key, values["text"], values["user"], values["wrong"]),
        )
    return TruthInput(
        id=values["id"],
        key=key,
        value=float(values["value"]),
        known_at=max(said, decided_at),
        source="user",
        annotator=values["user"],
        note=values["text"],
    )


def _remark(prediction_id: str, key: str, text: str | None, user: str | None, wrong: bool | None) -> Mapping[str, Any]:
    return {"prediction_id": prediction_id, "key": key, "text": text, "user": user, "wrong": wrong}


def _identity(use_case: str, caller: str, feedback: FeedbackInput, user: str | None) -> str:
    """The sender's id within what this key may name; else one out of the content.

    Never the bare id: a user could take the one that a system's truth is going to have.
    """
    if feedback.id is not None:
        return derived_id("feedback", use_case, caller, "id", feedback.id)
    known_at = "" if feedback.known_at is None else format_instant(feedback.known_at)
    said = (repr(feedback.value), repr(feedback.wrong), feedback.text or "", user or "", known_at)
    return derived_id("feedback", use_case, caller, "said", feedback.prediction_id, *said)
