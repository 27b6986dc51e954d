"""Families of scikit-learn's own: pipelines from an object array of all inputs to an answer, whole in one object.

``linear``: numbers filled and scaled, categories one column each, words weighted by rarity; ridge, Huber's or logistic
loss, by the task. ``boosting``: histogram gradient boosting with native categoricals, without texts. Both learn what
our own families learn, truth less offset.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from components.model_builder.families import Control, Family
from components.model_builder.table import Array, Table, Task
from ninefold.errors import ConfigurationError, PackageError

if TYPE_CHECKING:
    import optuna

    from components.model_builder.onnx_export import Graph

MOST_CATEGORIES = 250
"""Of an input; the rarer ones are one category. scikit-learn's boosting takes at most 255."""
_BATCH = 50
"""Trees after which a fit looks at the validation set and at the clock."""
_MOST_TREES = 1_000


def families(task: Task, train: Table, validation: Table, *, seed: int, threads: int) -> list[Family]:
    """The families that can learn the task, cheapest first.

    Raises:
        ConfigurationError: scikit-learn or skops is not installed.
    """
    try:
        import skops.io  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            f"The use case's models are scikit-learn objects, and {error.name} is not installed.",
            remedy="Install Ninefold's extra: pip install '.[formats]'",
        ) from error
    found: list[Family] = [ScikitLinear(task, train, validation, seed=seed, threads=threads)]
    if not task.names("text"):
        found.append(ScikitBoosting(task, train, validation, seed=seed, threads=threads))
    return found


class ScikitModel:
    """A fitted pipeline.

    Args:
        task: What it has learnt.
        pipeline: The object that is packaged.
        threads: Of predicting, at most.
    """

    def __init__(self, task: Task, pipeline: Any, threads: int = 1) -> None:
        self._task = task
        self._threads = threads
        self.pipeline = pipeline

    microseconds = 5_000.0
    size = 2**20

    def predict(self, table: Table) -> Array:
        """See ``Fitted.predict``."""
        with at_most(self._threads):
            return _answers(self._task, self.pipeline, matrix(self._task, table))

    def raw(self, table: Table) -> Array:
        """See ``Fitted.raw``."""
        if self._task.objective != "logistic":
            return self.predict(table)
        with at_most(self._threads):
            return np.asarray(self.pipeline.decision_function(matrix(self._task, table)), dtype=np.float64)

    def draw(self, graph: Graph) -> str:
        """Refuses: what is packaged is the object.

        Raises:
            PackageError: Always.
        """
        raise PackageError("A scikit-learn object is not drawn as a graph.")

    draw_raw = draw


def at_most(threads: int) -> AbstractContextManager[Any]:
    """Bounds OpenMP: its threads spin while they wait, so that one too many costs a fit most of its time."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(limits=threads, user_api="openmp")
    return limits


def matrix(task: Task, table: Table) -> Array:
    """Object [rows, inputs], in the signature's order: a null number is NaN, a null string ``""``."""
    columns = table.columns(task)
    given = np.empty((len(table), len(task.inputs)), dtype=object)
    for place, declared in enumerate(task.inputs):
        given[:, place] = columns[declared.name]
    return given


def _answers(task: Task, pipeline: Any, given: Array) -> Array:
    if task.objective == "logistic":
        return np.asarray(pipeline.predict_proba(given)[:, 1], dtype=np.float64)
    return np.asarray(pipeline.predict(given), dtype=np.float64)


class _Scikit:
    """What both families share."""

    varies = False
    preparation = 0.0

    def __init__(self, task: Task, train: Table, validation: Table, *, seed: int, threads: int) -> None:
        self._task = task
        self._validation = validation
        self._given = matrix(task, train)
        self._goal = train.goal
        self._weight = train.weight
        self._seed = seed
        self._threads = threads

    def _places(self, kind: str) -> list[int]:
        return [place for place, declared in enumerate(self._task.inputs) if declared.kind == kind]

    def refit(self, params: Mapping[str, Any], fitted: Any, table: Table, seed: int, control: Control) -> ScikitModel:
        """Refuses: scikit-learn objects are not averaged.

        Raises:
            PackageError: Always.
        """
        raise PackageError("Scikit-learn objects are packaged as they were trained.")


class ScikitLinear(_Scikit):
    """The linear family."""

    name = "scikit-learn linear"

    @property
    def default(self) -> Mapping[str, Any]:
        """A weak penalty, and every category that was seen five times."""
        return {"penalty": 1.0, "min_count": 5}

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """See ``Family.suggest``."""
        return {
            "penalty": trial.suggest_float("penalty", 1e-3, 1e3, log=True),
            "min_count": trial.suggest_int("min_count", 1, 50, log=True),
        }

    def fit(self, params: Mapping[str, Any], control: Control) -> ScikitModel:
        """See ``Family.fit``."""
        from sklearn.compose import ColumnTransformer
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import HuberRegressor, LogisticRegression, Ridge
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        count, penalty = params["min_count"], params["penalty"]
        parts: list[tuple[str, Any, Any]] = []
        if self._places("number"):
            fill = SimpleImputer(add_indicator=True, keep_empty_features=True)
            parts.append(("numbers", Pipeline([("fill", fill), ("scale", StandardScaler())]), self._places("number")))
        if self._places("category"):
            one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=count)
            parts.append(("categories", one_hot, self._places("category")))
        for place in self._places("text"):
            words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=30_000)
            parts.append((f"text {place}", words, place))
        objective = self._task.objective
        if objective == "logistic":
            model: Any = LogisticRegression(C=1.0 / penalty, max_iter=300)
        elif objective == "absolute":
            model = HuberRegressor(alpha=1e-4 * penalty, max_iter=300)
        else:
            model = Ridge(alpha=penalty)
        pipeline = Pipeline([("columns", ColumnTransformer(parts)), ("model", model)])
        pipeline.fit(self._given, self._goal, model__sample_weight=self._weight)
        return ScikitModel(self._task, pipeline, self._threads)


class ScikitBoosting(_Scikit):
    """The boosting family: stops when the validation value gets no better, or when time is over."""

    name = "scikit-learn boosting"

    @property
    def default(self) -> Mapping[str, Any]:
        """Trees of moderate size."""
        return {"max_leaf_nodes": 15, "learning_rate": 0.1, "min_samples_leaf": 20, "l2_regularization": 1.0}

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """See ``Family.suggest``."""
        return {
            "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 4, 63, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.3, log=True),
            "min_samples_leaf": trial.suggest_int("min_samples_leaf", 5, 200, log=True),
            "l2_regularization": trial.suggest_float("l2_regularization", 1e-2, 100.0, log=True),
        }

    def fit(self, params: Mapping[str, Any], control: Control) -> ScikitModel:
        """See ``Family.fit``."""
        from sklearn.compose import ColumnTransformer
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import OrdinalEncoder

        numbers, categories = self._places("number"), self._places("category")
        codes = OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=MOST_CATEGORIES
        )  # fmt: skip
        columns = ColumnTransformer([("numbers", "passthrough", numbers), ("categories", codes, categories)])
        shared = {
            **params, "max_iter": _BATCH, "early_stopping": False, "warm_start": True, "random_state": self._seed,
            "categorical_features": list(range(len(numbers), len(numbers) + len(categories))) or None,
        }  # fmt: skip
        if self._task.objective == "logistic":
            model: Any = HistGradientBoostingClassifier(**shared)
        else:
            loss = "absolute_error" if self._task.objective == "absolute" else "squared_error"
            model = HistGradientBoostingRegressor(loss=loss, **shared)
        coded = columns.fit_transform(self._given).astype(np.float64)
        seen = columns.transform(matrix(self._task, self._validation)).astype(np.float64)
        with at_most(self._threads):
            self._grow(model, coded, seen, control)
        # A generator is needed for training alone, and one type less to trust.
        model._feature_subsample_rng = None
        return ScikitModel(self._task, Pipeline([("columns", columns), ("model", model)]), self._threads)

    def _grow(self, model: Any, coded: Array, seen: Array, control: Control) -> None:
        """Fits batch by batch, as long as the validation value gets better."""
        sign = 1.0 if self._task.metric.direction == "minimize" else -1.0
        best, trees = np.inf, 0
        while True:
            model.fit(coded, self._goal, sample_weight=self._weight)
            loss_now = sign * self._validation.score(self._task, _answers(self._task, model, seen))
            if loss_now >= best or control.out_of_time() or model.max_iter >= _MOST_TREES:
                break
            best, trees = loss_now, model.max_iter
            model.set_params(max_iter=model.max_iter + _BATCH)
        if 0 < trees < model.n_iter_:
            # The last batch made it worse.
            model.set_params(warm_start=False, max_iter=trees)
            model.fit(coded, self._goal, sample_weight=self._weight)
