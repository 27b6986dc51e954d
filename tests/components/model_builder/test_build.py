"""A build finds a good model in the time it is given, and packages what the server will answer."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import numpy as np
import polars as pl
import pytest

from components.model_builder.build import Progress, build, package_baseline
from ninefold.dataset import INPUT, columns_of, read_dataset
from ninefold.errors import ConfigurationError, DataError, UsageError
from ninefold.metrics import compute
from ninefold.package import BaselinePredictor, OnnxPredictor, load_predictor

Make = Callable[..., Any]


@pytest.mark.parametrize("kind", ["regression", "binary", "text"])
def test_a_build_beats_the_baseline_and_its_package_answers_with_the_metric_it_promised(make: Make, kind: str) -> None:
    data = make(kind)
    result = build(data.train, data.validation, max_training_time=60, models_url=data.models, trials=4)
    assert result.beats_baseline
    assert result.chosen == result.leaderboard[0]
    assert {row.family for row in result.leaderboard} == {"baseline", "linear", "boosting"}
    predictor = load_predictor(result.uri, result.digest)
    assert isinstance(predictor, OnnxPredictor)
    frame, card = read_dataset(data.validation)
    columns = columns_of(frame, INPUT)
    predictions = predictor.predict_columns(columns)
    truth = frame["truth"].to_numpy()
    assert compute(result.metric, truth, predictions) == pytest.approx(result.chosen.value, rel=1e-4)
    assert compute(result.metric, truth, frame["baseline"].to_numpy()) == pytest.approx(result.baseline_metric)
    # A served instance is a positional list, null as None; it must get what the column got.
    rows = [
        [None if v is None or v != v else v for v in row]
        for row in zip(*(columns[i.name] for i in card.signature.inputs), strict=True)
    ]
    np.testing.assert_allclose(predictor.predict_rows(rows[:100]), predictions[:100], rtol=1e-5, atol=1e-5)
