import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.fields import Input
from serving.front_end.shapley import plan


def inputs(*groups: str) -> tuple[Input, ...]:
    return tuple(Input(name=f"x{place}", group=group) for place, group in enumerate(groups))


def by_definition(count, value):
    """The mean marginal effect over all orders."""
    contributions = [0.0] * count
    for order in itertools.permutations(range(count)):
        there = set()
        for group in order:
            before = value(there)
            there.add(group)
            contributions[group] += (value(there) - before) / math.factorial(count)
    return contributions


@settings(max_examples=30)
@given(st.integers(1, 5), st.data())
def test_up_to_eight_groups_contributions_are_the_mean_over_all_orders(count, data):
    table = data.draw(st.lists(st.floats(-100, 100), min_size=2**count, max_size=2**count))
    chosen = plan(inputs(*(f"g{n}" for n in range(count))))
    got = chosen.contributions([table[mask] for mask in chosen.masks])
    assert got == pytest.approx(by_definition(count, lambda there: table[sum(1 << g for g in there)]), abs=1e-9)


@settings(max_examples=20)
@given(st.integers(1, 12), st.randoms(use_true_random=False))
def test_contributions_sum_to_the_prediction_less_the_reference(count, random):
    chosen = plan(inputs(*(f"g{n}" for n in range(count))))
    assert (chosen.masks[0], chosen.masks[-1]) == (0, 2**count - 1)
    values = [random.uniform(-1e3, 1e3) for _ in chosen.masks]
    assert sum(chosen.contributions(values)) == pytest.approx(values[-1] - values[0], abs=1e-6)


def test_beyond_eight_groups_an_additive_model_is_still_explained_exactly():
    chosen = plan(inputs(*(f"g{n}" for n in range(11))))
    assert len(chosen.masks) < 2**11
    values = [sum(n + 1 for n in range(11) if mask >> n & 1) for mask in chosen.masks]
    assert chosen.contributions(values) == pytest.approx([n + 1 for n in range(11)])


def test_a_group_moves_all_of_its_inputs_and_an_input_without_one_is_its_own():
    chosen = plan(inputs("a", "b", "a", ""))
    assert chosen.groups == ("a", "b", "x3")
    rows = chosen.rows([1, 2, 3, 4], [None, None, None, None])
    assert rows[0b001] == [1, None, 3, None]
    assert rows[0b110] == [None, 2, None, 4]
    assert len(rows) == 8
