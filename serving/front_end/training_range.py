"""Compares a model's inputs with its training set: values that training never saw are flagged, or lead to the fallback.

A value outside of the training range is common and mostly harmless, so the rule of the use case's field decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ninefold.fields import Field
from ninefold.records import Fallback
from ninefold.signature import PackageManifest
from ninefold.words import WORD, lower


@dataclass(frozen=True, slots=True)
class _Range:
    place: int
    minimum: float
    maximum: float
    flag: str
    falls_back: bool


@dataclass(frozen=True, slots=True)
class _Known:
    place: int
    categories: frozenset[str]
    flag: str
    falls_back: bool


@dataclass(frozen=True, slots=True)
class _Words:
    place: int
    words: frozenset[str]
    flag: str
    falls_back: bool

    def knows(self, text: str) -> bool:
        """Whether a word of the text is known; most texts say so with their first."""
        return any(lower(found[0]) in self.words for found in WORD.finditer(text))


class TrainingRange:
    """What the training set of a package held.

    Args:
        manifest: The package's manifest.
        fields: Request fields; an input of a field's name follows the field's ``on_unseen``.
    """

    def __init__(self, manifest: PackageManifest, fields: Sequence[Field]) -> None:
        strict = {field.name for field in fields if field.on_unseen == "fallback"}
        self._ranges: list[_Range] = []
        self._known: list[_Known] = []
        self._words: list[_Words] = []
        for place, item in enumerate(manifest.signature.inputs):
            statistics = manifest.statistics.get(item.name)
            if statistics is None:
                continue
            if item.kind == "category" and statistics.categories is not None:
                self._known.append(
                    _Known(place, frozenset(statistics.categories), f"unseen:{item.name}", item.name in strict)
                )
            elif item.kind == "text" and statistics.categories is not None:
                self._words.append(
                    _Words(place, frozenset(statistics.categories), f"unseen:{item.name}", item.name in strict)
                )
            elif item.kind == "number" and statistics.minimum is not None and statistics.maximum is not None:
                self._ranges.append(
                    _Range(place, statistics.minimum, statistics.maximum, f"range:{item.name}", item.name in strict)
                )

    def check(self, row: Sequence[Any], flags: list[str]) -> Fallback | None:
        """Adds flags for what training never saw, and returns why the baseline has to answer, or None.

        Args:
            row: A model's instance; null (NaN or None) is never out of range. An empty text is not null: training saw
                none of its words.
            flags: Where flags are added.
        """
        fallback: Fallback | None = None
        for known in self._known:
            value = row[known.place]
            if value is not None and value not in known.categories:
                flags.append(known.flag)
                if known.falls_back and fallback is None:
                    fallback = "unseen_category"
        for text in self._words:
            value = row[text.place]
            if value is not None and not text.knows(value):
                flags.append(text.flag)
                if text.falls_back and fallback is None:
                    fallback = "unseen_category"
        for bound in self._ranges:
            value = row[bound.place]
            # NaN is neither less nor greater than anything.
            if value < bound.minimum or value > bound.maximum:
                flags.append(bound.flag)
                if bound.falls_back and fallback is None:
                    fallback = "out_of_range"
        return fallback
