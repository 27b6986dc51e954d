"""Other searches, each as its documentation says: ``python peers.py SYSTEM FOLDER``, in whatever environment has them.

It imports nothing of Ninefold, reads the job's folder, and writes predictions, what they took, and the median time of
one row. Where a problem has an offset, peers learn what is left when it is taken away, as our own search does.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

ROWS_TIMED = 50
METRICS = {
    "flaml": {"mae": "mae", "auc": "roc_auc"},
    "autogluon": {"mae": "mean_absolute_error", "auc": "roc_auc"},
}
PRESETS = {"autogluon-best": "best_quality", "autogluon-medium": "medium_quality"}

Predict = Callable[[pd.DataFrame], Any]


def columns_of(frame: pd.DataFrame, job: dict[str, Any]) -> pd.DataFrame:
    """Inputs, with categories as pandas knows them."""
    kept = frame[[*job["number"], *job["category"], *job["text"]]].copy()
    for name in job["category"]:
        kept[name] = kept[name].astype("category")
    for name in job["text"]:
        kept[name] = kept[name].fillna("")
    return kept


def flaml(job: dict[str, Any], train: pd.DataFrame, validation: pd.DataFrame, folder: Path) -> tuple[Predict, str]:
    """FLAML; texts come to it as TF-IDF of words and pairs, since it takes none."""
    from flaml import AutoML

    prepare = _words(job, pd.concat([train, validation])) if job["text"] else lambda frame: frame
    settings: dict[str, Any] = {
        "task": "classification" if job["problem"] == "binary" else "regression",
        "metric": METRICS["flaml"][job["metric"]], "time_budget": job["seconds"], "seed": job["seed"],
        "n_jobs": job["threads"], "verbose": 0,
    }  # fmt: skip
    if job["by_time"]:
        settings |= {"X_val": prepare(columns_of(validation, job)), "y_val": _goal(validation, job)}
    else:
        train = pd.concat([train, validation])
    model = AutoML()
    model.fit(X_train=prepare(columns_of(train, job)), y_train=_goal(train, job), **settings)
    if job["problem"] == "binary":
        return lambda frame: model.predict_proba(prepare(frame))[:, 1], model.best_estimator
    return lambda frame: model.predict(prepare(frame)), model.best_estimator


def autogluon(job: dict[str, Any], train: pd.DataFrame, validation: pd.DataFrame, folder: Path) -> tuple[Predict, str]:
    """AutoGluon with the preset that the system's name says."""
    from autogluon.tabular import TabularPredictor

    def labelled(frame: pd.DataFrame) -> pd.DataFrame:
        return columns_of(frame, job).assign(goal=np.asarray(_goal(frame, job)))

    predictor = TabularPredictor(
        label="goal", eval_metric=METRICS["autogluon"][job["metric"]], path=str(folder / "autogluon"), verbosity=0,
        problem_type="binary" if job["problem"] == "binary" else "regression",
    )  # fmt: skip
    given: dict[str, Any] = {"presets": PRESETS[job["system"]], "time_limit": job["seconds"]}
    given |= {"num_cpus": job["threads"], "num_gpus": 0}
    if job["by_time"]:
        given |= {"tuning_data": labelled(validation), "train_data": labelled(train)}
        given |= {"use_bag_holdout": True} if job["system"] == "autogluon-best" else {}
    else:
        given["train_data"] = labelled(pd.concat([train, validation]))
    predictor.fit(**given)
    if job["problem"] == "binary":
        return lambda frame: predictor.predict_proba(frame)[1].to_numpy(), predictor.model_best
    return lambda frame: predictor.predict(frame).to_numpy(), predictor.model_best


def sklearn_boosting(
    job: dict[str, Any], train: pd.DataFrame, validation: pd.DataFrame, folder: Path
) -> tuple[Predict, str]:
    """Histogram boosting with all its defaults; for texts there is none."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    if job["text"]:
        raise SystemExit("Histogram boosting takes no texts.")
    coded = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan), job["category"]),
        remainder="passthrough",
    )
    kind = HistGradientBoostingClassifier if job["problem"] == "binary" else HistGradientBoostingRegressor
    return _fitted(job, make_pipeline(coded, kind(random_state=job["seed"])), pd.concat([train, validation]))


def sklearn_linear(
    job: dict[str, Any], train: pd.DataFrame, validation: pd.DataFrame, folder: Path
) -> tuple[Predict, str]:
    """Logistic regression, or ridge, over scaled numbers, one-hot categories and TF-IDF, with all their defaults."""
    from sklearn.compose import make_column_transformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), job["number"]),
        (OneHotEncoder(handle_unknown="ignore"), job["category"]),
        *((TfidfVectorizer(), name) for name in job["text"]),
    )
    model = LogisticRegression(max_iter=1000) if job["problem"] == "binary" else Ridge()
    return _fitted(job, make_pipeline(columns, model), pd.concat([train, validation]))


def _fitted(job: dict[str, Any], model: Any, train: pd.DataFrame) -> tuple[Predict, str]:
    model.fit(columns_of(train, job), _goal(train, job))
    name = type(model[-1]).__name__
    if job["problem"] == "binary":
        return lambda frame: model.predict_proba(frame)[:, 1], name
    return model.predict, name


def _words(job: dict[str, Any], frame: pd.DataFrame) -> Callable[[pd.DataFrame], Any]:
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer

    found = {
        name: TfidfVectorizer(ngram_range=(1, 2), min_df=2).fit(columns_of(frame, job)[name]) for name in job["text"]
    }

    def prepared(asked: pd.DataFrame) -> Any:
        numbers = sparse.csr_matrix(np.nan_to_num(asked[job["number"]].to_numpy(float)))
        return sparse.hstack([numbers, *(words.transform(asked[name]) for name, words in found.items())]).tocsr()

    return prepared


def _goal(frame: pd.DataFrame, job: dict[str, Any]) -> Any:
    goal = frame["truth"] - (frame[job["offset"]] if job["offset"] else 0.0)
    return goal.astype(int) if job["problem"] == "binary" else goal


SYSTEMS: dict[str, Callable[..., tuple[Predict, str]]] = {
    "flaml": flaml,
    "autogluon-best": autogluon,
    "autogluon-medium": autogluon,
    "sklearn-boosting": sklearn_boosting,
    "sklearn-linear": sklearn_linear,
}


def main(system: str, folder: Path) -> None:
    """Fits, predicts what is asked, and times one row."""
    began = time.monotonic()
    job = json.loads((folder / "job.json").read_text())
    train, validation = (pd.read_parquet(folder / f"{part}.parquet") for part in ("training", "validation"))
    for frame in (train, validation):
        frame.dropna(subset=["truth", *([job["offset"]] if job["offset"] else [])], inplace=True)
    predict, model = SYSTEMS[system](job, train, validation, folder)
    took = time.monotonic() - began
    asked = pd.read_parquet(folder / "asked.parquet")
    offset = asked[job["offset"]].to_numpy(float) if job["offset"] else 0.0
    np.save(folder / "predictions.npy", np.asarray(predict(columns_of(asked, job)), dtype=float) + offset)
    columns = columns_of(asked, job)
    seconds = []
    for place in range(min(ROWS_TIMED, len(columns))):
        row = columns.iloc[[place]]
        before = time.perf_counter()
        predict(row)
        seconds.append(time.perf_counter() - before)
    (folder / "told.json").write_text(json.dumps({"took": took, "model": model, "p50_ms": 1e3 * median(seconds)}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
