"""An average of models is chosen by the validation set, pays for its latency, is one graph, and is trained again."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.model_builder import finish as module
from components.model_builder.build import build
from components.model_builder.ensemble import select
from components.model_builder.search import Budget
from ninefold.dataset import INPUT, columns_of, read_dataset
from ninefold.metrics import compute
from ninefold.package import OnnxPredictor, load_predictor, verify_package

Make = Callable[..., Any]

NOTHING = (np.zeros((3, 1)), np.ones(1))


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits that take a moment, and one seed a member."""
    monkeypatch.setattr("components.model_builder.families.network.ROWS_TO_SEE", 6_000)
    monkeypatch.setattr(module, "MOST_SEEDS", 1)


def error_of(truth: np.ndarray) -> Callable[[np.ndarray], float]:
    return lambda prediction: float(np.mean(np.abs(prediction - truth)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 30))
def test_an_average_is_never_worse_than_the_best_and_its_weights_sum_to_one(seed: int, models: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=rows)
    predictions = truth + rng.normal(size=(models, rows)) * rng.uniform(0.1, 3, (models, 1))
    loss = error_of(truth)
    weights = select(predictions, loss, costs=np.zeros((models, 1)), most=np.ones(1))
    assert sum(weights.values()) == pytest.approx(1)
    assert all(weight > 0 for weight in weights.values())
    average = sum(weight * predictions[place] for place, weight in weights.items())
    assert loss(average) <= min(loss(one) for one in predictions) + 1e-12


def test_two_models_whose_errors_cancel_are_averaged() -> None:
    truth = np.zeros(4)
    predictions = np.array([[1.0, 1, 1, 1], [-1, -1, -1, -1], [5, 5, 5, 5]])
    assert select(predictions, error_of(truth), costs=NOTHING[0], most=NOTHING[1]) == {0: 0.5, 1: 0.5}


def test_what_costs_too_much_is_no_member_but_the_first_is_there_whatever_it_costs() -> None:
    truth = np.zeros(4)
    predictions = np.array([[1.0, 1, 1, 1], [-1, -1, -1, -1], [-1.5, -1.5, -1.5, -1.5]])
    costs = np.array([[9.0, 1], [2, 1], [1, 1]])
    assert set(select(predictions, error_of(truth), costs=costs, most=np.array([8.0, 9]))) == {0}
    assert set(select(predictions, error_of(truth), costs=costs, most=np.array([10.0, 9]))) == {0, 2}
    assert set(select(predictions, error_of(truth), costs=costs, most=np.array([11.0, 9]))) == {0, 1}
    assert set(select(predictions, error_of(truth), costs=costs, most=np.array([11.0, 1]))) == {0}


@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_an_ensemble_is_one_graph_that_answers_what_was_trained_and_is_no_worse_than_its_best_member(
    make: Make, kind: str
) -> None:
    data = make(kind, rows=600, validation_rows=400)
    result = build(
        data.train, data.validation, max_training_time=60, models_url=data.models, trials=4, ensemble=True, threads=1
    )
    assert result.chosen == result.leaderboard[0]
    training = verify_package(result.uri, result.digest).training
    members = training["members"]
    assert training["family"] == ("ensemble" if len(members) > 1 else members[0]["family"])
    assert sum(member["weight"] for member in members) == pytest.approx(1)
    assert kind == "binary" or len({member["family"] for member in members}) > 1
    assert all(member["trained_again"] >= 1 for member in members)
    assert training["parity"]["error"] <= training["parity"]["tolerance"]
    # Trained again on the validation rows, it fits them better than what was judged by them.
    frame, _ = read_dataset(data.validation)
    predictor = load_predictor(result.uri, result.digest)
    assert isinstance(predictor, OnnxPredictor)
    seen = compute(result.metric, frame["truth"].to_numpy(), predictor.predict_columns(columns_of(frame, INPUT)))
    assert seen != pytest.approx(result.chosen.value, rel=1e-3)
    assert (seen < (result.chosen.value or 0.0)) == (result.direction == "minimize")


def test_the_same_seed_and_trials_give_the_same_ensemble(make: Make) -> None:
    data = make("regression", rows=300, validation_rows=150)

    def digest() -> str:
        return build(
            data.train, data.validation, max_training_time=100, models_url=data.models, trials=4, ensemble=True,
            threads=1,
        ).digest  # fmt: skip

    assert digest() == digest()


def test_a_search_bounded_by_trials_gives_one_model_as_it_was_trained(make: Make) -> None:
    data = make("regression", rows=300, validation_rows=150)
    result = build(data.train, data.validation, max_training_time=60, models_url=data.models, trials=4, threads=1)
    assert {row.family for row in result.leaderboard} == {"baseline", "linear", "boosting"}
    assert "members" not in verify_package(result.uri, result.digest).training


def test_the_budget_is_kept_where_members_are_slow_to_train_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make("regression", rows=4000, validation_rows=1500)
    build(data.train, data.validation, max_training_time=60, models_url=data.models, trials=2, threads=1)
    # Nothing is known of how slow training again is: the budget has to hold it all the same.
    monkeypatch.setattr(module, "_SLOWER", 0.1)
    started = monotonic()
    build(data.train, data.validation, max_training_time=3, models_url=data.models, threads=1)
    assert monotonic() - started <= 3.3


def test_without_time_to_train_again_the_members_are_packaged_as_they_are(make: Make) -> None:
    from components.model_builder.families import families
    from components.model_builder.search import search
    from components.model_builder.table import read_tables

    data = make("regression", rows=300, validation_rows=150)
    task, _, train, validation = read_tables(data.train, data.validation, None)
    every = families(task, train, validation, seed=0, threads=1, every=True)
    found = search(task, every, validation, Budget(60, started=monotonic()), seed=0, trials=4, on_trial=lambda _: None)
    chosen = module.finished(task, found, train, validation, Budget(0.1, started=monotonic()), seed=0)
    assert [member["trained_again"] for member in chosen.notes["members"]] == [0]
    np.testing.assert_allclose(chosen.fitted.predict(validation), found.fitted.predict(validation))


def test_an_average_holds_where_a_member_is_surer_than_a_double_can_tell(make: Make) -> None:
    """A probability of 1 has lost its logit; the average of logits has not."""
    import onnxruntime as ort

    from components.model_builder.ensemble import Ensemble
    from components.model_builder.onnx_export import Graph, to_onnx
    from components.model_builder.table import Table, read_tables

    class Sure:
        microseconds, size = 1.0, 8

        def __init__(self, slope: float) -> None:
            self._slope = slope

        def raw(self, table: Table) -> Any:
            return self._slope * np.nan_to_num(table.numbers[:, 0].astype(float))

        def predict(self, table: Table) -> Any:
            return 1 / (1 + np.exp(-self.raw(table)))

        def draw_raw(self, graph: Graph) -> str:
            known = graph.op("Where", [graph.op("IsNaN", ["numbers"]), graph.constant(np.float32(0)), "numbers"])
            first = graph.op("Gather", [known, graph.constant(np.array(0))], axis=1)
            return graph.op("Mul", [first, graph.constant(np.float32(self._slope))])

        draw = draw_raw

    data = make("binary", rows=50, validation_rows=50)
    task, _, _, table = read_tables(data.train, data.validation, None)
    model = Ensemble(task, [(0.5, Sure(3.0)), (0.5, Sure(-2.97))])
    found = ort.InferenceSession(to_onnx(task, model)).run(
        None, {"numbers": table.numbers, "categories": table.categories}
    )[0]  # fmt: skip
    np.testing.assert_allclose(found, model.predict(table), atol=5e-5)
    assert np.ptp(model.predict(table)) > 0.1


def test_weights_count_in_every_family(make: Make) -> None:
    """Rows of weight 0 are as if they were not there, in fit, in refit and in score."""
    from components.model_builder.families import Control, families
    from components.model_builder.table import read_tables

    def halves(frame: pl.DataFrame) -> pl.DataFrame:
        wrong = pl.int_range(frame.height) % 2 == 0
        return frame.with_columns(
            pl.when(wrong).then(pl.col("truth") + 500).otherwise("truth").alias("truth"),
            pl.when(wrong).then(0.0).otherwise(1.0).alias("weight"),
        )

    data = make("regression", rows=1200, validation_rows=400, change=halves)
    task, _, train, validation = read_tables(data.train, data.validation, None)
    control = Control(lambda: False, lambda step, value: False)
    for family in families(task, train, validation, seed=0, threads=1, every=True):
        fitted = family.fit(family.default, control)
        again = family.refit(family.default, fitted, train, 1, control)
        for model in (fitted, again):
            assert validation.score(task, model.predict(validation)) < 25, family.name


def test_a_set_without_weights_counts_every_row_once_and_a_weight_that_is_none_is_refused(make: Make) -> None:
    from components.model_builder.table import read_tables
    from ninefold.errors import DataError

    data = make("binary", rows=50, validation_rows=50, change=lambda frame: frame.drop("weight"))
    _, _, train, validation = read_tables(data.train, data.validation, None)
    assert train.weight.tolist() == validation.weight.tolist() == [1.0] * 50
    for odd in (None, float("nan"), -1.0, float("inf")):
        data = make("binary", rows=50, validation_rows=50, change=lambda f, x=odd: f.with_columns(
            weight=pl.when(pl.int_range(50) == 7).then(pl.lit(x, pl.Float64)).otherwise(1.0)
        ))  # fmt: skip
        with pytest.raises(DataError, match=r"weight.*row 7"):
            read_tables(data.train, data.validation, None)
