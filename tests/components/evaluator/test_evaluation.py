"""Evaluations: what is reported of a model, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from components.evaluator.distribution import ErrorDistribution, ScoreDistribution
from components.evaluator.evaluation import Evaluation, evaluate
from components.evaluator.latency import measure_latency
from components.evaluator.slices import slice_rows
from ninefold.errors import ConfigurationError, DataError
from ninefold.fields import Field


def _rides(samples, **arguments):
    from ninefold.dataset import REQUEST, columns_of

    frame = samples.rides(**arguments)
    truth, prediction = frame["truth"].to_numpy(), frame["baseline"].to_numpy()
    return columns_of(frame, REQUEST), truth, prediction, np.array(frame["block"].to_list(), dtype=object)


def test_a_regression_is_reported_whole(samples) -> None:
    request, truth, prediction, blocks = _rides(samples)
    latency = measure_latency(lambda rows: [0.0] * len(rows), [[1.0, "north"]] * 30, calls=50)
    found = evaluate(samples.RIDES, request, truth, prediction, blocks=blocks, version=0, latency=latency)
    error = prediction - truth
    assert found.value.value == found.metrics["mae"] == pytest.approx(np.abs(error).mean())
    assert found.value.low < found.value.value < found.value.high
    assert (found.rows, found.blocks, found.coverage, found.label) == (1000, 20, 1.0, "baseline")
    assert found.application == {"promises_kept": pytest.approx((truth <= prediction + 5).mean())}
    assert isinstance(found.distribution, ErrorDistribution)
    assert found.distribution.quantiles[0.5] == pytest.approx(np.median(error))
    assert sum(found.distribution.counts) + found.distribution.below + found.distribution.above == 1000
    assert found.by_block["2013-07-03"] == pytest.approx(np.abs(error[100:150]).mean())
    assert found.latency == latency


def test_slices_divide_the_rows_by_declared_fields_and_flag_the_small_ones(samples) -> None:
    request, truth, prediction, blocks = _rides(samples, days=10)
    found = evaluate(samples.RIDES, request, truth, prediction, blocks=blocks, version=3)
    zones = {s.value: s for s in found.slices if s.field == "zone"}
    assert set(zones) == {"north", "south", "tiny"}
    assert [zones[name].small for name in ("north", "south", "tiny")] == [False, False, True]
    for field in ("zone", "distance"):
        assert sum(s.rows for s in found.slices if s.field == field) == 500
    tiny = request["zone"] == "tiny"
    assert zones["tiny"].metric == pytest.approx(np.abs(prediction - truth)[tiny].mean())


def test_a_null_is_a_slice_of_its_own_and_numbers_are_sliced_in_quarters(samples) -> None:
    request, *_ = _rides(samples, days=10)
    distance = request["distance"].copy()
    distance[:30] = np.nan
    zone = request["zone"].copy()
    zone[:5] = None
    rows = {
        (f, v): int(m.sum()) for f, v, m in slice_rows(samples.RIDES, {**request, "distance": distance, "zone": zone})
    }
    assert rows[("zone", "(null)")] == 5
    assert rows[("distance", "(null)")] == 30
    quarters = [count for (field, value), count in rows.items() if field == "distance" and value != "(null)"]
    assert len(quarters) == 4
    assert sum(quarters) == 470
    assert max(quarters) - min(quarters) <= 2


def test_times_are_sliced_by_the_hour_and_booleans_by_yes_and_no(samples) -> None:
    import dataclasses

    use_case = dataclasses.replace(
        samples.RIDES,
        request=(*samples.RIDES.request, Field(name="rain", kind="boolean", nullable=True)),
        slices=("asked_at", "rain"),
    )
    asked = np.array(["2013-07-01T05:59", "2013-07-01T06:00", "NaT", "2013-07-01T23:00"], dtype="datetime64[us]")
    rows = {
        (f, v): m.tolist()
        for f, v, m in slice_rows(use_case, {"asked_at": asked, "rain": np.array([1.0, 0.0, np.nan, 1.0])})
    }
    assert rows == {
        ("asked_at", "00–06 h UTC"): [True, False, False, False],
        ("asked_at", "06–12 h UTC"): [False, True, False, False],
        ("asked_at", "18–24 h UTC"): [False, False, False, True],
        ("asked_at", "(null)"): [False, False, True, False],
        ("rain", "no"): [False, True, False, False],
        ("rain", "yes"): [True, False, False, True],
        ("rain", "(null)"): [False, False, True, False],
    }


def test_a_text_cannot_be_a_slice(samples) -> None:
    import dataclasses

    use_case = dataclasses.replace(
        samples.RIDES, request=(*samples.RIDES.request, Field(name="note", kind="text")), slices=("note",)
    )
    with pytest.raises(ConfigurationError, match="The text 'note' can't be a slice"):
        list(slice_rows(use_case, {"note": np.array(["a"], dtype=object)}))
    with pytest.raises(DataError, match="'note' is missing"):
        list(slice_rows(use_case, {}))


def _churn(samples, rows: int = 400):
    random = np.random.default_rng(5)
    truth = (random.random(rows) < 0.3).astype(float)
    prediction = np.clip(0.3 + 0.3 * (truth - 0.3) + 0.15 * random.normal(size=rows), 0, 1)
    request = {
        "customer": np.array([f"c{i}" for i in range(rows)], dtype=object),
        "senior": (random.random(rows) < 0.5) * 1.0,
    }
    return (
        evaluate(samples.CHURN, request, truth, prediction, blocks=request["customer"], version=None),
        truth,
        prediction,
    )


def test_a_classification_is_reported_whole(samples) -> None:
    found, truth, prediction = _churn(samples)
    assert found.label == "candidate"
    assert set(found.metrics) == {"auc", "log_loss", "brier", "accuracy", "precision", "recall", "calibration_error"}
    assert isinstance(found.distribution, ScoreDistribution)
    assert (
        sum(found.distribution.confusion.values())
        == sum(found.distribution.zeros) + sum(found.distribution.ones)
        == 400
    )
    assert found.distribution.confusion["true_positive"] == ((prediction >= 0.5) & (truth == 1)).sum()
    assert sum(rows for rows, _, _ in found.distribution.calibration) == 400
    assert {s.value for s in found.slices} == {"yes", "no"}


def test_an_evaluation_survives_json_with_its_unknowns(samples) -> None:
    request, truth, prediction, blocks = _rides(samples)
    latency = measure_latency(lambda rows: [0.0] * len(rows), [[1.0]], calls=20)
    found = evaluate(
        samples.RIDES, request, truth, prediction, blocks=blocks, version=7, latency=latency, expected_rows=1100
    )
    assert Evaluation.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found
    classes, *_ = _churn(samples)
    text = json.dumps(classes.to_json(), allow_nan=False)
    assert json.dumps(Evaluation.from_json(json.loads(text)).to_json(), allow_nan=False) == text


def test_rows_without_a_prediction_show_as_coverage(samples) -> None:
    request, truth, prediction, blocks = _rides(samples)
    half = slice(0, 500)
    found = evaluate(
        samples.RIDES, {n: c[half] for n, c in request.items()}, truth[half], prediction[half],
        blocks=blocks[half], version=None, expected_rows=1000,
    )  # fmt: skip
    assert (found.rows, found.coverage) == (500, 0.5)


def test_a_prediction_that_is_no_number_is_an_error_that_counts(samples) -> None:
    request, truth, prediction, blocks = _rides(samples)
    prediction = prediction.copy()
    prediction[[3, 5]] = np.nan
    with pytest.raises(DataError, match="2 of 1,000 predictions"):
        evaluate(samples.RIDES, request, truth, prediction, blocks=blocks, version=None)


def test_no_rows_are_an_error(samples) -> None:
    request, *_ = _rides(samples)
    nothing = {name: column[:0] for name, column in request.items()}
    with pytest.raises(DataError, match="no rows"):
        evaluate(samples.RIDES, nothing, np.empty(0), np.empty(0), blocks=np.empty(0), version=None)


def test_a_metric_that_is_undefined_on_a_slice_is_nan_there(samples) -> None:
    truth = np.array([0.0, 1.0, 1.0, 1.0])
    request = {"customer": np.array(list("abcd"), dtype=object), "senior": np.array([0.0, 0.0, 1.0, 1.0])}
    found = evaluate(samples.CHURN, request, truth, np.array([0.2, 0.4, 0.5, 0.9]), blocks=np.arange(4), version=None)
    assert math.isnan({s.value: s.metric for s in found.slices}["yes"])
    assert math.isnan(found.value.low)


def test_latency_is_measured_row_by_row_and_at_once() -> None:
    now = [0.0]

    def predict(rows):
        # The tenth of the measured calls, counted with the warm-up, is slow; a call of many rows costs by the row.
        now[0] += 0.001 * len(rows)
        return np.zeros(len(rows))

    found = measure_latency(predict, [[1.0]] * 50, calls=100, stopwatch=lambda: now[0])
    assert found.p50_ms == pytest.approx(1.0)
    assert found.rows_per_second == pytest.approx(1000.0)
    assert found.calls == 100
    slow = measure_latency(predict, [[1.0]] * 50, calls=10_000, seconds=0.03, stopwatch=lambda: now[0])
    assert 20 <= slow.calls <= 40
    with pytest.raises(DataError, match="no rows"):
        measure_latency(predict, [])


def test_the_core_imports_nothing_heavy() -> None:
    """Serving imports the evaluator: polars, matplotlib and the like must not come along."""
    import subprocess
    import sys

    code = (
        "import sys, components.evaluator.evidence, components.evaluator.gate, components.evaluator.testset;"
        "print([m for m in ('polars', 'pandas', 'pyarrow', 'matplotlib', 'scipy', 'sklearn') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_errors_that_differ_by_rounding_alone_have_a_distribution() -> None:
    truth = np.linspace(0.0, 100.0, 50)
    assert sum(ErrorDistribution.of(truth, truth + 0.1).counts) == 50
