"""The gate behind every export: the served graph answers what the trained model answers, on rows that matter.

Rows: the whole validation set, and copies of some of its rows in which each input in turn is null, or a category or
text that training never saw, and one with everything null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.model_builder.families import Answer
from components.model_builder.table import Array, Table, Task
from ninefold.errors import ParityError
from ninefold.package import BOUNDED, OUTPUT, OnnxPredictor, Predictor
from ninefold.signature import PackageManifest

if TYPE_CHECKING:
    from components.model_builder.interval import FittedInterval

SHARE_OF_DEVIATION = 1e-4
"""Regression: the greatest difference, as a share of the truth's standard deviation in validation."""
OF_PROBABILITY = 1e-5
"""Binary: the greatest difference of a probability."""
_UNSEEN = "\u2205 never seen in training"
_COPIES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """What the gate measured.

    Args:
        error: Greatest absolute difference, in the target's unit or as a probability.
        tolerance: Greatest difference that passes.
        rows: Rows that were compared.
    """

    error: float
    tolerance: float
    rows: int


def check_parity(
    task: Task,
    fitted: Answer,
    manifest: PackageManifest,
    model: bytes | Predictor,
    validation: Table,
    interval: FittedInterval | None = None,
) -> Parity:
    """Compares an exported graph, run by the server's own predictor, with the model it was made from.

    A package of another format is given as the predictor that answers for it.

    Of an interval all three outputs are compared, and held to lower <= prediction <= upper.

    Raises:
        ParityError: They differ by more than the tolerance; the message holds the row's inputs.
        PackageError: The graph can't be loaded.
    """
    table = with_odd_rows(task, validation)
    prediction = fitted.predict(table) + table.offset
    columns, predictor = table.columns(task), OnnxPredictor(manifest, model) if isinstance(model, bytes) else model
    if interval is None or not isinstance(predictor, OnnxPredictor):
        return _compared(task, table, OUTPUT, prediction, predictor.predict_columns(columns))
    found = predictor.bounded_columns(columns)
    expected = (prediction, *interval.around(table, prediction).T)
    each = [_compared(task, table, *three) for three in zip(BOUNDED, expected, found, strict=True)]
    at, lower, upper = found
    apart = int(np.count_nonzero((lower > at) | (at > upper)))
    if apart:
        raise ParityError(f"{apart:,} of {len(table):,} intervals do not hold their own prediction.")
    return max(each, key=lambda parity: parity.error)


def _compared(task: Task, table: Table, output: str, expected: Array, answered: Array) -> Parity:
    found = answered.astype(np.float64)
    # A float32 keeps 24 bits of a large target, whatever the model.
    rounding = 2.0**-22 * np.abs(expected)
    tolerance = OF_PROBABILITY if task.objective == "logistic" else SHARE_OF_DEVIATION * float(np.std(table.truth))
    # A row without an offset has no answer, here or there.
    both_null = np.isnan(expected) & np.isnan(found)
    difference = np.where(both_null, 0.0, np.abs(found - expected))
    rounding = np.where(both_null, 0.0, rounding)
    worst = int(np.argmax(np.where(np.isnan(difference), np.inf, difference - rounding)))
    # Written so that NaN fails.
    if not difference[worst] <= tolerance + rounding[worst]:
        inputs = {name: column[worst] for name, column in table.columns(task).items()}
        raise ParityError(
            f"The exported model answers {output} {found[worst]:.8g} where the trained one answers "
            f"{expected[worst]:.8g} (tolerance {tolerance:.3g}), for {str(inputs)[:500]}.",
            remedy="Nothing was packaged. Report it with the versions of lightgbm and onnxruntime.",
        )
    return Parity(error=float(difference.max()), tolerance=tolerance, rows=len(table))


def with_odd_rows(task: Task, table: Table) -> Table:
    """The table, and behind it copies with nulls and unseen values."""
    chosen = np.unique(np.linspace(0, len(table) - 1, min(_COPIES, len(table))).astype(int))
    blocks = [table]
    odd_values = (("numbers", np.nan), ("categories", ""), ("categories", _UNSEEN), ("texts", ""), ("texts", _UNSEEN))
    for name, odd in odd_values:
        width = getattr(table, name).shape[1]
        for place in range(width):
            copy = table.rows(chosen)
            getattr(copy, name)[:, place] = odd
            blocks.append(copy)
    bare = table.rows(chosen[:1])
    bare.numbers[:] = np.nan
    bare.categories[:] = ""
    bare.texts[:] = ""
    blocks.append(bare)
    arrays = {
        name: np.concatenate([getattr(block, name) for block in blocks])
        for name in ("numbers", "categories", "texts", "truth", "offset", "weight", "baseline")
    }
    if task.offset is not None:
        arrays["offset"] = arrays["numbers"][:, task.names("number").index(task.offset)].astype(np.float64)
    return Table(**arrays, left_out=table.left_out)
