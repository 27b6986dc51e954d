"""Picking what to label: who gets in, with which chance, and that the chances are right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.labeller.sampling.diversity import resemblance, traits_of_fields, traits_of_text, unlike
from components.labeller.sampling.mix import Mix
from components.labeller.sampling.pick import pick
from components.labeller.sampling.pool import Pool
from components.labeller.sampling.uncertainty import disagreement, entropy, interval_width, margin
from ninefold.errors import ConfigurationError, DataError, InvalidInput, UsageError


def binary(prediction, *, known=None, texts=None) -> Pool:
    prediction = np.asarray(prediction, dtype=float)
    return Pool(
        problem="binary",
        keys=[f"k{i}" for i in range(len(prediction))],
        prediction_ids=[f"p{i}" for i in range(len(prediction))],
        prediction=prediction,
        known=None if known is None else np.asarray(known, dtype=float),
        traits=None if texts is None else [traits_of_text(text) for text in texts],
    )


def test_the_least_sure_are_picked_and_told_why() -> None:
    picks = pick(binary([0.99, 0.52, 0.03, 0.47, 0.8]), 2, Mix(uncertainty=1, sure_but_wrong=0, random=0), seed=1)
    assert {one.key for one in picks} == {"k1", "k3"}
    assert {one.prediction_id for one in picks} == {"p1", "p3"}
    assert all(one.sampler == "uncertainty" and "probability of 0." in one.reason for one in picks)
    assert all(one.inclusion_probability is None for one in picks), "nothing is known of rows that had no chance"


def test_of_a_number_the_widest_interval_is_the_least_sure_and_without_one_nobody_knows() -> None:
    columns = {"problem": "regression", "keys": ["a", "b", "c"], "prediction_ids": [None] * 3}
    prediction, half = np.array([10.0, 20.0, 30.0]), np.array([1.0, 9.0, 2.0])
    pool = Pool(**columns, prediction=prediction, lower=prediction - half, upper=prediction + half)
    (one,) = pick(pool, 1, Mix(uncertainty=1, sure_but_wrong=0, random=0), seed=0)
    assert (one.key, one.score) == ("b", 18.0)
    assert "between 11.00 and 29.00" in one.reason
    with pytest.raises(ConfigurationError, match="answers without an interval"):
        pick(Pool(**columns, prediction=prediction), 2, Mix(), seed=0)
    assert len(pick(Pool(**columns, prediction=prediction), 2, Mix.parse("random=1"), seed=0)) == 2


def test_what_somebody_contradicts_comes_first_the_surest_error_before_all() -> None:
    pool = binary([0.99, 0.95, 0.5, 0.04, 0.97], known=[0, 0, 1, 0, math.nan])
    picks = pick(pool, 2, Mix(uncertainty=0, sure_but_wrong=1, random=0), seed=0)
    assert {(one.key, one.sampler) for one in picks} == {("k0", "sure_but_wrong"), ("k1", "sure_but_wrong")}
    assert "answered 0.99, and somebody said 0" in next(one.reason for one in picks if one.key == "k0")


def test_a_copy_teaches_nothing_new_and_is_left_out() -> None:
    review = "This tea is the best tea that I have ever had, and I have had very many of them in all these years."
    copy = review.upper().replace("years", "years <br />")
    texts = [review, copy, "Stale crackers, broken on arrival; the box was open.", "It is fine, nothing special."]
    picks = pick(binary([0.5, 0.501, 0.6, 0.7], texts=texts), 3, Mix(uncertainty=1, sure_but_wrong=0, random=0), 0)
    assert {one.key for one in picks} == {"k0", "k2", "k3"}
    assert resemblance(traits_of_text(review), traits_of_text(copy)) > 0.8
    assert resemblance(traits_of_text(review), traits_of_text(texts[2])) == 0.0


def test_where_only_copies_are_left_chance_decides_and_without_a_random_share_nobody_looks_twice() -> None:
    pool = binary([0.5] * 6, texts=["The very same words in the very same order."] * 6)
    assert len(pick(pool, 4, Mix(uncertainty=1, sure_but_wrong=0, random=0), 0)) == 1
    picks = pick(pool, 4, Mix.parse("uncertainty=0.75,random=0.25"), 0)
    assert sorted(one.sampler for one in picks) == ["random", "random", "random", "uncertainty"]
    assert sum(1 / one.inclusion_probability for one in picks) == pytest.approx(6)


def test_texts_without_words_and_requests_without_texts_have_traits_too() -> None:
    assert traits_of_text("...") == frozenset()
    assert resemblance(frozenset(), frozenset()) == 0.0
    assert len(traits_of_text("Бuy it")) == 1
    near = traits_of_fields({"carrier": "UA", "origin": "EWR", "hour": 7})
    assert resemblance(near, traits_of_fields({"carrier": "UA", "origin": "EWR", "hour": 8})) == 0.5
    assert unlike(np.arange(3), [near, near, frozenset()], 3) == [0, 2]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40),
    count=st.integers(1, 50),
    shares=st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0, 0.5), (0, 0, 1), (1, 0, 0), (0.3, 0.6, 0.1)]),
    seed=st.integers(0, 99),
)
def test_a_batch_is_as_large_as_asked_holds_no_key_twice_and_repeats_by_its_seed(rows, count, shares, seed) -> None:
    dice = np.random.default_rng(seed)
    known = np.where(dice.random(rows) < 0.3, dice.integers(0, 2, rows), np.nan)
    pool = binary(dice.random(rows), known=known)
    mix = Mix(uncertainty=shares[0], sure_but_wrong=shares[1], random=shares[2])
    picks = pick(pool, count, mix, seed)
    assert len(picks) == min(count, rows)
    assert len({one.key for one in picks}) == len(picks)
    assert picks == pick(pool, count, mix, seed)
    if mix.random:
        assert any(one.sampler == "random" for one in picks)
    chances = [one.inclusion_probability for one in picks]
    assert (None in chances) == (mix.random == 0 and len(picks) < rows)
    if None not in chances:
        # Each certain row counts once, and the random ones stand for all others.
        assert sum(1 / chance for chance in chances) == pytest.approx(rows)


def test_over_many_draws_each_row_is_in_the_batch_as_often_as_its_chance_says() -> None:
    dice = np.random.default_rng(7)
    pool = binary(dice.random(60))
    counts: dict[str, int] = dict.fromkeys(pool.keys, 0)
    chance = {}
    for seed in range(2_000):
        for one in pick(pool, 12, Mix(), seed):
            counts[one.key] += 1
            chance[one.key] = one.inclusion_probability
    assert len(chance) == 60, "every row had a chance"
    for key, count in counts.items():
        deviation = math.sqrt(2_000 * chance[key] * (1 - chance[key]))
        assert abs(count - 2_000 * chance[key]) <= 4.5 * deviation


def test_weighted_by_the_inverse_chance_a_batch_tells_the_total_of_the_pool() -> None:
    """Errors are where the model is unsure: the plain mean of a batch is far too high, the weighted one is right."""
    dice = np.random.default_rng(11)
    probability = dice.beta(0.6, 0.6, 400)
    pool = binary(probability)
    truth = (dice.random(400) < probability).astype(float)
    loss = dict(zip(pool.keys, (probability - truth) ** 2, strict=True))
    totals, plain = [], []
    for seed in range(600):
        picks = pick(pool, 60, Mix(uncertainty=0.6, sure_but_wrong=0, random=0.4), seed)
        totals.append(sum(loss[one.key] / one.inclusion_probability for one in picks))
        plain.append(np.mean([loss[one.key] for one in picks]))
    total = sum(loss.values())
    error = np.std(totals) / math.sqrt(len(totals))
    assert abs(np.mean(totals) - total) < 4 * error
    assert np.mean(plain) > 1.4 * total / 400


@pytest.mark.parametrize(
    ("text", "field"),
    [("random", "mix"), ("luck=1", "mix"), ("random=x", "mix.random"), ("random=0.5", "mix"),
     ("random=2,uncertainty=-1", "mix.uncertainty"), ("random=nan", "mix.random")],
)  # fmt: skip
def test_a_wrong_mix_is_named(text: str, field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        Mix.parse(text)
    assert error.value.field == field


def test_a_mix_reads_what_it_writes() -> None:
    thirds = Mix(uncertainty=1 / 3, sure_but_wrong=1 / 3, random=1 / 3)
    for mix in (Mix(), Mix.parse("uncertainty=0.25,random=0.75"), thirds):
        assert Mix.parse(mix.text()) == mix


def test_classes_and_committees() -> None:
    probabilities = np.array([[1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    assert margin(probabilities) == pytest.approx([1, 1, 0])
    assert entropy(probabilities) == pytest.approx([1, math.log(2) / math.log(3), 0])
    assert disagreement(np.array([[1.0, 5.0], [1.0, 7.0]])) == pytest.approx([0, 1])
    with pytest.raises(DataError, match="1 of 2 intervals"):
        interval_width(np.array([0.0, 2.0]), np.array([1.0, 1.0]))
    with pytest.raises(DataError, match="2 of 2 rows are no probabilities"):
        margin(np.array([[0.5, 0.6], [1.2, -0.2]]))
    with pytest.raises(DataError, match="two models"):
        disagreement(np.zeros((1, 3)))


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_of_two_classes_margin_and_entropy_rank_alike(chances: list[float]) -> None:
    chance = np.array(chances)
    both = np.stack([1 - chance, chance], axis=1)
    by_margin, by_entropy = margin(both), entropy(both)
    for i in range(len(chance) - 1):
        if by_margin[i] > by_margin[i + 1] + 1e-9:
            assert by_entropy[i] >= by_entropy[i + 1] - 1e-12


def test_a_broken_pool_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to label"):
        pick(binary([0.5]), 0, Mix(), 0)
    with pytest.raises(DataError, match="1 keys are in the pool twice"):
        Pool(problem="binary", keys=["a", "a"], prediction_ids=[None, None], prediction=np.zeros(2))
    with pytest.raises(DataError, match="1 of 1 predictions in the pool"):
        binary([math.nan])
    with pytest.raises(DataError, match="2 keys and 1 values of prediction"):
        Pool(problem="binary", keys=["a", "b"], prediction_ids=[None, None], prediction=np.zeros(1))
    assert pick(binary([]), 5, Mix(), 0) == []
