"""Gradient-boosted trees by LightGBM, with native categoricals, the objective mapped from the metric.

Category → code 1, 2, … by falling count in the training set; null is a category of its own when training has nulls;
what training never saw is missing, and takes the side of a split that holds no listed category.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from components.model_builder.families import Control, HopelessTrial
from components.model_builder.families.link import Linked
from components.model_builder.families.trees import draw_trees
from components.model_builder.table import Array, Objective, Table, Task

if TYPE_CHECKING:
    import lightgbm
    import optuna

    from components.model_builder.onnx_export import Graph

MAX_ROUNDS = 4_000
PATIENCE = 50
"""Rounds without a better validation value after which a fit ends."""
_PRUNE_EVERY = 25
_MORE_ROUNDS = 0.5
"""Power of the ratio of rows by which a refit has more rounds than the fit that was watched."""

_OBJECTIVES: dict[Objective, str] = {"absolute": "regression_l1", "squared": "regression", "logistic": "binary"}
_WATCHED = {"auc": "auc", "mae": "l1", "median_ae": "l1", "accuracy": "binary_error"}
"""Metric → LightGBM's name of it, to stop early by; other metrics stop by their objective's loss."""
_LOSSES: dict[Objective, str] = {"absolute": "l1", "squared": "l2", "logistic": "binary_logloss"}


def load_lightgbm() -> Any:
    """LightGBM, which takes seconds to import."""
    # Threads that spin while they wait make a fit ten times as long wherever something else wants a core. It is read
    # once, when the library is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import lightgbm

    return lightgbm


def vocabularies(categories: Array) -> list[dict[str, float]]:
    """For each category column, category → code, from 1 on, most frequent first."""
    found = []
    for place in range(categories.shape[1]):
        values, counts = np.unique(categories[:, place].astype(str), return_counts=True)
        order = np.argsort(-counts, kind="stable")
        found.append({str(value): float(code) for code, value in enumerate(values[order], start=1)})
    return found


def encoded(table: Table, codes: list[dict[str, float]]) -> Array:
    """float64 [rows, numbers + categories], what LightGBM sees; an unseen category is NaN."""
    columns = [table.numbers.astype(np.float64)]
    for place, known in enumerate(codes):
        columns.append(np.array([known.get(value, math.nan) for value in table.categories[:, place]])[:, None])
    return np.hstack(columns)


def draw_encoded(graph: Graph, codes: list[dict[str, float]]) -> str:
    """As ``encoded``, inside a graph: the name of what trees look at."""
    parts = ["numbers"] if graph.takes("number") else []
    if codes:
        parts.append(graph.coded(codes, default=math.nan))
    return graph.op("Concat", parts, axis=1) if len(parts) > 1 else parts[0]


class BoostedTrees(Linked):
    """A trained booster with its category codes."""

    def __init__(self, task: Task, booster: lightgbm.Booster, codes: list[dict[str, float]], threads: int) -> None:
        super().__init__(task)
        self._booster = booster
        self._codes = codes
        self._threads = threads
        self.rounds: int = booster.best_iteration
        self._leaves: int = self.rounds * int(booster.params.get("num_leaves", 31))

    @property
    def parts(self) -> tuple[list[dict[str, Any]], list[dict[str, float]]]:
        """The trees, as ``tree_info`` of LightGBM's own dump, and each category column's codes."""
        return self._booster.dump_model(num_iteration=self.rounds)["tree_info"], self._codes

    @property
    def microseconds(self) -> float:
        """See ``Fitted.microseconds``."""
        return 6.0 + 0.003 * self._leaves

    @property
    def size(self) -> int:
        """See ``Fitted.size``."""
        return 60 * self._leaves

    def predict(self, table: Table) -> Array:
        """See ``Fitted.predict``."""
        return self._answers(table, raw=False)

    def raw(self, table: Table) -> Array:
        """See ``Fitted.raw``."""
        return self._answers(table, raw=True)

    def _answers(self, table: Table, *, raw: bool) -> Array:
        columns = encoded(table, self._codes)
        return np.asarray(
            self._booster.predict(columns, num_iteration=self.rounds, num_threads=self._threads, raw_score=raw)
        )

    def draw_raw(self, graph: Graph) -> str:
        """See ``Fitted.draw_raw``."""
        matrix = draw_encoded(graph, self._codes)
        trees, _ = self.parts
        return graph.op("Reshape", [draw_trees(graph, matrix, trees), graph.constant(np.array([-1]))])


class Boosting:
    """The family. Bins the training set once, for all trials."""

    name = "boosting"
    varies = True

    def __init__(self, task: Task, train: Table, validation: Table, *, seed: int, threads: int) -> None:
        self._task = task
        self._train = train
        self._validation = validation
        self.codes = vocabularies(train.categories)
        self._threads = threads
        self.fixed: dict[str, Any] = {
            "objective": _OBJECTIVES[task.objective],
            "metric": _WATCHED.get(task.metric.name, _LOSSES[task.objective]),
            "num_threads": threads,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
            # Trials share one binned data set, and differ in the smallest leaf.
            "feature_pre_filter": False,
            "bagging_freq": 1,
        }

    @functools.cached_property
    def _binned(self) -> tuple[lightgbm.Dataset, lightgbm.Dataset]:
        # At the first fit, not before: a family that is imported faster has a model by then.
        return self.binned()

    def binned(self) -> tuple[lightgbm.Dataset, lightgbm.Dataset]:
        """Training and validation set in bins, whose labels and starts may be set anew."""
        first = self.dataset(self._train, self.codes)
        second = self.dataset(self._validation, self.codes, reference=first)
        return first.construct(), second.construct()

    def dataset(
        self,
        table: Table,
        codes: list[dict[str, float]],
        *,
        goal: Array | None = None,
        start: Array | None = None,
        reference: lightgbm.Dataset | None = None,
    ) -> lightgbm.Dataset:
        """Rows as LightGBM takes them.

        Args:
            table: The rows.
            codes: Of the categories.
            goal: What is learnt, instead of the table's own.
            start: Where boosting begins for each row; None for a constant.
            reference: Whose bins are taken.
        """
        numbers = table.numbers.shape[1]
        return load_lightgbm().Dataset(
            encoded(table, codes), table.goal if goal is None else goal, weight=table.weight, init_score=start,
            reference=reference, params=self.fixed, categorical_feature=list(range(numbers, numbers + len(codes))),
        )  # fmt: skip

    @property
    def preparation(self) -> float:
        """See ``Family.preparation``: LightGBM imports pandas and scikit-learn, when they are there."""
        return 0.0 if "lightgbm" in sys.modules else 3.0

    @property
    def default(self) -> Mapping[str, Any]:
        """Small trees for few rows, larger ones for many."""
        rows = len(self._train)
        leaves = int(np.clip(2 ** round(math.log2(rows / 500)), 4, 63))
        return {
            "num_leaves": leaves,
            "learning_rate": 0.1 if rows > 20_000 else 0.05,
            "min_data_in_leaf": int(np.clip(rows // 300, 5, 60)),
            "feature_fraction": 0.7,
            "bagging_fraction": 0.8,
            "lambda_l2": 1.0,
            "cat_smooth": 10.0,
            "min_data_per_group": int(np.clip(rows // 100, 5, 100)),
        }

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """See ``Family.suggest``."""
        most = int(np.clip(len(self._train) // 50, 8, 255))
        return {
            "num_leaves": trial.suggest_int("num_leaves", 4, most, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
            "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 300, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.3, 1.0),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
            "lambda_l2": trial.suggest_float("lambda_l2", 1e-2, 100.0, log=True),
            "cat_smooth": trial.suggest_float("cat_smooth", 1.0, 100.0, log=True),
            "min_data_per_group": trial.suggest_int("min_data_per_group", 5, 200, log=True),
        }

    def fit(self, params: Mapping[str, Any], control: Control) -> BoostedTrees:
        """See ``Family.fit``: ends when the validation value stops getting better, or when time is over."""
        booster = watched({**self.fixed, **params}, *self._binned, control)
        return BoostedTrees(self._task, booster, self.codes, self._threads)

    def refit(
        self, params: Mapping[str, Any], fitted: BoostedTrees, table: Table, seed: int, control: Control
    ) -> BoostedTrees:
        """See ``Family.refit``: a few more rounds, as more rows bear them."""
        codes = vocabularies(table.categories)
        rounds = more_rounds(fitted.rounds, len(self._train), len(table))
        booster = counted({**self.fixed, **params, "seed": seed}, self.dataset(table, codes), rounds, control)
        return BoostedTrees(self._task, booster, codes, self._threads)


def watched(
    params: Mapping[str, Any],
    train: lightgbm.Dataset,
    validation: lightgbm.Dataset,
    control: Control,
    *,
    most: int = MAX_ROUNDS,
) -> lightgbm.Booster:
    """A booster of as many rounds as made the validation value better, or as time allowed.

    Args:
        params: LightGBM's.
        train: What is learnt from.
        validation: What is watched.
        control: Ends it.
        most: Rounds that it may have.

    Raises:
        HopelessTrial: The control said so.
    """
    lgb = load_lightgbm()
    best, best_round = math.inf, 0

    def watch(env: Any) -> None:
        nonlocal best, best_round
        _, _, value, higher_is_better = env.evaluation_result_list[0][:4]
        loss = -value if higher_is_better else value
        if loss < best:
            best, best_round = loss, env.iteration
        if env.iteration % _PRUNE_EVERY == _PRUNE_EVERY - 1 and control.hopeless(env.iteration, loss):
            raise HopelessTrial
        if env.iteration - best_round >= PATIENCE or control.out_of_time():
            raise lgb.callback.EarlyStopException(best_round, env.evaluation_result_list)

    booster = lgb.train(dict(params), train, most, valid_sets=[validation], callbacks=[watch])
    if booster.best_iteration <= 0:
        booster.best_iteration = best_round + 1
    return booster


def counted(params: Mapping[str, Any], train: lightgbm.Dataset, rounds: int, control: Control) -> lightgbm.Booster:
    """A booster of so many rounds, or as time allowed."""
    lgb = load_lightgbm()

    def watch(env: Any) -> None:
        if control.out_of_time():
            raise lgb.callback.EarlyStopException(env.iteration, [])

    booster = lgb.train(dict(params), train, rounds, callbacks=[watch])
    booster.best_iteration = booster.current_iteration()
    return booster


def more_rounds(rounds: int, before: int, after: int) -> int:
    """Rounds for more rows than those of the fit that was watched."""
    return max(1, round(rounds * (after / before) ** _MORE_ROUNDS))
