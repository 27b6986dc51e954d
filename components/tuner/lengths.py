"""Which choices of window lengths are tried: the declared one always, the others as far apart as they can be.

A full product grows with every window (three windows of three lengths are 27 choices). Choices that differ in as many
windows as possible, and that take every length about equally often, tell the most for their number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ninefold.clock import format_duration
from ninefold.windows.declaration import Window

Lengths = Mapping[str, str]
"""Window name → length, of every window that has more than one."""

_DRAWN = 500
"""Choices that are looked at for the next one, where there are more."""


def declared_choices(windows: Sequence[Window]) -> dict[str, tuple[str, ...]]:
    """Window name → its lengths, the declared one first, of every window that has more than one."""
    found = {}
    for window in windows:
        lengths = dict.fromkeys(format_duration(length) for length in (window.length, *window.lengths))
        if len(lengths) > 1:
            found[window.name] = tuple(lengths)
    return found


def combinations(windows: Sequence[Window]) -> int:
    """How many choices of lengths there are."""
    return math.prod(len(lengths) for lengths in declared_choices(windows).values())


def sample_lengths(windows: Sequence[Window], count: int, seed: int) -> tuple[Lengths, ...]:
    """Choices to try, all different; fewer where there are not that many.

    Args:
        windows: As declared.
        count: How many.
        seed: Decides between choices that are equally far from those before.

    Returns:
        The declared choice, then each one of those that differ most from the nearest before it.
    """
    choices = declared_choices(windows)
    generator = np.random.default_rng(seed)
    picked: list[Lengths] = [{name: lengths[0] for name, lengths in choices.items()}]
    while len(picked) < min(count, combinations(windows)):
        used = Counter(pair for one in picked for pair in one.items())

        def worth(one: Lengths, used: Counter[tuple[str, str]] = used) -> tuple[int, int]:
            return min(_differences(one, other) for other in picked), -sum(used[pair] for pair in one.items())

        picked.append(max(_drawn(choices, generator, picked), key=worth))
    return tuple(picked)


def _differences(one: Lengths, other: Lengths) -> int:
    return sum(one[name] != other[name] for name in one)


def _drawn(
    choices: Mapping[str, tuple[str, ...]], generator: np.random.Generator, picked: list[Lengths]
) -> list[Lengths]:
    """Choices that were not picked yet, in random order: all of them, or a sample where there are too many."""
    total = math.prod(len(lengths) for lengths in choices.values())
    places = generator.choice(total, min(total, _DRAWN + len(picked)), replace=False)
    return [one for one in (_nth(choices, int(place)) for place in places) if one not in picked]


def _nth(choices: Mapping[str, tuple[str, ...]], place: int) -> Lengths:
    one = {}
    for name, lengths in choices.items():
        place, digit = divmod(place, len(lengths))
        one[name] = lengths[digit]
    return one
