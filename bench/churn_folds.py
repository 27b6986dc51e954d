"""Churn in five stratified folds: the model builder's choice against a plain logistic regression on the same rows.

Each fold is tested once. Of the other four, a fifth validates the search and the rest trains; the logistic regression
has all four, so that the comparison favours it. The interval is a paired bootstrap over customers within folds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.model_builder.build import build
from ninefold.dataset import INPUT, DatasetCard, columns_of, to_numpy, write_dataset
from ninefold.loading import load_object, load_use_case
from ninefold.metrics import auc
from ninefold.package import load_predictor
from ninefold.signature import Signature
from ninefold.usecase import History, UseCase

FOLDS = 5
SECONDS = 30.0
BOOTSTRAPS = 1_000
LEAST = 0.845

Array = np.ndarray[Any, Any]


def examples(use_case: UseCase) -> pl.DataFrame:
    """All rows of a history without time, hence without a join by time: inputs, truth and baseline."""
    history: History = load_object(use_case.extract)()
    frame = history.requests.join(history.truths.drop("known_at"), on=list(use_case.key), maintain_order="left")
    columns = {name: to_numpy(frame[name]) for name in (field.name for field in use_case.request)}
    for view in use_case.batch_views:
        found = frame.join(history.views[view.name], on=list(view.key), how="left", maintain_order="left")
        columns |= {f"{view.name}__{c.name}": to_numpy(found[c.name]) for c in view.columns}
    inputs = use_case.inputs_of(columns)
    return pl.DataFrame(
        {
            "key": [str(value) for value in frame[use_case.key[0]].to_list()],
            "truth": frame["truth"].cast(pl.Float64),
            "baseline": use_case.baseline(inputs),
            "weight": np.ones(frame.height),
            **{INPUT + i.name: pl.Series(inputs[i.name].tolist(), nan_to_null=True) for i in use_case.inputs},
        },
        nan_to_null=True,
    )


def stratified(truth: Array, parts: int, seed: int) -> Array:
    """Part of each row, 0 to ``parts`` - 1, with the same share of ones in every part."""
    rng = np.random.default_rng(seed)
    part = np.empty(len(truth), dtype=int)
    for value in np.unique(truth):
        places = rng.permutation(np.flatnonzero(truth == value))
        part[places] = np.arange(len(places)) % parts
    return part


def logistic(use_case: UseCase, train: pl.DataFrame, test: pl.DataFrame) -> Array:
    """Probabilities of scikit-learn's logistic regression on scaled numbers and one-hot categories."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = [INPUT + i.name for i in use_case.inputs if i.kind == "number"]
    categories = [INPUT + i.name for i in use_case.inputs if i.kind == "category"]
    model = make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
            (OneHotEncoder(handle_unknown="ignore"), categories),
        ),
        LogisticRegression(max_iter=1000),
    )
    model.fit(train.to_pandas(), train["truth"].to_numpy())
    return np.asarray(model.predict_proba(test.to_pandas())[:, 1])


def chosen(use_case: UseCase, card: DatasetCard, rest: pl.DataFrame, test: pl.DataFrame, seed: int) -> Array:
    """Probabilities of the package that the model builder makes."""
    held = stratified(rest["truth"].to_numpy(), FOLDS, seed) == 0
    with tempfile.TemporaryDirectory() as folder:
        uris = {}
        for part, rows in (("training", ~held), ("validation", held)):
            uris[part] = str(Path(folder) / f"{part}.parquet")
            write_dataset(uris[part], rest.filter(pl.Series(rows)), card)
        result = build(
            uris["training"], uris["validation"], max_training_time=SECONDS, models_url=folder, seed=seed, threads=1,
        )  # fmt: skip
        return load_predictor(result.uri, result.digest).predict_columns(columns_of(test, INPUT))


def main() -> list[dict[str, Any]]:
    """The figures."""
    use_case = load_use_case("churn")
    frame = examples(use_case)
    signature = Signature(
        use_case="churn", problem="binary", inputs=use_case.inputs, views=use_case.feature_views(),
        derive_digest=use_case.derive_digest, target=use_case.target.name,
    )  # fmt: skip
    card = DatasetCard(signature=signature, metric=use_case.metric, offset=None)
    fold = stratified(frame["truth"].to_numpy(), FOLDS, seed=0)
    rng = np.random.default_rng(0)
    values: dict[str, list[float]] = {"model": [], "logistic": [], "baseline": []}
    differences = np.zeros(BOOTSTRAPS)
    for number in range(FOLDS):
        rest, test = frame.filter(pl.Series(fold != number)), frame.filter(pl.Series(fold == number))
        truth, ones = test["truth"].to_numpy(), np.ones(test.height)
        model = chosen(use_case, card, rest, test, seed=number).astype(float)
        plain = logistic(use_case, rest, test)
        for name, prediction in (("model", model), ("logistic", plain), ("baseline", test["baseline"].to_numpy())):
            values[name].append(auc(truth, prediction, ones))
        for draw in range(BOOTSTRAPS):
            weight = np.bincount(rng.integers(0, test.height, test.height), minlength=test.height).astype(float)
            differences[draw] += (auc(truth, model, weight) - auc(truth, plain, weight)) / FOLDS
    mean = {name: float(np.mean(found)) for name, found in values.items()}
    low, high = (float(q) for q in np.quantile(differences, (0.025, 0.975)))
    return [
        {
            "name": "churn, 5 folds", "value": mean["model"], "bound": f"≥ {LEAST}", "unit": "AUC",
            "ok": mean["model"] >= LEAST,
        },
        {
            "name": f"churn, model − logistic ({mean['logistic']:.4f}), upper end of [{low:+.4f}, {high:+.4f}]",
            "value": high, "bound": "≥ 0", "unit": "AUC", "ok": high >= 0,
        },
        {
            "name": "churn, model − baseline", "value": mean["model"] - mean["baseline"], "bound": "> 0", "unit": "AUC",
            "ok": mean["model"] > mean["baseline"],
        },
    ]  # fmt: skip


if __name__ == "__main__":
    for figure in main():
        print(figure)
