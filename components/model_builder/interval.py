"""Intervals around a model's answers: two quantiles by LightGBM, conformalised, in the model's own graph.

The lower and the upper quantile of the goal are learnt on the training set, a tenth of which says when to stop. The
validation set has no part in that, so it can say how far off they are (``components.model_builder.conformal``). The
point model is another one, of any family: the search chooses it by the validation set, which the quantiles never ask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from components.model_builder import conformal
from components.model_builder.families import Control
from components.model_builder.families.boosting import (
    draw_encoded,
    encoded,
    load_lightgbm,
    vocabularies,
    watched,
)
from components.model_builder.families.trees import draw_trees
from components.model_builder.table import Array, Table, Task
from ninefold.errors import DataError

if TYPE_CHECKING:
    import lightgbm

    from components.model_builder.onnx_export import Graph

SHARE = 0.2
"""Of the maximum training time, what both quantiles may take together."""

_STOPPING_SHARE = 0.1
_MAX_ROUNDS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedInterval:
    """Two quantiles and what they are moved by.

    Args:
        nominal: Share of truths to hold, 0–1.
        boosters: The lower and the upper quantile's trees.
        codes: For each category input, category → number.
        moved: What is taken from the lower and added to the upper one, in the target's unit.
        rows: Validation rows that it was found by.
    """

    nominal: float
    boosters: tuple[lightgbm.Booster, lightgbm.Booster]
    codes: list[dict[str, float]]
    moved: float
    rows: int

    def around(self, table: Table, prediction: Array) -> Array:
        """Intervals around predictions, the offset included in both: [rows, 2]."""
        bounds = _bounds(self.boosters, encoded(table, self.codes)) + table.offset[:, None]
        return conformal.around(bounds, self.moved, prediction)

    def draw(self, graph: Graph, prediction: str, offset: str | None) -> tuple[str, str]:
        """Adds the interval to a graph.

        Args:
            graph: The graph.
            prediction: Name of the answer, the offset included.
            offset: Name of what is added to what models learn; None where nothing is.

        Returns:
            Names of the lower and the upper bound, float32 [N].
        """
        matrix = draw_encoded(graph, self.codes)
        forests = [booster.dump_model(num_iteration=booster.best_iteration)["tree_info"] for booster in self.boosters]
        quantiles = draw_trees(graph, matrix, [tree for forest in forests for tree in forest], _targets(forests))
        axis = graph.constant(np.array([1]))
        bounds = []
        # The inner operator puts crossed quantiles in order, the outer one takes the prediction in.
        for inner, outer, moved in (("ReduceMin", "Min", -self.moved), ("ReduceMax", "Max", self.moved)):
            bound = graph.op(inner, [quantiles, axis], keepdims=0)
            if offset is not None:
                bound = graph.op("Add", [bound, offset])
            bound = graph.op("Add", [bound, graph.constant(np.array(moved, dtype=np.float32))])
            bounds.append(graph.op(outer, [bound, prediction]))
        return bounds[0], bounds[1]

    def to_json(self) -> dict[str, Any]:
        """What the package's manifest says of it."""
        return {
            "nominal": self.nominal,
            "levels": list(_levels(self.nominal)),
            "rounds": [booster.best_iteration for booster in self.boosters],
            "calibration_rows": self.rows,
            "moved": self.moved,
        }


def fit_interval(
    task: Task, train: Table, validation: Table, *, seed: int, threads: int, out_of_time: Callable[[], bool]
) -> FittedInterval | None:
    """Learns the interval that a task declares; None where it declares none.

    Args:
        task: Says what share of truths is to be held.
        train: What the quantiles are learnt from.
        validation: What they are moved by; no fit sees it.
        seed: Of every random choice.
        threads: Of training.
        out_of_time: Whether a fit has to stop with what it has.

    Raises:
        DataError: There is neither a number nor a category to learn from, or too few rows.
    """
    nominal = task.signature.interval
    if nominal is None:
        return None
    codes = vocabularies(train.categories)
    columns = encoded(train, codes)
    if not columns.shape[1]:
        raise DataError("An interval needs an input that is a number or a category.", remedy="Declare none for texts.")
    stopping = np.zeros(len(train), dtype=bool)
    stopping[np.random.default_rng(seed).permutation(len(train))[: int(len(train) * _STOPPING_SHARE)]] = True
    if not stopping.any():
        raise DataError(f"{len(train):,} training rows are too few for an interval.")
    low, high = _levels(nominal)
    boosters = (
        _quantile(low, train, columns, stopping, len(codes), seed, threads, out_of_time),
        _quantile(high, train, columns, stopping, len(codes), seed, threads, out_of_time),
    )
    bounds = _bounds(boosters, encoded(validation, codes))
    moved = conformal.correction(conformal.scores(bounds, validation.goal), validation.weight, nominal)
    return FittedInterval(nominal=nominal, boosters=boosters, codes=codes, moved=moved, rows=len(validation))


def _levels(nominal: float) -> tuple[float, float]:
    return round((1.0 - nominal) / 2.0, 12), round((1.0 + nominal) / 2.0, 12)


def _bounds(boosters: tuple[lightgbm.Booster, lightgbm.Booster], columns: Array) -> Array:
    quantiles = [np.asarray(b.predict(columns, num_iteration=b.best_iteration)) for b in boosters]
    return conformal.sorted_bounds(np.stack(quantiles, axis=1))


def _targets(forests: list[list[Any]]) -> list[int]:
    return [target for target, forest in enumerate(forests) for _ in forest]


def _quantile(
    level: float,
    train: Table,
    columns: Array,
    stopping: Array,
    categories: int,
    seed: int,
    threads: int,
    out_of_time: Callable[[], bool],
) -> lightgbm.Booster:
    rows = len(train)
    params: dict[str, Any] = {
        "objective": "quantile",
        "alpha": level,
        "metric": "quantile",
        "num_leaves": int(np.clip(2 ** round(math.log2(max(rows, 1) / 500)), 4, 31)),
        "learning_rate": 0.1 if rows > 20_000 else 0.05,
        # A leaf's value is the quantile of its rows, of which a few outermost have to be there.
        "min_data_in_leaf": int(np.clip(rows // 200, 5, 60)),
        "feature_fraction": 0.7,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 1.0,
        "num_threads": threads,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    places = list(range(columns.shape[1] - categories, columns.shape[1]))

    def part(chosen: Array, reference: lightgbm.Dataset | None = None) -> lightgbm.Dataset:
        return load_lightgbm().Dataset(
            columns[chosen],
            train.goal[chosen],
            weight=train.weight[chosen],
            reference=reference,
            categorical_feature=places,
            params=params,
        )

    learned = part(~stopping)
    control = Control(out_of_time, lambda step, value: False)
    return watched(params, learned, part(stopping, reference=learned), control, most=_MAX_ROUNDS)
