"""From the models that a search kept to the one that is packaged: averaged, trained again on all rows, calibrated.

What is chosen, and by which weights, the validation set says of models that never saw it. After that it has nothing
left to judge, and the members are trained again on training and validation rows together: the latest rows, where a set
is divided by time, and a quarter more of them. Time that is left goes to the same members with other seeds, whose
average is steadier than one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np

from components.model_builder.calibration import Calibrated, calibration
from components.model_builder.ensemble import Ensemble, select
from components.model_builder.families import Answer, Control, Fitted
from components.model_builder.families.link import linked, unlinked
from components.model_builder.search import RESERVE, Budget, Found, Kept, Row
from components.model_builder.table import Array, Table, Task

MOST_MICROSECONDS = 350.0
"""What the members may take for one row, by their own estimates: a server has more to do in a millisecond."""
MOST_SEEDS = 8
"""Models of a member, each with a seed of its own."""
MOST_JUDGED = 20_000
"""Validation rows that a selection looks at; a metric is computed for every member in every round."""
_SLOWER = 1.15
"""What training takes again, beyond what the greater number of rows says."""
_PER_BYTE = 6e-7
"""Seconds that export and parity check need for a byte of model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What is packaged.

    Args:
        row: Its row of the leaderboard; the value is of models that did not see the validation set.
        fitted: The model.
        notes: What a package says of it, beyond the row.
    """

    row: Row
    fitted: Answer
    notes: Mapping[str, Any]


@dataclass(slots=True)
class _Member:
    kept: Kept
    weight: float
    again: list[Fitted] = field(default_factory=list)
    """The same model on all rows, once a seed."""

    @property
    def models(self) -> list[Fitted]:
        return self.again or [self.kept.fitted]


def single(task: Task, found: Found, validation: Table, *, seed: int) -> Chosen:
    """The best model of a search as it was trained."""
    best = found.kept[0]
    return _calibrated(task, validation, best.row, best.fitted, best.answers, {}, seed=seed)


def finished(task: Task, found: Found, train: Table, validation: Table, budget: Budget, *, seed: int) -> Chosen:
    """The best average of the models that a search kept, trained again as far as time allows."""
    members = _selected(task, found, validation, budget, ratio=1 + len(validation) / len(train), seed=seed)
    raw = np.zeros(len(validation))
    for member in members:
        raw += member.weight * linked(task, member.kept.answers)
    answers = unlinked(task, raw)
    row = found.best if members[0].weight == 1.0 else _row(task, validation, members, answers)
    _train_again(members, train.joined(validation), budget, ratio=1 + len(validation) / len(train), seed=seed)
    fitted: Fitted = Ensemble(task, [(one.weight / len(one.models), model) for one in members for model in one.models])
    notes = {
        "members": [
            {
                "family": one.kept.row.family, "params": dict(one.kept.row.params), "weight": one.weight,
                "validation": one.kept.row.value, "trained_again": len(one.again),
            }
            for one in members
        ]
    }  # fmt: skip
    return _calibrated(task, validation, row, fitted, answers, notes, seed=seed)


def _selected(task: Task, found: Found, validation: Table, budget: Budget, *, ratio: float, seed: int) -> list[_Member]:
    rows = np.arange(len(validation))
    if len(rows) > MOST_JUDGED:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_JUDGED, replace=False))
    judged = validation.rows(rows)
    sign = 1.0 if task.metric.direction == "minimize" else -1.0

    def loss(raw: Array) -> float:
        value = judged.score(task, unlinked(task, raw))
        return sign * value if np.isfinite(value) else np.inf

    costs = np.array([[one.fitted.microseconds, _SLOWER * ratio * one.row.seconds] for one in found.kept])
    weights = select(
        np.array([linked(task, one.answers[rows]) for one in found.kept]), loss, costs=costs,
        most=np.array([MOST_MICROSECONDS, budget.remaining]),
    )  # fmt: skip
    members = [_Member(found.kept[place], weight) for place, weight in weights.items()]
    members.sort(key=lambda one: -one.weight)
    return members


def _row(task: Task, validation: Table, members: list[_Member], answers: Array) -> Row:
    shares: dict[str, float] = {}
    for one in members:
        shares[one.kept.row.family] = shares.get(one.kept.row.family, 0.0) + one.weight
    return Row(
        family="ensemble", params=shares, value=validation.score(task, answers),
        seconds=sum(one.kept.row.seconds for one in members),
    )  # fmt: skip


def _train_again(members: list[_Member], table: Table, budget: Budget, *, ratio: float, seed: int) -> None:
    """Each member on all rows, the weightiest first; then with other seeds, in turns, until time or bounds end it."""
    control = Control(budget.over, lambda step, value: False)
    seconds = {id(one): _SLOWER * ratio * one.kept.row.seconds for one in members}
    for turn in range(MOST_SEEDS):
        for one in members:
            budget.keep(_end(members))
            if budget.remaining < seconds[id(one)] or (turn and not one.kept.family.varies):
                continue
            spent = sum(model.microseconds for each in members for model in each.models)
            if turn and spent + one.models[-1].microseconds > MOST_MICROSECONDS:
                continue
            if turn != len(one.again):
                # What was not trained again in its turn stays as it is: its seeds would not be of one kind.
                continue
            started = monotonic()
            fitted = one.kept.family.refit(one.kept.row.params, one.kept.fitted, table, seed + turn, control)
            if budget.over():
                # It was stopped, and is less than what there is.
                return
            one.again.append(fitted)
            seconds[id(one)] = 1.05 * (monotonic() - started)


def _end(members: list[_Member]) -> float:
    """Seconds that export, parity check and writing need."""
    scoring = sum(one.kept.scoring * len(one.models) for one in members)
    size = sum(model.size for one in members for model in one.models)
    return RESERVE + 6 * scoring + _PER_BYTE * size


def _calibrated(
    task: Task, validation: Table, row: Row, fitted: Fitted, answers: Array, notes: Mapping[str, Any], *, seed: int
) -> Chosen:
    told, curve = calibration(task, validation, linked(task, answers), seed=seed)
    if told is not None:
        notes = {**notes, "calibration": told.to_json()}
    return Chosen(row=row, fitted=fitted if curve is None else Calibrated(fitted, curve), notes=notes)
