"""Which words of a text moved a prediction: the game of ``shapley`` in which every known word is a player of its own.

A word that is not let in is not cut out, which would make neighbours of others: in all its places stands a sign that no
training text holds. What is left of a text (words that training never saw, and those beyond the bounds) is one player
more, so that contributions still sum to the prediction minus the reference's. All that a row asks is bounded, in
instances and in bytes, and is part of the one call that an explanation makes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from ninefold.fields import Input
from ninefold.words import WORD, lower
from serving.front_end.shapley import EXACT_UP_TO, coalitions

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

MOST_WORDS = 100
"""Words of a text that are told apart: of more, those that most training texts hold."""
MOST_ROWS = 512
"""Instances that one row asks at most."""
MOST_BYTES = 2 * 2**20
"""What they may hold together; a long text has fewer of its words told apart."""
MOST_NAMED = 20
"""Words of a group that an answer names."""
MOST_IN_SENTENCE = 3
"""Words on either side that its sentence names."""
MASK = "\ue000"
"""What stands for a word that is not there: a word itself, of Unicode's private use."""
_SAMPLED_ORDERS = 32
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Player:
    """What is let in or not.

    Args:
        group: The group that its contribution belongs to.
        word: The word of a text; empty for what is left of a text; None for inputs that are no text.
    """

    group: str
    word: str | None = None


@dataclass(frozen=True, slots=True)
class _Text:
    """A text in pieces.

    Args:
        whole: The text.
        pieces: The words, and what stands between; with the place of a word's player, None for what is no word.
        players: Bits of all of its players.
    """

    whole: str
    pieces: tuple[tuple[str, int | None], ...]
    players: int

    def under(self, mask: int, reference: Any) -> Any:
        """The text as a coalition sees it."""
        there = mask & self.players
        if not there:
            return reference
        if there == self.players:
            return self.whole
        return "".join(piece if player is None or mask >> player & 1 else MASK for piece, player in self.pieces)


class WordPlan:
    """What to ask of one row so that the contributions of groups and of words follow.

    Args:
        inputs: The model's.
        row: The row's values, in their order.
        known: Of each input: its words and how many training texts hold each; None for what is no text.
    """

    def __init__(self, inputs: Sequence[Input], row: Sequence[Any], known: Sequence[Mapping[str, int] | None]) -> None:
        groups = [item.group or item.name for item in inputs]
        texts = {place: value for place, value in enumerate(row) if known[place] is not None and value is not None}
        plain = dict.fromkeys(group for place, group in enumerate(groups) if place not in texts)
        players = [Player(group) for group in plain]
        self.groups = tuple(dict.fromkeys(groups))
        """The groups, in order."""
        most = min(MOST_ROWS, MOST_BYTES // max(1, sum(len(orjson.dumps(text)) for text in texts.values())))
        words = min(MOST_WORDS, max(0, (most // 2 - len(players)) // max(1, len(texts)) - 1))
        self._plain = [(place, players.index(Player(g))) for place, g in enumerate(groups) if place not in texts]
        self._texts: dict[int, _Text] = {}
        for place, text in texts.items():
            first = len(players)
            named = _named(text, known[place] or {}, words)
            players += [*(Player(groups[place], word) for word in named), Player(groups[place], "")]
            self._texts[place] = _Text(text, _pieces(text, named, first), (1 << len(players)) - (1 << first))
        self.players = tuple(players)
        """Who is let in or not."""
        exact = len(players) <= EXACT_UP_TO and 2 ** len(players) <= most
        orders = max(1, min(_SAMPLED_ORDERS, most // (2 * len(players))))
        self.masks, self._weights = coalitions(len(players), None if exact else orders)

    def rows(self, row: Sequence[Any], reference: Sequence[Any]) -> list[list[Any]]:
        """The instances to ask, a coalition each.

        Args:
            row: The row that the plan is of.
            reference: What stands for "nothing known", in the order of the inputs.
        """
        asked = []
        for mask in self.masks:
            seen = list(row)
            for place, player in self._plain:
                if not mask >> player & 1:
                    seen[place] = reference[place]
            for place, text in self._texts.items():
                seen[place] = text.under(mask, reference[place])
            asked.append(seen)
        return asked

    def contributions(self, values: Sequence[float]) -> list[float]:
        """The players' contributions, from the coalitions' predictions in the order of ``masks``."""
        amounts = self._weights @ np.asarray(values)
        # What sums of differences leave of a word that moves nothing.
        amounts[np.abs(amounts) < _ROUNDING * np.max(np.abs(values))] = 0.0
        contributions: list[float] = amounts.tolist()
        return contributions


def by_word(group: str, players: Sequence[Player], contributions: Sequence[float]) -> dict[str, Any]:
    """What an answer says of the words of a group; nothing of a group without a text.

    Returns:
        ``by_word``: the words that moved the prediction most, in order; ``other_words``: what all others add up to.
    """
    of_text = [
        (p.word, c) for p, c in zip(players, contributions, strict=True) if p.group == group and p.word is not None
    ]
    if not of_text:
        return {}
    words = sorted(((word, amount) for word, amount in of_text if word), key=lambda pair: -abs(pair[1]))[:MOST_NAMED]
    return {
        "by_word": [{"word": word, "contribution": amount} for word, amount in words],
        "other_words": math.fsum([*(amount for _, amount in of_text), *(-amount for _, amount in words)]),
    }


def sentence(players: Sequence[Player], contributions: Sequence[float], what: str) -> str | None:
    """The words that moved a prediction most, in a sentence; None where nothing is a text.

    Args:
        players: All players.
        contributions: Theirs.
        what: What they move (``the probability``).
    """
    if all(player.word is None for player in players):
        return None
    words = [(p.word, c) for p, c in zip(players, contributions, strict=True) if p.word]
    if not words:
        return "No training text holds any of its words."
    words.sort(key=lambda pair: -abs(pair[1]))
    # A word that moves a tenth of what the first one does is not worth a place.
    told = [(word, amount) for word, amount in words if abs(amount) >= abs(words[0][1]) / 10 and amount]
    raising = [pair for pair in told if pair[1] > 0][:MOST_IN_SENTENCE]
    lowering = [pair for pair in told if pair[1] < 0][:MOST_IN_SENTENCE]
    if not told:
        return f"No word moves {what}."
    if not lowering:
        return f"{_listed(raising, 'raise')} {what}."
    if not raising:
        return f"{_listed(lowering, 'lower')} {what}."
    return f"{_listed(raising, 'raise')} {what}; {_listed(lowering, 'lower')} it."


def _listed(words: Sequence[tuple[str, float]], verb: str) -> str:
    named = [f"“{word}” ({amount:+.2g})".replace("-", "−") for word, amount in words]
    if len(named) == 1:
        return f"{named[0]} {verb}s"
    return f"{', '.join(named[:-1])} and {named[-1]} {verb}"


def _named(text: str, known: Mapping[str, int], most: int) -> list[str]:
    """The words of a text that are told apart, in the order in which they first stand there."""
    words = [word for word in dict.fromkeys(map(lower, WORD.findall(text))) if word in known]
    if len(words) > most:
        kept = set(sorted(words, key=lambda word: (-known[word], word))[:most])
        words = [word for word in words if word in kept]
    return words


def _pieces(text: str, named: Sequence[str], first: int) -> tuple[tuple[str, int | None], ...]:
    players = {word: first + place for place, word in enumerate(named)}
    rest = first + len(named)
    spans: list[tuple[int, int, int | None]] = []
    end = 0
    for found in WORD.finditer(text):
        player = players.get(lower(found[0]), rest)
        if player == rest and spans and spans[-1][2] == rest:
            # Words in a row that are not told apart are one piece: a long text is mostly of them.
            spans[-1] = (spans[-1][0], found.end(), rest)
        else:
            spans += [(end, found.start(), None), (*found.span(), player)]
        end = found.end()
    return tuple((text[start:stop], player) for start, stop, player in (*spans, (end, len(text), None)))
