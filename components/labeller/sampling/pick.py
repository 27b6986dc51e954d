"""Picking a batch to label, with the chance that each row had of being in it.

The wanted rows (uncertain, sure but wrong, no two alike) follow from the pool alone: whatever the dice show, they are
in the batch, so their inclusion probability is 1. The random share is a simple random sample without replacement of all
other rows, so theirs is its size over their number. Weighted by the inverse of these probabilities, a batch gives an
unbiased estimate of any total over the pool (Horvitz and Thompson, 1952, A generalization of sampling without
replacement from a finite universe). Without a random share the rows that were not wanted had no chance, nothing can be
said of them, and no inclusion probability is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.labeller.sampling.contradiction import contradiction
from components.labeller.sampling.diversity import unlike
from components.labeller.sampling.mix import Mix, Sampler
from components.labeller.sampling.pool import Pool
from components.labeller.sampling.uncertainty import uncertainty_of
from ninefold.errors import UsageError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """One row that is to be labelled, and why.

    Args:
        key: What joins its label to its predictions.
        prediction_id: The prediction that it was picked for; None where there is none.
        sampler: Which sampler picked it.
        reason: Why, for the expert and the record; one sentence.
        score: The sampler's score, higher is more wanted; None where it was drawn at random.
        inclusion_probability: The chance that the row had of being in this batch, given the pool; None where it is not
            known, because the batch has no random share.
    """

    key: str
    prediction_id: str | None
    sampler: Sampler
    reason: str
    score: float | None
    inclusion_probability: float | None


def pick(pool: Pool, count: int, mix: Mix, seed: int) -> list[Pick]:
    """Picks a batch.

    Args:
        pool: What may be labelled.
        count: Size of the batch; all of the pool where it is smaller.
        mix: Share of each sampler.
        seed: Of the random share, and of the order: the same pool and seed give the same batch.

    Returns:
        The picks in random order, so that who stops half way has labelled a fair half. What the other samplers have no
        row for, because all that is left are near-duplicates, is drawn at random too; without a random share the batch
        is smaller.

    Raises:
        UsageError: The count is below 1.
        ConfigurationError: The mix asks for what the model is unsure of, and that is not known.
    """
    if count < 1:
        raise UsageError(f"A batch of {count} has nothing to label.", remedy="Ask for one or more.")
    dice = np.random.default_rng(seed)
    counts = mix.counts(min(count, len(pool)))
    wrong = contradiction(pool)
    contradicted = np.argsort(-wrong, kind="stable")[: np.count_nonzero(wrong > 0)]
    wanted = unlike(contradicted, pool.traits, counts["sure_but_wrong"])
    picks = [_picked(pool, row, "sure_but_wrong", float(wrong[row])) for row in wanted]
    lacking = counts["uncertainty"] + counts["sure_but_wrong"] - len(wanted)
    if mix.uncertainty > 0 and lacking:
        unsure = uncertainty_of(pool)
        order = np.argsort(-unsure, kind="stable")
        order = order[~np.isin(order, wanted)]
        more = unlike(order, pool.traits, lacking, wanted)
        picks += [_picked(pool, row, "uncertainty", float(unsure[row])) for row in more]
        wanted += more
    rest = np.setdiff1d(np.arange(len(pool)), wanted)
    lacking = sum(counts.values()) - len(wanted)
    drawn = _simple_random_sample(rest, min(len(rest), lacking), dice) if mix.random > 0 else ()
    picks += [_picked(pool, int(row), "random", None) for row in drawn]
    return [_with_chance(picks[i], len(drawn), len(rest)) for i in dice.permutation(len(picks))]


def _simple_random_sample(rows: Array, count: int, dice: np.random.Generator) -> Array:
    return dice.choice(rows, size=count, replace=False)


def _picked(pool: Pool, row: int, sampler: Sampler, score: float | None) -> Pick:
    return Pick(
        key=pool.keys[row], prediction_id=pool.prediction_ids[row], sampler=sampler,
        reason=_reason(pool, row, sampler), score=score, inclusion_probability=None,
    )  # fmt: skip


def _with_chance(one: Pick, drawn: int, rest: int) -> Pick:
    if drawn == 0 and rest > 0:
        return one
    chance = drawn / rest if one.sampler == "random" else 1.0
    return Pick(
        key=one.key, prediction_id=one.prediction_id, sampler=one.sampler, reason=one.reason, score=one.score,
        inclusion_probability=chance,
    )  # fmt: skip


def _reason(pool: Pool, row: int, sampler: Sampler) -> str:
    answer = f"{pool.prediction[row]:.2f}"
    match sampler:
        case "random":
            return "Drawn at random, so that the batch tells how good the model is on everything."
        case "sure_but_wrong" if pool.known is not None:
            return f"The model answered {answer}, and somebody said {pool.known[row]:g}."
        case "uncertainty" if pool.lower is not None and pool.upper is not None:
            return f"The model is unsure: {answer}, between {pool.lower[row]:.2f} and {pool.upper[row]:.2f}."
    return f"The model is unsure: a probability of {answer}."


def keys_of(picks: Sequence[Pick]) -> tuple[str, ...]:
    """Their keys, in order."""
    return tuple(one.key for one in picks)
