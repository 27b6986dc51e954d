"""Which of production's predictions experts are asked about: by sampler, or by hand.

A key is asked about once, and its newest answer is what experts see. What was predicted in a shadow is nothing that
anybody got to see, and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import numpy as np

from components.labeller.sampling.diversity import traits_of_fields, traits_of_text
from components.labeller.sampling.mix import Mix
from components.labeller.sampling.pool import Pool
from ninefold.errors import UsageError
from ninefold.labels import LabelTask, label_task_id
from ninefold.records import Prediction
from ninefold.store.store import Store
from ninefold.usecase import UseCase

MOST = 10_000
"""Tasks of one batch."""


class Picked(Protocol):
    """One row that is to be labelled, as ``sampling.pick.Pick`` has it."""

    @property
    def key(self) -> str:
        """What joins its label to its predictions."""
        ...

    @property
    def prediction_id(self) -> str | None:
        """The prediction that experts see."""
        ...

    @property
    def sampler(self) -> str:
        """What picked it."""
        ...

    @property
    def reason(self) -> str:
        """Why."""
        ...

    @property
    def score(self) -> float | None:
        """The sampler's number."""
        ...

    @property
    def inclusion_probability(self) -> float | None:
        """With which chance it was picked."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """One row that a person picked."""

    key: str
    prediction_id: str | None
    sampler: str
    reason: str
    score: float | None = None
    inclusion_probability: float | None = None


@dataclass(slots=True)
class Selection:
    """What was picked by hand.

    Args:
        picks: The rows.
        asked: Keys that are meant and were asked about before.
        unknown: Keys that are meant and that nothing was predicted for.
    """

    picks: list[ByHand] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def mix_of(use_case: UseCase, text: str) -> Mix:
    """The mix that is asked for; where none is, the default one, or random where no answer says how sure it is."""
    if text:
        return Mix.parse(text)
    return Mix() if use_case.problem == "binary" or use_case.interval is not None else Mix.parse("random=1")


def label_tasks(use_case: str, picks: Iterable[Picked], batch: str, sent_at: datetime) -> list[LabelTask]:
    """The tasks of a batch.

    Args:
        use_case: Name of the use case.
        picks: What was picked, by a sampler or by hand.
        batch: Its name.
        sent_at: When it is sent.
    """
    return [
        LabelTask(
            task_id=label_task_id(use_case, one.key),
            use_case=use_case,
            key=one.key,
            prediction_id=one.prediction_id,
            batch=batch,
            sampler=one.sampler,
            reason=one.reason,
            score=one.score,
            inclusion_probability=one.inclusion_probability,
            sent_at=sent_at,
        )
        for one in picks
    ]


def pool_of(store: Store, use_case: UseCase, *, since: datetime | None = None, until: datetime | None = None) -> Pool:
    """What samplers pick from: the newest answer of each key that nobody was asked about, and has no truth yet.

    What a user said is no truth of that kind: it is what a sampler may hold against the answer.

    Args:
        store: The production database.
        use_case: The use case.
        since: Least decision moment.
        until: Decision moment that lies just past the last one.
    """
    told: dict[str, float] = {}
    done = {task.key for task in store.label_tasks(use_case.name)}
    for truth in store.truths(use_case.name):
        if truth.source == "user":
            told[truth.key] = truth.value
        else:
            done.add(truth.key)
    texts = [f.name for f in use_case.request if f.kind == "text"]
    rows: dict[str, tuple[str, float, tuple[float, float] | None, frozenset[int]]] = {}
    for one in _answers(store, use_case, since, until):
        if one.key not in done:
            rows[one.key] = one.prediction_id, one.value, one.interval, _traits(use_case, texts, one)
    intervals = [interval for _, _, interval, _ in rows.values()]
    # A pool has bounds for every row or for none.
    bounds = np.array(intervals, dtype=np.float64).T if rows and None not in intervals else None
    known = np.array([told.get(key, np.nan) for key in rows], dtype=np.float64)
    return Pool(
        problem=use_case.problem,
        keys=list(rows),
        prediction_ids=[row[0] for row in rows.values()],
        prediction=np.array([row[1] for row in rows.values()], dtype=np.float64),
        lower=None if bounds is None else bounds[0],
        upper=None if bounds is None else bounds[1],
        known=known if np.isfinite(known).any() else None,
        traits=[row[3] for row in rows.values()],
    )


def by_keys(store: Store, use_case: UseCase, keys: Iterable[str]) -> Selection:
    """What a list of keys means: each once, blank lines left out.

    Args:
        store: The production database.
        use_case: The use case.
        keys: Texts of keys, as ``entity_key`` writes them.

    Raises:
        UsageError: There is none, or there are too many.
    """
    wanted = list(dict.fromkeys(key for line in keys if (key := line.strip())))
    if not wanted:
        raise UsageError("The list of keys is empty.", remedy="Write one key a line.")
    if len(wanted) > MOST:
        raise UsageError(f"The list has {len(wanted):,} keys.", remedy=f"Send at most {MOST:,} at a time.")
    asked = {task.key for task in store.label_tasks(use_case.name)}
    found = Selection(asked=[key for key in wanted if key in asked])
    for key in wanted:
        if key in asked:
            continue
        newest = _newest(store.predictions(use_case.name, key=key))
        if newest is None:
            found.unknown.append(key)
        else:
            found.picks.append(_by_hand(newest, "keys", "Somebody picked it by hand."))
    return found


def by_condition(
    store: Store,
    use_case: UseCase,
    condition: Callable[[Prediction], bool],
    text: str,
    count: int,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Selection:
    """The newest keys whose newest answer a condition is true of.

    Args:
        store: The production database.
        use_case: The use case.
        condition: What ``where`` read.
        text: The expression, for the expert.
        count: How many at most.
        since: Least decision moment.
        until: Decision moment that lies just past the last one.
    """
    asked = {task.key for task in store.label_tasks(use_case.name)}
    newest: dict[str, Prediction] = {}
    for one in _answers(store, use_case, since, until):
        # Its newest answer counts, and moves its key to the end; an older one that was meant does not.
        newest.pop(one.key, None)
        if condition(one):
            newest[one.key] = one
    found = Selection(asked=[key for key in newest if key in asked])
    meant = [one for key, one in newest.items() if key not in asked]
    found.picks = [_by_hand(one, "where", f"Somebody asked for: {text}") for one in reversed(meant[-count:])]
    return found


def predictions_of(store: Store, tasks: Sequence[LabelTask]) -> dict[str, Prediction]:
    """Task → the prediction that experts see; a task whose prediction is not kept any more is left out."""
    found = {}
    for task in tasks:
        prediction = store.prediction(task.prediction_id) if task.prediction_id is not None else None
        if prediction is not None:
            found[task.task_id] = prediction
    return found


def _by_hand(one: Prediction, sampler: str, reason: str) -> ByHand:
    return ByHand(key=one.key, prediction_id=one.prediction_id, sampler=sampler, reason=reason)


def _answers(store: Store, use_case: UseCase, since: datetime | None, until: datetime | None) -> Iterator[Prediction]:
    """What was answered, oldest first."""
    return (one for one in store.predictions(use_case.name, since=since, until=until) if one.cohort != "shadow")


def _newest(predictions: Iterable[Prediction]) -> Prediction | None:
    newest = None
    for one in predictions:
        if one.cohort != "shadow":
            newest = one
    return newest


def _traits(use_case: UseCase, texts: Sequence[str], one: Prediction) -> frozenset[int]:
    if texts:
        return frozenset().union(*(traits_of_text(str(one.request.get(name) or "")) for name in texts))
    values: dict[str, Any] = {**one.features, **one.request}
    return traits_of_fields({name: value for name, value in values.items() if name not in use_case.key})
