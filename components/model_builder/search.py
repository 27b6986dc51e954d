"""The search: which family is tried next, with which parameters, until time is over.

Every family starts with one trial of its good defaults. After that a trial goes to the family that promises most *per
second*: its values are taken as normal, with the mean and deviation of its own best half, and the promise is the
expected improvement over the best value so far (Jones, Schonlau and Welch, 1998), divided by what its trials took. So a
family that trails far behind is asked rarely, a cheap one more often than a dear one, and none is shut out. Within a
family Optuna's tree-structured Parzen estimator proposes (Bergstra et al., 2011), and the median rule gives up early on
what is behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal

import numpy as np

from components.model_builder.families import Control, Family, Fitted, HopelessTrial
from components.model_builder.table import Array, Table, Task
from ninefold.errors import PackageError

PRIOR_DEVIATION = 0.02
"""Deviation of a family's values, as a share of its best, before it has three: what tuning usually moves."""
_STARTUP_TRIALS = 6
RESERVE, RESERVE_SHARE = 0.3, 0.03
"""Seconds, and share of the maximum time, that are kept back for the end before anything is known of it."""
OPENING_SHARE = 0.2
"""Of the time that is left, what a family's first trial may take while another family has had none."""
SMALLEST_START = 0.1
"""Of the maximum time, what has to be left for a family to begin at all."""
KEPT, KEPT_BYTES = 30, 400_000_000
"""Models that are kept for an ensemble, and what they may hold together: the best ones."""
NEAR = 0.1
"""Of the best value: how far a family may be behind, and still be of use in an average."""
_SMALLEST_SHARE = 0.5
"""A trial isn't begun with less than this share of what its family's trials took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the leaderboard.

    Args:
        family: ``baseline``, ``ensemble``, or a family's name.
        params: Its parameters.
        value: The metric on the validation set; None where it gave up.
        seconds: What fitting and scoring took.
        outcome: ``finished``; ``stopped`` by the end of time, and still a model; ``pruned`` for being behind.
    """

    family: str
    params: Mapping[str, Any]
    value: float | None
    seconds: float
    outcome: Literal["finished", "stopped", "pruned"] = "finished"


class Budget:
    """Time that is left for fitting: the maximum, less what export and parity check of the best model will take.

    Args:
        seconds: Maximum training time, everything included.
        started: ``time.monotonic()`` when it began.
    """

    def __init__(self, seconds: float, *, started: float) -> None:
        self.seconds = seconds
        self._started = started
        self._reserve = RESERVE + RESERVE_SHARE * seconds

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return monotonic() - self._started

    @property
    def remaining(self) -> float:
        """Seconds left for fitting; negative when over."""
        return self.seconds - self._reserve - self.elapsed

    def keep(self, seconds: float) -> None:
        """Keeps more back, when the model that leads turns out slow to check."""
        self._reserve = max(self._reserve, seconds)

    def over(self) -> bool:
        """Whether fitting has to stop."""
        return self.remaining <= 0

    def first(self, share: float) -> Budget:
        """The first share of it."""
        return Budget(share * self.seconds, started=self._started)

    def part(self, share: float) -> Callable[[], bool]:
        """A function that says whether a share of what is left now is over."""
        end = self.elapsed + share * self.remaining
        return lambda: self.elapsed >= end or self.over()


@dataclass(slots=True)
class _Record:
    """What is known of a family: its study and what its trials gave and took."""

    family: Family
    study: Any
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def promise(self, best: float) -> float:
        """Expected improvement per second over the least loss so far."""
        kept = sorted(self.losses)[: max(2, math.ceil(len(self.losses) / 2))]
        deviation = float(np.std(kept)) if len(self.losses) >= 3 else PRIOR_DEVIATION * abs(min(kept))
        deviation = max(deviation, 1e-3 * PRIOR_DEVIATION * abs(best), 1e-12)
        z = (best - float(np.mean(kept))) / deviation
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        improvement = deviation * (z * (1 + math.erf(z / math.sqrt(2))) / 2 + density)
        return improvement / float(np.mean(self.seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A fitted model, and what it answered on the validation set.

    Args:
        row: Its row of the leaderboard.
        family: What made it.
        fitted: The model.
        answers: float64 [rows], before the offset is added.
        scoring: Seconds that predicting the validation set took.
    """

    row: Row
    family: Family
    fitted: Fitted
    answers: Array
    scoring: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search ends with: every trial in order, the best one's row and model, and the best models, best first."""

    rows: tuple[Row, ...]
    best: Row
    fitted: Fitted
    kept: tuple[Kept, ...]


def search(
    task: Task,
    families: Sequence[Family],
    validation: Table,
    budget: Budget,
    *,
    seed: int,
    trials: int | None,
    on_trial: Callable[[Row], None],
    known: Sequence[Row] = (),
    spread: float = 0.0,
) -> Found:
    """Searches until time is over or ``trials`` are done. The first trial is made however little time there is.

    What is ``known`` from an earlier search on the same sets is not fitted again: it tells where to go on, and a family
    that it has a finished trial of begins there instead of with its defaults.

    For an average, ``spread`` is the least share of the time that each family gets that is not far behind: models of
    different kinds err differently.

    With the same inputs, seed and number of trials, none of them stopped by the end of time, it returns the same model.
    """
    sign = 1.0 if task.metric.direction == "minimize" else -1.0
    records = [_record(family, known, sign=sign, seed=seed) for family in families]
    rows: list[Row] = []
    kept: list[Kept] = []
    while not kept or ((trials is None or len(rows) < trials) and not budget.over()):
        least = min((loss for each in records for loss in each.losses), default=math.inf)
        record = _next(records, budget, best_loss=least, timed=trials is None, spread=spread)
        if record is None:
            break
        untried = any(not other.seconds for other in records if other is not record)
        over = budget.part(OPENING_SHARE) if untried else budget.over
        row, candidate = _try(record, task, validation, budget, over, sign)
        rows.append(row)
        on_trial(row)
        if candidate is not None:
            kept = _best(kept, candidate, sign=sign)
    if not kept:
        raise PackageError("No trial gave a model.")
    return Found(rows=tuple(rows), best=kept[0].row, fitted=kept[0].fitted, kept=tuple(kept))


def _best(kept: Sequence[Kept], candidate: Kept, *, sign: float) -> list[Kept]:
    """Best first, of equal ones the older, as far as the bounds go; each family's best before any family's second."""
    ranked = sorted((*kept, candidate), key=lambda one: sign * _value(one.row))
    families = [one.row.family for one in ranked]
    first = [family not in families[:place] for place, family in enumerate(families)]
    held = 0
    found: set[int] = set()
    for place in sorted(range(len(ranked)), key=lambda place: (not first[place], place))[:KEPT]:
        held += ranked[place].fitted.size
        if found and held > KEPT_BYTES:
            break
        found.add(place)
    # The leader is a model whatever it holds.
    return [one for place, one in enumerate(ranked) if place in found or place == 0]


def _value(row: Row) -> float:
    return math.inf if row.value is None else row.value


def _record(family: Family, known: Sequence[Row], *, sign: float, seed: int) -> _Record:
    """A family with a study of its own, which has been told what is known already."""
    told = [row for row in known if row.family == family.name and row.outcome == "finished" and row.value is not None]
    # With the same seed the sampler would propose again what it proposed in the search before.
    record = _Record(family, _study(seed + len(told)))
    for row in told:
        record.study.enqueue_trial(dict(row.params))
        trial = record.study.ask()
        family.suggest(trial)
        loss = sign * _value(row)
        record.study.tell(trial, loss)
        record.losses.append(loss)
        record.seconds.append(row.seconds)
    if not told:
        record.study.enqueue_trial(dict(family.default))
    return record


def _study(seed: int) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        direction="minimize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=100),
    )


def _next(records: list[_Record], budget: Budget, *, best_loss: float, timed: bool, spread: float) -> _Record | None:
    for record in records:
        needed = max(record.family.preparation, SMALLEST_START * budget.seconds)
        if not record.seconds and (record is records[0] or budget.remaining > needed):
            return record
    # Time per trial decides nothing where the number of trials is what is given: the same search has to come out.
    if not timed:
        return min(records, key=lambda record: len(record.seconds))
    tried = [record for record in records if record.losses]
    affordable = [r for r in tried if budget.remaining > _SMALLEST_SHARE * float(np.mean(r.seconds))]
    spent = sum(sum(record.seconds) for record in records)
    near = [r for r in affordable if min(r.losses) - best_loss <= NEAR * abs(best_loss)]
    short = [r for r in near if sum(r.seconds) + float(np.mean(r.seconds)) <= spread * spent]
    if short:
        return min(short, key=lambda record: sum(record.seconds))
    return max(affordable, key=lambda record: record.promise(best_loss), default=None)


def _try(
    record: _Record, task: Task, validation: Table, budget: Budget, over: Callable[[], bool], sign: float
) -> tuple[Row, Kept | None]:
    import optuna

    trial = record.study.ask()
    params = record.family.suggest(trial)
    if trial.number == 0:
        params = dict(record.family.default)

    def hopeless(step: int, loss: float) -> bool:
        trial.report(loss, step)
        return bool(trial.should_prune())

    started = monotonic()
    try:
        fitted = record.family.fit(params, Control(over, hopeless))
    except HopelessTrial:
        seconds = monotonic() - started
        record.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        record.seconds.append(seconds)
        row = Row(family=record.family.name, params=params, value=None, seconds=seconds, outcome="pruned")
        return row, None
    stopped = over()
    scoring = monotonic()
    answers = fitted.predict(validation)
    value = validation.score(task, answers)
    ended = monotonic()
    # The parity gate predicts the same rows twice, once on a single thread; export takes about as long.
    budget.keep(RESERVE + 6 * (ended - scoring))
    record.study.tell(trial, sign * value)
    record.losses.append(sign * value)
    record.seconds.append(ended - started)
    outcome: Literal["finished", "stopped"] = "stopped" if stopped else "finished"
    row = Row(family=record.family.name, params=params, value=value, seconds=ended - started, outcome=outcome)
    return row, Kept(row=row, family=record.family, fitted=fitted, answers=answers, scoring=ended - scoring)
