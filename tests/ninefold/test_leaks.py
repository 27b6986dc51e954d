"""What one input tells alone: disguises of the answer are named, causes and identifiers are not."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.errors import DataError
from ninefold.leaks import LIMIT, Alone, notes, refuse, tell_alone

ROWS = 2_000
Array = np.ndarray[Any, Any]


def told(column: Array, truth: Array, problem: str) -> float:
    """What a column tells, fitted on the first half and judged on the second."""
    half = len(truth) // 2
    found = tell_alone({"x": column[:half]}, truth[:half], {"x": column[half:]}, truth[half:], problem)  # type: ignore[arg-type]
    return found[0].value


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(3)


def objects(values: Any) -> Array:
    return np.array(list(values), dtype=object)


def test_a_number_that_is_the_target_in_another_unit_tells_everything(random: np.random.Generator) -> None:
    for truth in (random.normal(size=ROWS), random.exponential(size=ROWS), random.pareto(2.5, ROWS)):
        assert told(truth * 1.6 + 3, truth, "regression") > 0.9999


def test_a_curve_of_the_target_tells_everything(random: np.random.Generator) -> None:
    truth = random.uniform(1, 1000, ROWS)
    assert told(np.log(truth), truth, "regression") > LIMIT
    assert told(-(truth**3), truth, "regression") > LIMIT


def test_a_cause_with_noise_is_no_leak(random: np.random.Generator) -> None:
    cause = random.normal(size=ROWS)
    assert told(cause, cause + 0.3 * random.normal(size=ROWS), "regression") < 0.95
    assert told(cause, (cause + 0.3 * random.normal(size=ROWS) > 0).astype(float), "binary") < 0.98


def test_a_field_that_is_filled_in_afterwards_tells_by_being_there(random: np.random.Generator) -> None:
    truth = (random.random(ROWS) < 0.2).astype(float)
    assert told(np.where(truth == 1, random.normal(size=ROWS), np.nan), truth, "binary") == 1.0
    reason = objects(random.choice(["price", "service"]) if t else None for t in truth)
    assert told(reason, truth, "binary") == 1.0


def test_a_threshold_inside_of_a_bin_is_still_found(random: np.random.Generator) -> None:
    score = random.random(ROWS)
    assert told(score, (score > 0.7431).astype(float), "binary") > LIMIT


def test_an_identifier_tells_nothing(random: np.random.Generator) -> None:
    truth = (random.random(ROWS) < 0.5).astype(float)
    assert told(objects(f"c{i}" for i in range(ROWS)), truth, "binary") == 0.5
    assert told(np.arange(ROWS, dtype=float), truth, "binary") < 0.6
    assert told(objects(f"c{i}" for i in range(ROWS)), random.normal(size=ROWS), "regression") < 0.01


def test_too_few_rows_say_nothing_and_are_not_taken_for_innocence() -> None:
    truth = np.arange(60.0)
    assert np.isnan(told(truth, truth, "regression"))
    few = np.zeros(ROWS)
    few[-5:] = 1
    assert np.isnan(told(few, few, "binary"))
    found = [Alone(name="x", measure="auc", value=float("nan"))]
    refuse(found, (), remedy="")
    assert notes(found, ())["not_checked"] == 1


def test_what_tells_too_much_is_named_with_its_value_unless_it_is_allowed() -> None:
    found = [Alone(name="total", measure="r2", value=0.9987), Alone(name="age", measure="r2", value=0.4)]
    with pytest.raises(DataError, match=r"total \(share of variance explained 0\.9987\).*Remove total\."):
        refuse(found, (), remedy="Remove {names}.")
    refuse(found, ("total",), remedy="")
    assert notes(found, ("total",))["allowed"] == "total"
    assert notes(found, ())["most_telling"] == "total"


@given(
    st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)), min_size=120, max_size=120),
    st.sampled_from(["binary", "regression"]),
)
@settings(max_examples=60, deadline=None)
def test_any_column_gets_a_number_of_at_most_one_or_an_unknown(values: list[float | None], problem: str) -> None:
    column = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    column[np.abs(column) > 1e100] = np.nan
    truth = (np.arange(120) * 7 % 3 == 0).astype(float)
    value = told(column, truth, problem)
    assert np.isnan(value) or value <= 1.0
