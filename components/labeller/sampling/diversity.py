"""No two alike: near-duplicates in a batch teach what one of them would.

What rows are made of is compared by hashed traits, a text's by overlapping runs of words. Source: Broder (1997), On the
resemblance and containment of documents (shingles, Jaccard); Sener and Savarese (2018), Active learning for
convolutional neural networks: a core-set approach (greedy k-center); Brinker (2003), Incorporating diversity in active
learning with support vector machines (uncertain first, then unlike those that were chosen).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SHINGLE = 3
"""Words in a shingle: two reviews of the same product share words, only copies share runs of them."""
ALIKE = 0.5
"""Resemblance from which two rows are near-duplicates."""

_WORD = re.compile(r"\w+")


def traits_of_text(text: str) -> frozenset[int]:
    """A text's shingles, hashed: every run of three words; all of its words where it is shorter.

    Case and punctuation do not count.
    """
    words = _WORD.findall(text.lower())
    runs = [words[i : i + SHINGLE] for i in range(len(words) - SHINGLE + 1)] or ([words] if words else [])
    return frozenset(zlib.crc32(" ".join(run).encode()) for run in runs)


def traits_of_fields(values: Mapping[str, Any]) -> frozenset[int]:
    """Traits of a request without a text: each field with its value."""
    return frozenset(zlib.crc32(f"{name}={value}".encode()) for name, value in values.items())


def resemblance(a: frozenset[int], b: frozenset[int]) -> float:
    """Share of the traits of both that they have in common (Jaccard): 1 alike, 0 nothing; 0 of two without any."""
    common = len(a & b)
    either = len(a) + len(b) - common
    return common / either if either else 0.0


def unlike(
    order: Array,
    traits: Sequence[frozenset[int]] | None,
    count: int,
    chosen: Sequence[int] = (),
    *,
    alike: float = ALIKE,
) -> list[int]:
    """The first rows of an order that are no near-duplicates of each other or of what was chosen already.

    Args:
        order: Rows, the most wanted first.
        traits: [rows]; None takes the first ones as they come.
        count: How many, at most.
        chosen: Rows that are in the batch already.
        alike: Resemblance from which two rows are near-duplicates.
    """
    if traits is None:
        return [int(row) for row in order[:count]]
    holders: dict[int, list[int]] = {}
    for row in chosen:
        _hold(holders, row, traits[row])
    found: list[int] = []
    for row in order:
        if len(found) == count:
            break
        row = int(row)
        # Only a row that shares a trait can resemble; of the others nothing is computed.
        near = {other for trait in traits[row] for other in holders.get(trait, ())}
        if all(resemblance(traits[row], traits[other]) < alike for other in near):
            found.append(row)
            _hold(holders, row, traits[row])
    return found


def _hold(holders: dict[int, list[int]], row: int, traits: frozenset[int]) -> None:
    for trait in traits:
        holders.setdefault(trait, []).append(row)
