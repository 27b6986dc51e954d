"""Intervals as packages answer them: three outputs of one graph, held to each other and to what was promised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from components.model_builder import conformal
from components.model_builder.build import build
from ninefold.dataset import INPUT, columns_of, read_dataset, write_dataset
from ninefold.errors import DataError, ParityError
from ninefold.package import BOUNDED, OnnxPredictor, load_predictor, predict_bounded

ROWS = 6_000


@pytest.fixture
def promised(make: Callable[..., Any]) -> Callable[..., Any]:
    """Writes sets whose truths spread more in one city than in others, and that promise an interval."""

    def write(kind: str = "regression", *, interval: float = 0.8, **sizes: Any) -> Any:
        sets = make(kind, **{"change": uneven, **sizes} if kind == "regression" else sizes)
        for uri in (sets.train, sets.validation):
            frame, card = read_dataset(uri)
            write_dataset(uri, frame, replace(card, signature=replace(card.signature, interval=interval)))
        return sets

    return write


def uneven(frame: pl.DataFrame) -> pl.DataFrame:
    noise = np.random.default_rng(len(frame)).normal(size=len(frame))
    spread = np.where(frame["input.carrier"].fill_null("").to_numpy() == "UA", 15.0, 2.0)
    return frame.with_columns(truth=frame["truth"] + noise * spread)


def small(sets: Any, **options: Any) -> Any:
    given = {"max_training_time": 60.0, "trials": 1, "threads": 1, **options}
    return build(sets.train, sets.validation, models_url=sets.models, **given)


def test_a_package_answers_three_numbers_that_hold_what_is_promised(promised: Callable[..., Any]) -> None:
    sets = promised(rows=1_500, validation_rows=800)
    result = small(sets)
    predictor = load_predictor(result.uri, result.digest)
    assert isinstance(predictor, OnnxPredictor)
    said = predictor.manifest.training["interval"]
    assert predictor.manifest.signature.interval == said["nominal"] == 0.8
    assert (said["levels"], said["calibration_rows"]) == ([0.1, 0.9], 800)
    new, _ = read_dataset(promised(rows=ROWS).train)
    columns, truth = columns_of(new, INPUT), new["truth"].to_numpy()
    prediction, interval = predict_bounded(predictor, columns)
    assert interval is not None
    np.testing.assert_array_equal(prediction, predictor.predict_columns(columns))
    lower, upper = interval.T
    assert (lower <= prediction).all()
    assert (prediction <= upper).all()
    # Rows by which the bounds were moved are drawn, too: coverage is a beta variable around 0.8.
    deviation = np.sqrt(0.8 * 0.2 * (1 / 800 + 1 / ROWS))
    assert abs(np.mean((lower <= truth) & (truth <= upper)) - 0.8) < 4 * deviation
    # It is wide where truths spread: that is what it is for.
    sure = new["input.carrier"].fill_null("").to_numpy() != "UA"
    assert np.mean((upper - lower)[~sure]) > 2 * np.mean((upper - lower)[sure])
    rows = [[12.0, "city 1", None, "UA", 0.0], [None, "nowhere", 1e30, None, None], [3.0, None, -1.0, "AA", 2.0]]
    answered = dict(zip(BOUNDED, predictor.bounded_rows(rows), strict=True))
    assert np.isnan(answered["lower"][1])  # the offset is unknown, so nothing is known
    for place in (0, 2):
        assert answered["lower"][place] <= answered["prediction"][place] <= answered["upper"][place]
    assert [len(output) for output in predictor.bounded_rows([])] == [0, 0, 0]


def test_the_same_sets_and_seed_give_the_same_package(promised: Callable[..., Any]) -> None:
    sets = promised(rows=300, validation_rows=100)
    assert small(sets).digest == small(sets).digest


def test_without_an_interval_nothing_of_it_is_in_a_package(make: Callable[..., Any]) -> None:
    sets = make("regression", rows=300, validation_rows=100)
    result = small(sets)
    predictor = load_predictor(result.uri, result.digest)
    assert "interval" not in predictor.manifest.training
    assert "interval" not in predictor.manifest.to_json()["signature"]
    asked, _ = read_dataset(sets.validation)
    assert predict_bounded(predictor, columns_of(asked, INPUT))[1] is None


def test_the_baseline_has_no_interval(promised: Callable[..., Any]) -> None:
    perfect = {"change": lambda frame: frame.with_columns(truth=frame["baseline"])}
    result = small(promised(rows=300, validation_rows=100, **perfect))
    assert not result.beats_baseline
    assert load_predictor(result.uri, result.digest).manifest.signature.interval is None


def test_an_interval_that_the_graph_answers_otherwise_is_not_packaged(
    promised: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = promised(rows=300, validation_rows=100)
    right = conformal.around
    monkeypatch.setattr(conformal, "around", lambda bounds, moved, at: right(bounds, moved + 0.1, at))
    with pytest.raises(ParityError, match=r"The exported model answers (lower|upper) "):
        small(sets)


def test_what_an_interval_cannot_be_made_of_is_refused(promised: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="3 validation rows are too few"):
        small(promised(rows=300, validation_rows=3))
