"""Krippendorff's alpha against its definition and its published example."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.labeller.agreement import Agreement, Level, agreement

# Krippendorff (2011), example C: four observers, twelve units, gaps.
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
    (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
)
UNITS = [[float(v) for v in unit if v is not None] for unit in zip(*OBSERVERS, strict=True)]

answers = st.lists(st.lists(st.integers(0, 4).map(float), max_size=5), max_size=8)
levels: st.SearchStrategy[Level] = st.sampled_from(["nominal", "interval"])


def by_definition(units: list[list[float]], level: Level) -> float | None:
    """1 - observed / expected disagreement, pair by pair."""

    def difference(a: float, b: float) -> float:
        return float(a != b) if level == "nominal" else (a - b) ** 2

    paired = [unit for unit in units if len(unit) > 1]
    everything = [value for unit in paired for value in unit]
    n = len(everything)
    if not n:
        return None
    observed = sum(sum(difference(a, b) for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in paired) / n
    expected = sum(difference(a, b) for a, b in permutations(everything, 2)) / (n * (n - 1))
    return None if expected == 0 else 1 - observed / expected


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("interval", 0.849)])
def test_the_published_example(level: Level, alpha: float) -> None:
    found = agreement(UNITS, level)
    assert found.alpha == pytest.approx(alpha, abs=5e-4)
    assert (found.tasks, found.answers) == (11, 40)


@given(answers, levels)
def test_it_is_what_the_definition_says(units: list[list[float]], level: Level) -> None:
    found, wanted = agreement(units, level), by_definition(units, level)
    assert found.alpha is None if wanted is None else found.alpha == pytest.approx(wanted, abs=1e-9)


@given(answers, levels)
def test_who_always_agrees_has_one_and_nobody_has_more(units: list[list[float]], level: Level) -> None:
    found = agreement(units, level).alpha
    assert found is None or found <= 1.0 + 1e-12
    alike = [[unit[0]] * 2 for unit in units if unit]
    same = agreement(alike, level).alpha
    assert same is None if len({unit[0] for unit in alike}) < 2 else same == pytest.approx(1.0)


def test_what_can_t_be_said_is_no_number() -> None:
    assert agreement([], "nominal") == Agreement(None, 0, 0)
    assert agreement([[1.0], [0.0]], "nominal") == Agreement(None, 0, 0)
    # All the same: nothing tells careful annotators from those who click the first choice.
    assert agreement([[1.0, 1.0], [1.0, 1.0]], "nominal") == Agreement(None, 2, 4)


def test_two_who_disagree_by_system_are_below_zero() -> None:
    found = agreement([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], "nominal").alpha
    assert found is not None
    assert math.isclose(found, -0.75)
