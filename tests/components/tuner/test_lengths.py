"""Choices of lengths: the declared one first, none twice, spread; and one budget for all branches."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.tuner.budget import SCREENING, SHORTEST, SHORTEST_SHARE, plan_branches, seconds_left
from components.tuner.lengths import combinations, declared_choices, sample_lengths
from ninefold.errors import UsageError
from ninefold.windows.declaration import Window


def window(name: str, hours: list[int]) -> Window:
    return Window(
        name=name, stream="s", key=("k",), value="v", length=timedelta(hours=hours[0]),
        lengths=tuple(timedelta(hours=hour) for hour in hours),
    )  # fmt: skip


windows = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=0, max_size=4).map(
    lambda hours: [window(f"w{i}", one) for i, one in enumerate(hours)]
)


@given(windows, st.integers(1, 12), st.integers(0, 3))
def test_the_declared_lengths_are_the_first_choice_and_none_comes_twice(
    windows: list[Window], count: int, seed: int
) -> None:
    choices = declared_choices(windows)
    found = sample_lengths(windows, count, seed)
    assert found[0] == {name: lengths[0] for name, lengths in choices.items()}
    assert len(found) == min(count, combinations(windows)) == len({tuple(one.items()) for one in found})
    assert all(one[name] in lengths for one in found for name, lengths in choices.items())
    assert found == sample_lengths(windows, count, seed)


def test_choices_are_as_different_as_they_can_be_and_take_every_length() -> None:
    found = sample_lengths([window("a", [6, 3, 9]), window("b", [24, 12, 48]), window("c", [1])], 3, seed=0)
    assert "c" not in found[0]
    for name in ("a", "b"):
        assert len({one[name] for one in found}) == 3


def test_more_choices_than_can_be_looked_at_are_sampled() -> None:
    many = [window(f"w{i}", [1, 2, 3, 4, 5]) for i in range(12)]
    found = sample_lengths(many, 4, seed=1)
    assert len({tuple(one.items()) for one in found}) == 4
    assert all(sum(a[n] != b[n] for n in a) >= 9 for a in found for b in found if a is not b)


@given(st.floats(SHORTEST, 10_000), st.integers(2, 40))
def test_branches_one_after_another_take_half_of_the_budget(seconds: float, branches: int) -> None:
    planned = plan_branches(
        [window("a", [6, 3, 9]), window("b", [24, 12, 48])], branches=branches, seconds=seconds, seed=0
    )
    assert 2 <= len(planned) <= min(branches, 9)
    assert sum(branch.seconds for branch in planned) == pytest.approx(SCREENING * seconds)
    assert all(branch.seconds >= SHORTEST_SHARE for branch in planned)
    assert [branch.number for branch in planned] == list(range(len(planned)))


def test_a_budget_that_is_enough_for_one_branch_alone_is_refused() -> None:
    with pytest.raises(UsageError, match="39 s are too short to compare lengths"):
        plan_branches([window("a", [6, 3])], branches=2, seconds=39, seed=0)


spans = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), max_size=6).map(
    lambda found: [(began, began + took) for began, took in found]
)


@given(spans)
def test_what_is_left_and_what_was_searched_are_the_budget_however_many_ran_at_once(
    spans: list[tuple[float, float]],
) -> None:
    left = seconds_left(1000.0, spans)
    took = [ended - began for began, ended in spans]
    assert 1000.0 - sum(took) - 1e-6 <= left <= 1000.0 - max(took, default=0.0) + 1e-6
    # By brute force: tenths of a second in which some branch ran.
    ran = sum(any(began <= tick / 10 < ended for began, ended in spans) for tick in range(1501)) / 10
    assert left == pytest.approx(1000.0 - ran, abs=0.2 * (len(spans) + 1))


def test_one_after_another_leaves_half_and_at_once_leaves_more() -> None:
    assert seconds_left(120, [(0, 20), (20, 40), (50, 70)]) == 60
    assert seconds_left(120, [(0, 20), (0, 20), (5, 25)]) == 95
    assert seconds_left(120, []) == 120
