"""How good a version is on all that it answered, from the labels of a few answers that were picked unequally."""

from __future__ import annotations

import numpy as np

from components.collector.extract import frame_of
from components.evaluator.evaluation import Evaluation, evaluate
from components.labeller.label_weights import label_weights
from ninefold.dataset import columns_of
from ninefold.records import Prediction
from ninefold.store.store import Store
from ninefold.usecase import UseCase


def estimate(store: Store, use_case: UseCase) -> Evaluation | None:
    """Judges the live version by what experts said, each label by what it stands for.

    Args:
        store: The production database.
        use_case: The use case.

    Returns:
        None where no batch with inclusion probabilities was answered, or none of its keys by the live version.
    """
    live = store.live_version(use_case.name)
    version = live.version if live is not None else 0
    answered = (one for one in store.predictions(use_case.name) if one.cohort != "shadow" and one.version == version)
    mine: dict[str, Prediction] = {one.key: one for one in answered}
    truths = store.labellers_truths(use_case.name)
    weights = label_weights(store, use_case.name)
    rows = [key for key, weight in weights.items() if weight > 0 and key in mine]
    if not rows:
        return None
    request = columns_of(frame_of(use_case.request, (mine[key].request for key in rows)), "")
    return evaluate(
        use_case, request, np.array([truths[key] for key in rows]), np.array([mine[key].value for key in rows]),
        blocks=use_case.block(request), version=version, weight=np.array([weights[key] for key in rows]),
    )  # fmt: skip
