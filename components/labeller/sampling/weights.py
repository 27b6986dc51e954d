"""What each label stands for: weights under which labelled rows tell of all rows, although they were picked unequally.

One batch: a row counts 1 / inclusion probability (Horvitz and Thompson, 1952). Who skipped tells nothing, and those who
had the same chance in the same batch count for it (weighting classes: Oh and Scheuren, 1983, Weighting adjustment for
unit nonresponse).

Several batches: each picks from what the ones before left, and what was labelled before stands for itself alone. So
each batch gives an estimate of its own, unbiased whatever the batches before looked at, and a row's weight is the mean
over the batches that could have picked it (Farquhar, Gal and Rainforth, 2021, On statistical bias in active learning).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from ninefold.errors import DataError
from ninefold.labels import LabelTask

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """Rows that somebody was asked about, each [rows].

    Args:
        batch: Place of the batch that asked, in time.
        chance: Inclusion probability in that batch; NaN where the batch has none.
        answered: Whether there is a truth.
        arrived: Place of the first batch that could have picked the row.
    """

    batch: Array
    chance: Array
    answered: Array
    arrived: Array


def label_weights(asked: Asked) -> Array:
    """Weight of each row: [rows]; 0 for a row without a truth, and where no batch tells what it stands for.

    A batch tells where all its inclusion probabilities are known and each of its classes was answered by somebody.

    Raises:
        DataError: A chance is not in (0, 1], or a row was asked about before it could have been.
    """
    known = np.isfinite(asked.chance)
    wrong = int(np.count_nonzero(known & ~((asked.chance > 0) & (asked.chance <= 1))))
    if wrong:
        raise DataError(f"{wrong:,} of {len(asked.chance):,} inclusion probabilities are not above 0 and at most 1.")
    if (asked.arrived > asked.batch).any():
        raise DataError("A row was asked about by a batch that could not have picked it.")
    telling, within = [], np.zeros(len(asked.batch))
    for batch in np.unique(asked.batch).tolist():
        rows = np.flatnonzero(asked.batch == batch)
        if not known[rows].all():
            continue
        classes = [rows[asked.chance[rows] == chance] for chance in np.unique(asked.chance[rows])]
        if any(not asked.answered[of_one].any() for of_one in classes):
            continue
        telling.append(batch)
        for of_one in classes:
            share = asked.answered[of_one].mean()
            within[of_one] = 1.0 / (asked.chance[of_one] * share)
    places = np.array(telling, dtype=np.int64)
    later = len(places) - np.searchsorted(places, asked.batch, side="right")
    could = len(places) - np.searchsorted(places, asked.arrived, side="left")
    told = np.divide(within + later, could, out=np.zeros(len(within)), where=could > 0)
    return np.where(asked.answered, told, 0.0)


def weights_of(
    tasks: Sequence[LabelTask], answered: Mapping[str, Any], asked_at: Mapping[str, datetime]
) -> dict[str, float]:
    """Key → weight, of the keys that experts told a truth of.

    Args:
        tasks: All tasks of the use case.
        answered: Keys with a truth by labellers.
        asked_at: Key → when it was first predicted, and so could be picked; a key that is missing could be from the
            batch that asked about it.
    """
    sent: dict[str, datetime] = {}
    for task in tasks:
        sent[task.batch] = min(task.sent_at, sent.get(task.batch, task.sent_at))
    order = sorted(sent, key=lambda batch: (sent[batch], batch))
    place = {batch: i for i, batch in enumerate(order)}
    moments = [sent[batch] for batch in order]

    def arrived(task: LabelTask) -> int:
        since = asked_at.get(task.key)
        mine = place[task.batch]
        return mine if since is None else min(mine, next(i for i, at in enumerate([*moments, since]) if at >= since))

    weights = label_weights(
        Asked(
            batch=np.array([place[task.batch] for task in tasks], dtype=np.int64),
            chance=np.array([_chance(task.inclusion_probability) for task in tasks]),
            answered=np.array([task.key in answered for task in tasks], dtype=bool),
            arrived=np.array([arrived(task) for task in tasks], dtype=np.int64),
        )
    )
    return {t.key: float(w) for t, w in zip(tasks, weights, strict=True) if t.key in answered}


def _chance(chance: float | None) -> float:
    return float("nan") if chance is None else chance
