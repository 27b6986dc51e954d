"""Each word of a text as a player: what is asked, and what follows."""

import math
import random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.fields import MAX_TEXT_LENGTH, Input
from ninefold.words import words_of
from serving.front_end.words import MASK, MOST_BYTES, MOST_ROWS, MOST_WORDS, Player, WordPlan, by_word, sentence

INPUTS = (Input(name="text", kind="text", group="words"), Input(name="stars", group="stars"))
KNOWN = {"the": 50, "love": 9, "not": 8, "tea": 5, "привет": 2}
texts = st.one_of(
    st.text(max_size=80), st.lists(st.sampled_from([*KNOWN, "Love", "zork", ",", "茶"]), max_size=20).map(" ".join)
)


def plan_of(text: str | None, known: dict[str, int] = KNOWN) -> WordPlan:
    return WordPlan(INPUTS, [text, 3.0], [known, None])


def asked(text: str | None, known: dict[str, int] = KNOWN) -> list[list[object]]:
    return plan_of(text, known).rows([text, 3.0], ["", 0.0])


def worth(row: list[object], weights: dict[str, float]) -> float:
    """An additive model: each word counts once, unknown ones a little."""
    text, stars = row
    return math.fsum(weights.get(word, 0.0) for word in set(words_of(str(text)))) + 10 * float(str(stars))


@settings(max_examples=60, deadline=None)
@given(texts)
def test_what_is_asked_begins_with_the_reference_and_ends_with_the_row_and_hides_just_who_is_out(text: str) -> None:
    chosen, rows = plan_of(text), asked(text)
    assert (rows[0], rows[-1]) == (["", 0.0], [text, 3.0])
    assert len(rows) == len(chosen.masks) <= MOST_ROWS
    present = set(words_of(text))
    for mask, (seen, stars) in zip(chosen.masks, rows, strict=True):
        there = {player for place, player in enumerate(chosen.players) if mask >> place & 1}
        assert (stars == 3.0) == (Player("stars") in there)
        shown = set(words_of(str(seen))) - {MASK}
        assert shown & set(KNOWN) == {p.word for p in there if p.word}
        if Player("words", "") in there:
            assert shown - set(KNOWN) == present - set(KNOWN) - {MASK}
            # Nothing moves together: a hidden word leaves its place behind.
            assert len(words_of(str(seen))) == len(words_of(text))


@settings(max_examples=40, deadline=None)
@given(texts, st.integers(0, 2**32))
def test_an_additive_model_is_explained_exactly_word_by_word(text: str, seed: int) -> None:
    weights = {word: random.Random(f"{word}{seed}").uniform(-5, 5) for word in (*KNOWN, "zork")}
    chosen = plan_of(text)
    amounts = chosen.contributions([worth(row, weights) for row in asked(text)])
    for player, amount in zip(chosen.players, amounts, strict=True):
        if player.word:
            assert amount == pytest.approx(weights[player.word], abs=1e-6)
        elif player.word is None:
            assert amount == pytest.approx(30.0, abs=1e-6)
        else:
            assert amount == pytest.approx(weights["zork"] if "zork" in words_of(text) else 0.0, abs=1e-6)


def test_of_many_words_those_that_most_texts_hold_are_told_apart_and_the_sum_holds() -> None:
    known = {f"w{number}": 1000 - number for number in range(400)}
    text = " ".join(reversed(known))
    chosen = plan_of(text, known)
    assert {p.word for p in chosen.players if p.word} == {f"w{number}" for number in range(MOST_WORDS)}
    weights = dict.fromkeys(known, 1.0)
    values = [worth(row, weights) for row in asked(text, known)]
    amounts = chosen.contributions(values)
    assert math.fsum(amounts) == pytest.approx(values[-1] - values[0])
    assert amounts[chosen.players.index(Player("words", ""))] == pytest.approx(300)


@pytest.mark.parametrize("letter", ["a ", "🙂 ", "\x01 ", "x" * 63 + " "])
def test_the_longest_text_asks_for_no_more_than_its_bytes_allow(letter: str) -> None:
    text = ("love not tea the " + letter * MAX_TEXT_LENGTH)[:MAX_TEXT_LENGTH]
    rows = asked(text)
    assert len(orjson.dumps(rows)) <= MOST_BYTES * 1.1
    assert len(rows) >= 2


def test_without_a_word_the_text_is_one_player_and_without_a_text_there_is_none() -> None:
    assert plan_of("茶").players == (Player("stars"), Player("words", ""))
    assert plan_of("").players == (Player("stars"), Player("words", ""))
    assert plan_of(None).players == (Player("words"), Player("stars"))


PLAYERS = [Player("stars"), *(Player("words", word) for word in ("love", "tea", "not", "the")), Player("words", "")]


def test_words_are_told_in_order_of_what_they_moved_and_the_rest_adds_up() -> None:
    told = by_word("words", PLAYERS, [0.5, 0.2, -0.001, -0.3, 0.0, 0.01])
    assert [item["word"] for item in told["by_word"]] == ["not", "love", "tea", "the"]
    assert told["other_words"] == pytest.approx(0.01)
    assert by_word("stars", PLAYERS, [0.5, 0.2, -0.001, -0.3, 0.0, 0.01]) == {}


@pytest.mark.parametrize(
    ("amounts", "told"),
    [
        ([0.5, 0.2, 0.1, -0.3, 0, 0], "“love” (+0.2) and “tea” (+0.1) raise the probability; “not” (−0.3) lowers it."),
        ([0.5, 0.0, 0.0, -0.3, -0.2, 0], "“not” (−0.3) and “the” (−0.2) lower the probability."),
        ([0.5, 0.2, 0.001, 0, 0, 0], "“love” (+0.2) raises the probability."),
        ([0.5, 0, 0, 0, 0, 0.3], "No word moves the probability."),
    ],
)
def test_the_words_in_a_sentence(amounts: list[float], told: str) -> None:
    assert sentence(PLAYERS, amounts, "the probability") == told


def test_a_text_of_which_no_word_is_known_is_told_so_and_no_text_tells_nothing() -> None:
    assert sentence([Player("words", "")], [0.1], "the gain") == "No training text holds any of its words."
    assert sentence([Player("stars")], [0.1], "the gain") is None
