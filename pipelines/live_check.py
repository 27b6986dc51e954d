"""How a stretch of live predictions did.

The live model against the same model offline and against the baseline, on the truths that came in; and whether the
features that it was asked with are the offline ones.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from components.collector.extract import frame_of
from components.evaluator.evaluation import Evaluation, evaluate
from components.featurizer.parity import Parity, feature_parity, logged_features, offline_features
from ninefold.dataset import FEATURE, columns_of
from ninefold.errors import NotFound, StoreError
from ninefold.fields import Columns
from ninefold.package import load_predictor
from ninefold.settings import Settings
from ninefold.store import Store
from ninefold.usecase import UseCase

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCheck:
    """What a stretch of live predictions was worth.

    Args:
        version: The version that was checked.
        predictions: Predictions that it gave, fallbacks included.
        fallbacks: Reason → predictions that the baseline gave instead.
        live: What was answered, judged by the truths that are known.
        offline: The same model on offline features of the same requests.
        baseline: The baseline on the same requests.
        parity: Logged features against offline ones.
    """

    version: int
    predictions: int
    fallbacks: Mapping[str, int]
    live: Evaluation
    offline: Evaluation
    baseline: Evaluation
    parity: Parity


def check_live(use_case: UseCase, store: Store, settings: Settings, since: datetime, until: datetime) -> LiveCheck:
    """Judges the predictions that the live version gave for decision moments in [since, until).

    Raises:
        NotFound: No version is live, or it answered nothing whose truth is known.
    """
    version = store.live_version(use_case.name)
    if version is None:
        raise NotFound(f"{use_case.name} has no live version.", remedy=f"Run: ninefold run training {use_case.name}")
    given = [
        joined
        for joined in store.joined(use_case.name, since=since, until=until)
        if joined.prediction.version == version.version or joined.prediction.fallback is not None
    ]
    judged = [joined for joined in given if joined.truth is not None]
    if not judged:
        raise NotFound(
            f"Version {version.version} of {use_case.name} gave {len(given):,} predictions, and no truth is known."
        )
    predictions = [joined.prediction for joined in given]
    offline = offline_features(use_case, predictions, version.lengths, settings)
    known = pl.Series([joined.truth is not None for joined in given])
    request = columns_of(frame_of(use_case.request, (j.prediction.request for j in judged)), "")
    logged = logged_features(use_case, [j.prediction for j in judged])
    truth = np.array([joined.truth.value for joined in judged if joined.truth is not None])
    blocks = use_case.block(request)
    model = load_predictor(version.uri, version.digest)

    def judge(prediction: Array, number: int) -> Evaluation:
        return evaluate(use_case, request, truth, prediction, blocks=blocks, version=number, expected_rows=len(given))

    def inputs(features: pl.DataFrame) -> Columns:
        derived = use_case.inputs_of({**request, **columns_of(features, FEATURE)})
        return {declared.name: derived[declared.name] for declared in use_case.inputs}

    return LiveCheck(
        version=version.version,
        predictions=len(given),
        fallbacks=dict(Counter(p.fallback for p in predictions if p.fallback is not None)),
        live=judge(np.array([joined.prediction.value for joined in judged]), version.version),
        offline=judge(model.predict_columns(inputs(offline.filter(known))), version.version),
        baseline=judge(use_case.baseline(inputs(logged)), 0),
        parity=feature_parity(predictions, offline),
    )


def wait_for_predictions(store: Store, use_case: str, expected: int, *, seconds: float = 20.0) -> None:
    """Waits until the front end's journal is in the store: it is shipped behind the answers.

    Raises:
        StoreError: It is not there in time; the message says how much is.
    """
    deadline = time.monotonic() + seconds
    while (found := store.counts()["predictions"]) < expected:
        if time.monotonic() > deadline:
            raise StoreError(
                f"Of {expected:,} predictions of {use_case}, {found:,} are in the store after {seconds:.0f} s.",
                remedy="See the front end's log in logs/.",
            )
        time.sleep(0.05)
