"""What labels are worth when nothing else differs: one recipe, learned from picked ones and from draws at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.evaluator.blocks import LEVEL, Interval
from components.model_builder.families import Control
from components.model_builder.families.linear import Linear
from components.model_builder.table import Table, Task
from ninefold.metrics import compute
from ninefold.signature import Signature
from ninefold.usecase import UseCase

RECIPE: Mapping[str, Any] = {"alpha": 3e-4, "min_count": 2, "pairs": True}
"""Words and pairs that two texts hold, and a light penalty, as the search finds them for a thousand texts."""
BOOTSTRAPS = 1_000

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlyLabels:
    """The metric by one recipe, where only the labels differ.

    Args:
        picked: Of the labels that were picked.
        by_chance: Of each draw at random.
        gain: How much better the picked ones are than the mean of the draws; its interval over the rows that are
            judged, and over the draws.
    """

    picked: float
    by_chance: tuple[float, ...]
    gain: Interval


def learned(use_case: UseCase, texts: Sequence[str], truth: Array, held: Sequence[str]) -> Array:
    """What the recipe, learned from some texts, predicts of others.

    Args:
        use_case: One whose only input is a text.
        texts: To learn from.
        truth: [texts], 0 or 1.
        held: To predict.
    """
    task = Task(
        signature=Signature(
            use_case=use_case.name, problem=use_case.problem, inputs=use_case.inputs, views=(),
            derive_digest=use_case.derive_digest, target=use_case.target.name,
        ),
        metric=use_case.metric,
        offset=None,
    )  # fmt: skip
    never = Control(out_of_time=lambda: False, hopeless=lambda _step, _value: False)
    model = Linear(task, _table(use_case, texts, truth)).fit(RECIPE, never)
    return model.predict(_table(use_case, held, np.zeros(len(held))))


def compared(metric: str, truth: Array, picked: Array, by_chance: Sequence[Array]) -> OnlyLabels:
    """Picked labels against draws at random.

    The interval is a bootstrap of the judged rows and of the draws, percentiles (Efron and Tibshirani, 1993).

    Args:
        metric: One that is better when higher.
        truth: [rows].
        picked: [rows], predictions.
        by_chance: [rows] each.
    """
    dice = np.random.default_rng(0)
    gains = []
    for _ in range(BOOTSTRAPS):
        rows = dice.integers(0, len(truth), len(truth))
        draws = dice.integers(0, len(by_chance), len(by_chance))
        # Each draw once, however often it came.
        values = {i: compute(metric, truth[rows], by_chance[i][rows]) for i in set(draws.tolist())}
        gains.append(compute(metric, truth[rows], picked[rows]) - float(np.mean([values[i] for i in draws])))
    low, high = np.nanquantile(gains, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    mine, theirs = compute(metric, truth, picked), tuple(compute(metric, truth, one) for one in by_chance)
    return OnlyLabels(
        picked=mine, by_chance=theirs, gain=Interval(mine - float(np.mean(theirs)), float(low), float(high))
    )


def _table(use_case: UseCase, texts: Sequence[str], truth: Array) -> Table:
    rows = len(texts)
    inputs = use_case.inputs_of({"input": np.array(texts, dtype=object)})
    return Table(
        numbers=np.empty((rows, 0), dtype=np.float32), categories=np.empty((rows, 0), dtype=object),
        texts=np.stack([inputs[one.name] for one in use_case.inputs], axis=1), truth=truth, offset=np.zeros(rows),
        weight=np.ones(rows), baseline=np.zeros(rows), left_out={},
    )  # fmt: skip
