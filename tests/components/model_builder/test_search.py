"""The search tries every family, stops in time, and spends what is left where it promises most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest

from components.model_builder.families import Control, families
from components.model_builder.search import Budget, Row, _Record, search
from components.model_builder.table import Table, read_tables

Make = Callable[..., Any]


class Constant:
    """A model that is wrong by a constant."""

    microseconds = 1.0

    def __init__(self, error: float, size: int = 8) -> None:
        self._error = error
        self.size = size

    def predict(self, table: Table) -> Any:
        return table.goal + self._error

    def raw(self, table: Table) -> Any:
        return self.predict(table)

    def draw(self, graph: Any) -> str:
        raise NotImplementedError

    draw_raw = draw


class Fake:
    """A family whose trials take a given time and give a value around a given one."""

    preparation = 0.0
    varies = True

    def __init__(self, name: str, *, error: float, spread: float, seconds: float, size: int = 8) -> None:
        self.name = name
        self._size = size
        self._error = error
        self._spread = spread
        self._seconds = seconds
        self.trials = 0

    @property
    def default(self) -> Mapping[str, Any]:
        return {"x": 0.5}

    def suggest(self, trial: Any) -> dict[str, Any]:
        return {"x": trial.suggest_float("x", 0, 1)}

    def fit(self, params: Mapping[str, Any], control: Control) -> Constant:
        self.trials += 1
        end = monotonic() + self._seconds
        while monotonic() < end and not control.out_of_time():
            sleep(0.002)
        return Constant(self._error + self._spread * (params["x"] - 0.5), self._size)

    def refit(self, params: Mapping[str, Any], fitted: Any, table: Table, seed: int, control: Control) -> Constant:
        return self.fit(params, control)


def run(
    make: Make, fakes: list[Any], seconds: float, trials: int | None = None, known: Sequence[Row] = ()
) -> tuple[Any, list[Row]]:
    data = make("regression", rows=60, validation_rows=60)
    task, _, _, validation = read_tables(data.train, data.validation, None)
    rows: list[Row] = []
    budget = Budget(seconds, started=monotonic())
    return search(task, fakes, validation, budget, seed=0, trials=trials, on_trial=rows.append, known=known), rows


def test_every_family_begins_with_its_defaults(make: Make) -> None:
    fakes = [Fake(name, error=1, spread=1, seconds=0) for name in "abc"]
    found, rows = run(make, fakes, seconds=60, trials=5)
    assert [row.family for row in rows[:3]] == ["a", "b", "c"]
    assert all(row.params == {"x": 0.5} for row in rows[:3])
    assert len(found.rows) == len(rows) == 5
    assert found.best.value == min(row.value for row in rows if row.value is not None)


def test_a_search_goes_on_where_another_ended(make: Make) -> None:
    def fakes() -> list[Any]:
        return [Fake("known", error=1, spread=1, seconds=0), Fake("new", error=5, spread=1, seconds=0)]

    before, _ = run(make, fakes(), seconds=60, trials=8)
    known = tuple(row for row in before.rows if row.family == "known")
    again = fakes()
    _, rows = run(make, again, seconds=60, trials=6, known=known)
    assert again[0].trials + again[1].trials == len(rows) == 6
    asked = [row.params for row in rows if row.family == "known"]
    # Neither the defaults nor what was proposed before: those are known.
    assert asked
    assert not any(params == row.params for params in asked for row in known)
    assert next(row for row in rows if row.family == "new").params == {"x": 0.5}


def test_time_goes_to_the_family_that_promises_most(make: Make) -> None:
    good, poor = Fake("good", error=1, spread=1, seconds=0.02), Fake("poor", error=9, spread=1, seconds=0.02)
    run(make, [poor, good], seconds=2.0)
    assert good.trials > 4 * poor.trials
    cheap, dear = Fake("cheap", error=1, spread=1, seconds=0.01), Fake("dear", error=1, spread=1, seconds=0.1)
    run(make, [cheap, dear], seconds=2.0)
    assert cheap.trials > 2 * dear.trials


def test_what_a_family_promises_is_per_second_and_falls_with_its_distance_from_the_best() -> None:
    def promise(losses: list[float], seconds: float) -> float:
        return _Record(None, None, losses, [seconds] * len(losses)).promise(1.0)  # type: ignore[arg-type]

    near = [1.0, 1.1, 1.2, 1.3]
    assert promise(near, 0.1) == pytest.approx(100 * promise(near, 10.0))
    assert promise(near, 1.0) > 10 * promise([x + 0.5 for x in near], 1.0) > 0


def test_the_first_family_can_not_eat_the_time_of_the_second(make: Make) -> None:
    slow, other = Fake("slow", error=1, spread=0, seconds=60), Fake("other", error=2, spread=0, seconds=0.01)
    started = monotonic()
    _, rows = run(make, [slow, other], seconds=1.0)
    assert monotonic() - started < 1.3
    assert rows[0].outcome == "stopped"
    assert other.trials >= 1


def test_there_is_a_model_however_little_time_there_is(make: Make) -> None:
    found, rows = run(
        make, [Fake("a", error=1, spread=0, seconds=60), Fake("b", error=1, spread=0, seconds=0)], seconds=0.01
    )
    assert [row.family for row in rows] == ["a"]
    assert found.best.outcome == "stopped"


def test_a_running_fit_stops_at_the_end_of_time_and_is_still_a_model(make: Make) -> None:
    data = make("regression", rows=6000, validation_rows=500)
    task, _, train, validation = read_tables(data.train, data.validation, None)
    for family in families(task, train, validation, seed=0, threads=1, every=True):
        family.fit(family.default, Control(lambda: True, lambda step, value: False))
        started, end = monotonic(), monotonic() + 0.3
        fitted = family.fit(
            {**family.default, "learning_rate": 1e-3, "alpha": 1e-9},
            Control(lambda: monotonic() > end, lambda step, value: False),  # noqa: B023
        )
        assert monotonic() - started < 1.5, family.name
        assert np.isfinite(fitted.predict(validation)).all()


def test_a_hopeless_trial_is_pruned_and_shown_as_such(make: Make) -> None:
    data = make("regression", rows=800, validation_rows=300)
    task, _, train, validation = read_tables(data.train, data.validation, None)
    boosting = families(task, train, validation, seed=0, threads=1)[-1]

    class Slow:
        """Good defaults, and from the fifth trial on a learning rate that leads nowhere."""

        name, preparation, default, varies = "boosting", 0.0, boosting.default, True
        asked = 0

        def suggest(self, trial: Any) -> dict[str, Any]:
            return {**boosting.suggest(trial), "learning_rate": trial.suggest_float("rate", 0.1, 0.2)}

        def fit(self, params: Mapping[str, Any], control: Control) -> Any:
            self.asked += 1
            rate = 1e-4 if self.asked > 4 else params["learning_rate"]
            return boosting.fit({**params, "learning_rate": rate}, control)

        def refit(self, params: Any, fitted: Any, table: Table, seed: int, control: Control) -> Any:
            raise NotImplementedError

    budget = Budget(60, started=monotonic())
    found = search(task, [Slow()], validation, budget, seed=0, trials=5, on_trial=lambda _: None)
    assert [row.outcome for row in found.rows] == ["finished"] * 4 + ["pruned"]
    assert found.rows[-1].value is None


def test_the_best_models_are_kept_within_bounds_and_one_of_each_family(make: Make, monkeypatch: Any) -> None:
    def kept(*, size: int = 8) -> list[tuple[str, float]]:
        fakes = [Fake("a", error=1, spread=1, seconds=0, size=size), Fake("b", error=5, spread=1, seconds=0, size=size)]
        found, rows = run(make, fakes, seconds=60, trials=12)
        assert found.kept[0].row == found.best
        assert found.best.value == min(row.value for row in rows if row.value is not None)
        return [(one.row.family, one.row.value or 0.0) for one in found.kept]

    values = [value for _, value in kept()]
    assert len(values) == 12
    assert values == sorted(values)
    monkeypatch.setattr("components.model_builder.search.KEPT", 4)
    assert [family for family, _ in kept()] == ["a", "a", "a", "b"]
    monkeypatch.setattr("components.model_builder.search.KEPT_BYTES", 250)
    assert [family for family, _ in kept(size=100)] == ["a", "b"]
    assert [family for family, _ in kept(size=1000)] == ["a"]


def test_the_metric_decides_the_objective(make: Make) -> None:
    data = make("regression", rows=60, validation_rows=60)
    for metric, objective in (("mae", "absolute"), ("rmse", "squared"), ("r2", "squared"), ("median_ae", "absolute")):
        assert read_tables(data.train, data.validation, metric)[0].objective == objective
    data = make("binary", rows=60, validation_rows=60)
    assert read_tables(data.train, data.validation, "auc")[0].objective == "logistic"


@pytest.mark.parametrize("kind", ["regression", "binary", "text"])
def test_every_family_draws_what_it_predicts(make: Make, kind: str) -> None:
    from components.model_builder.onnx_export import to_onnx
    from components.model_builder.parity import check_parity
    from ninefold.signature import PackageManifest

    data = make(kind, rows=500, validation_rows=300)
    task, _, train, validation = read_tables(data.train, data.validation, None)
    manifest = PackageManifest(format="onnx", signature=task.signature, statistics={})
    for family in families(task, train, validation, seed=0, threads=1, every=True):
        other = {**family.default, "knots": 0, "pairs": False, "min_count": 40, "learning_rate": 0.3}
        for params in (family.default, other):
            control = Control(lambda: False, lambda step, value: False)
            fitted = family.fit(params, control)
            again = [family.refit(params, fitted, train.joined(validation), 1, control)] if params == other else []
            for model in (fitted, *again):
                parity = check_parity(task, model, manifest, to_onnx(task, model), validation)
                assert parity.rows > len(validation)
                assert model.size > 0
                assert 0 < model.microseconds < 1000
