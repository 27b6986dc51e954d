"""Whether one input alone tells the target (nearly) perfectly on rows that it was not fitted on.

Real causes are weak and many. An input that tells everything by itself is nearly always the answer in disguise: it was
written down after the fact, computed from the truth, or is the truth in another unit. A model that learns from it looks
perfect offline and knows nothing when it is asked.

The estimate is a curve of one input, fitted on one part of the rows and judged on another. For numbers: the mean truth
in up to 256 bins of as many rows, with straight lines between them, and one straight line over all. For categories: the
mean truth of each value, where a value that the fit never saw gets the mean of all: so an identifier tells nothing. A
null is a value of its own: a field that is filled in only afterwards tells by being there.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ninefold.errors import DataError
from ninefold.metrics import auc

if TYPE_CHECKING:
    from ninefold.fields import Columns
    from ninefold.usecase import Problem

Array = np.ndarray[Any, Any]

LIMIT = 0.99
"""Area under the ROC curve, or share of variance explained, from which an input tells too much."""
ROWS = 50_000
"""Rows of a part that are looked at, evenly spread."""
LEAST_ROWS, LEAST_OF_A_CLASS = 50, 10
"""Fewer held-out rows, or rows of a class, than this show nothing."""
_BINS, _ROWS_IN_A_BIN = 256, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """What one input tells by itself.

    Args:
        name: The input.
        measure: ``auc`` for two classes, ``r2`` for a number.
        value: On held-out rows, at most 1; NaN where there are too few rows to say.
    """

    name: str
    measure: Literal["auc", "r2"]
    value: float

    @property
    def words(self) -> str:
        """The measure for people."""
        names = {"auc": "area under the ROC curve", "r2": "share of variance explained"}
        return f"{names[self.measure]} {self.value:.4f}"


def tell_alone(fit: Columns, fit_truth: Array, held: Columns, held_truth: Array, problem: Problem) -> tuple[Alone, ...]:
    """What each column tells, the most telling first; those that too few rows say nothing of stand last.

    Args:
        fit: Columns [rows], numbers or objects (categories), that the curves are fitted on.
        fit_truth: [rows], finite; 0 or 1 for a binary problem.
        held: The same columns of other rows, which the curves are judged on.
        held_truth: Likewise.
        problem: Which measure counts.
    """
    measure: Literal["auc", "r2"] = "auc" if problem == "binary" else "r2"
    a, b = _spread(len(fit_truth)), _spread(len(held_truth))
    y, target = fit_truth[a], held_truth[b]
    telling = _enough(target, problem) and len(y) > 0
    found = []
    for name in fit:
        value = math.nan
        if telling:
            curves = _by_value if fit[name].dtype == object else _by_number
            scores = [_score(guess, target, problem) for guess in curves(fit[name][a], y, held[name][b])]
            value = max((s for s in scores if not math.isnan(s)), default=math.nan)
        found.append(Alone(name=name, measure=measure, value=value))
    return tuple(sorted(found, key=lambda one: (math.isnan(one.value), -one.value, one.name)))


def refuse(found: Sequence[Alone], allowed: Collection[str], *, remedy: str) -> None:
    """Refuses inputs that tell too much and that nobody allowed.

    Args:
        found: From ``tell_alone``.
        allowed: Names of inputs that may.
        remedy: What to do; ``{names}`` stands for the inputs.

    Raises:
        DataError: There is such an input; the message names each.
    """
    wrong = [one for one in found if one.value >= LIMIT and one.name not in allowed]
    if wrong:
        listed = "; ".join(f"{one.name} ({one.words})" for one in wrong)
        one = len(wrong) == 1
        raise DataError(
            f"The target leaks: {listed} {'predicts' if one else 'each predict'} it nearly perfectly alone, on rows "
            f"that {'it was' if one else 'they were'} not fitted on. That is the answer in disguise, or known only "
            "after it.",
            remedy=remedy.format(names=", ".join(one.name for one in wrong)),
        )


def notes(found: Sequence[Alone], allowed: Collection[str]) -> Mapping[str, Any]:
    """The same for a report: the most telling input, its value, and what was allowed."""
    known = [one for one in found if not math.isnan(one.value)]
    document: dict[str, Any] = {"limit": LIMIT, "checked": len(known), "not_checked": len(found) - len(known)}
    if known:
        document |= {"most_telling": known[0].name, "measure": known[0].measure, "value": round(known[0].value, 4)}
    over = [one.name for one in known if one.value >= LIMIT and one.name in allowed]
    return document | ({"allowed": ", ".join(over)} if over else {})


def _spread(rows: int) -> slice:
    return slice(None, None, max(1, math.ceil(rows / ROWS)))


def _enough(truth: Array, problem: Problem) -> bool:
    if len(truth) < LEAST_ROWS:
        return False
    if problem == "binary":
        return bool(min(truth.sum(), len(truth) - truth.sum()) >= LEAST_OF_A_CLASS)
    return bool(truth.std() > 0)


def _score(guess: Array, truth: Array, problem: Problem) -> float:
    if problem == "binary":
        return auc(truth, guess, np.ones(len(truth)))
    return float(1.0 - ((truth - guess) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def _by_number(x: Array, y: Array, held: Array) -> list[Array]:
    known, asked = np.isfinite(x), np.isfinite(held)
    unknown = y[~known].mean() if (~known).any() else y.mean()
    if not known.any():
        return [np.full(len(held), unknown)]
    inside, truth = x[known], y[known]
    bins = int(np.clip(len(inside) // _ROWS_IN_A_BIN, 2, _BINS))
    edges = np.unique(np.quantile(inside, np.arange(bins) / bins, method="lower"))
    place = np.searchsorted(edges, inside, side="right") - 1
    rows = np.bincount(place, minlength=len(edges))
    full = rows > 0
    middle = np.bincount(place, weights=inside, minlength=len(edges))[full] / rows[full]
    mean = np.bincount(place, weights=truth, minlength=len(edges))[full] / rows[full]
    curve = np.where(asked, np.interp(held, middle, mean), unknown)
    spread = inside.std()
    slope = ((inside - inside.mean()) * (truth - truth.mean())).mean() / spread**2 if spread > 0 else 0.0
    line = np.where(asked, truth.mean() + slope * (np.where(asked, held, 0.0) - inside.mean()), unknown)
    return [curve, line]


def _by_value(x: Array, y: Array, held: Array) -> list[Array]:
    sums: dict[Any, list[float]] = {}
    for value, truth in zip(x.tolist(), y.tolist(), strict=True):
        entry = sums.setdefault(value, [0.0, 0.0])
        entry[0] += truth
        entry[1] += 1.0
    means = {value: total / count for value, (total, count) in sums.items()}
    overall = float(y.mean())
    return [np.array([means.get(value, overall) for value in held.tolist()])]
