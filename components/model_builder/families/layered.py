"""Trees on top of a line: a linear model takes what is smooth and adds up, boosting what is left of it.

Boosting begins at the linear model's answer instead of at a constant, so that its few small trees need not draw slopes
by steps. Where goals are positive and absolute errors count, both may learn the logarithm, whose effects multiply; a
median stays a median under it, which a mean does not.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from components.model_builder.families import Control
from components.model_builder.families.boosting import (
    BoostedTrees,
    Boosting,
    counted,
    more_rounds,
    vocabularies,
    watched,
)
from components.model_builder.families.linear import Linear, LinearModel
from components.model_builder.families.link import Linked
from components.model_builder.table import Array, Table, Task

if TYPE_CHECKING:
    import lightgbm
    import optuna

    from components.model_builder.onnx_export import Graph

_LOSSES = {"absolute": "regression_l1", "squared": "regression"}
_LINE = ("alpha", "knots", "min_count")
"""Parameters of the linear model; the others are the trees'."""


class LayeredTrees(Linked):
    """A linear model, and trees that were begun at its answer."""

    def __init__(self, task: Task, line: LinearModel, trees: BoostedTrees, *, bent: bool) -> None:
        super().__init__(task)
        self._line = line
        self._trees = trees
        self._bent = bent

    @property
    def rounds(self) -> int:
        """How many trees there are."""
        return self._trees.rounds

    @property
    def microseconds(self) -> float:
        """See ``Fitted.microseconds``."""
        return self._line.microseconds + self._trees.microseconds

    @property
    def size(self) -> int:
        """See ``Fitted.size``."""
        return self._line.size + self._trees.size

    def raw(self, table: Table) -> Array:
        """See ``Fitted.raw``."""
        found = self._line.raw(table) + self._trees.raw(table)
        return np.exp(found) if self._bent else found

    def draw_raw(self, graph: Graph) -> str:
        """See ``Fitted.draw_raw``."""
        raw = graph.op("Add", [self._line.draw_raw(graph), self._trees.draw_raw(graph)])
        return graph.op("Exp", [raw]) if self._bent else raw


class Layered:
    """The family."""

    name = "layered"
    varies = True

    def __init__(self, task: Task, train: Table, validation: Table, *, seed: int, threads: int) -> None:
        self._task = task
        self._train = train
        self._validation = validation
        self._threads = threads
        self._boosting = Boosting(task, train, validation, seed=seed, threads=threads)
        self._bendable = task.objective == "absolute" and min(train.goal.min(), validation.goal.min()) > 0

    @property
    def preparation(self) -> float:
        """See ``Family.preparation``."""
        return self._boosting.preparation

    @property
    def default(self) -> Mapping[str, Any]:
        """Many bends a number, and trees that are smaller than those that stand alone."""
        found = {**self._boosting.default, "alpha": 1e-4, "min_count": 10}
        found["num_leaves"] = max(4, found["num_leaves"] // 2)
        if self._task.names("number"):
            found["knots"] = 8
        if self._task.objective == "absolute":
            found["loss"] = "squared" if self._bendable else "absolute"
        if self._bendable:
            found["bent"] = True
        return found

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """See ``Family.suggest``."""
        most = int(np.clip(len(self._train) // 100, 8, 127))
        found: dict[str, Any] = {
            "num_leaves": trial.suggest_int("num_leaves", 4, most, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.15, log=True),
            "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 200, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.3, 1.0),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
            "lambda_l2": trial.suggest_float("lambda_l2", 1e-2, 100.0, log=True),
            "cat_smooth": trial.suggest_float("cat_smooth", 1.0, 100.0, log=True),
            "min_data_per_group": trial.suggest_int("min_data_per_group", 5, 200, log=True),
            "alpha": trial.suggest_float("alpha", 1e-6, 1e-2, log=True),
            "min_count": trial.suggest_int("min_count", 2, 50, log=True),
        }
        if self._task.names("number"):
            found["knots"] = trial.suggest_int("knots", 0, 12)
        if self._task.objective == "absolute":
            found["loss"] = trial.suggest_categorical("loss", ["absolute", "squared"])
        if self._bendable:
            found["bent"] = trial.suggest_categorical("bent", [False, True])
        return found

    def fit(self, params: Mapping[str, Any], control: Control) -> LayeredTrees:
        """See ``Family.fit``."""
        bent = params.get("bent", False)
        train, validation = self._binned
        line = self._line(params, self._train, control)
        for binned, table in ((train, self._train), (validation, self._validation)):
            binned.set_label(_goal(table, bent=bent))
            binned.set_init_score(line.raw(table))
        # Values of one scale can't be compared with the other's.
        patient = Control(control.out_of_time, lambda step, value: False) if self._bendable else control
        booster = watched(self._given(params), train, validation, patient)
        trees = BoostedTrees(self._task, booster, self._boosting.codes, self._threads)
        return LayeredTrees(self._task, line, trees, bent=bent)

    def refit(
        self, params: Mapping[str, Any], fitted: LayeredTrees, table: Table, seed: int, control: Control
    ) -> LayeredTrees:
        """See ``Family.refit``."""
        bent = params.get("bent", False)
        line = self._line(params, table, control)
        codes = vocabularies(table.categories)
        binned = self._boosting.dataset(table, codes, goal=_goal(table, bent=bent), start=line.raw(table))
        rounds = more_rounds(fitted.rounds, len(self._train), len(table))
        booster = counted({**self._given(params), "seed": seed}, binned, rounds, control)
        return LayeredTrees(self._task, line, BoostedTrees(self._task, booster, codes, self._threads), bent=bent)

    @functools.cached_property
    def _binned(self) -> tuple[lightgbm.Dataset, lightgbm.Dataset]:
        return self._boosting.binned()

    def _line(self, params: Mapping[str, Any], table: Table, control: Control) -> LinearModel:
        goal = _goal(table, bent=params.get("bent", False))
        bare = replace(table, truth=goal, offset=np.zeros(len(table)))
        return Linear(self._task, bare).fit({name: params[name] for name in _LINE if name in params}, control)

    def _given(self, params: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in params.items() if name not in (*_LINE, "bent", "loss")}
        if "loss" in params:
            given["objective"] = _LOSSES[params["loss"]]
        return {**self._boosting.fixed, **given}


def _goal(table: Table, *, bent: bool) -> Array:
    return np.log(np.maximum(table.goal, math.ulp(1.0))) if bent else table.goal
