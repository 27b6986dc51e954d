"""From answers and their truths to what a rollout is judged by: one pair of mean losses a block.

One loss a key and version counts, that of the last answer in time. A block counts when enough of its keys have a truth
or its deadline has passed; what is not known is left out, told, and never taken for good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ninefold.errors import DataError

if TYPE_CHECKING:
    from ninefold.rollout.policy import RolloutPolicy

Array = np.ndarray[Any, Any]
Standing = Literal["open", "waiting", "counted", "lapsed"]
"""Of a block: keys are still asked; truths are awaited; it is judged; its deadline passed with too little known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Answers of both versions, one a row, in any order. Answers by the fallback are no version's, and left out.

    Args:
        key: [rows] str or int, what joins an answer to its truth.
        block: [rows] str or int, the independent unit that the use case declares.
        version: [rows] int.
        decided_at: [rows] datetime64[us], the decision moment, in UTC.
        received_at: [rows] datetime64[us], when it was asked, in UTC.
        loss: [rows] float, of the newest truth that is known; NaN where none is.
        chance: [rows] float, the probability with which the answering version was drawn for the key, 0–1; needed where
            the versions answer different keys (A/B), not looked at where both answer the same.
    """

    key: Array
    block: Array
    version: Array
    decided_at: Array
    received_at: Array
    loss: Array
    chance: Array | None = None

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            column = getattr(self, name)
            if column is not None and column.shape != (len(self.key),):
                raise DataError(f"Answers: {name} has shape {column.shape} for {len(self.key):,} keys.")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLosses:
    """One block.

    Args:
        block: Its label.
        began: First decision moment.
        closed: Last decision moment.
        standing: Whether it is judged.
        incumbent: Mean loss of the incumbent; NaN where none is known.
        candidate: Mean loss of the candidate on the same keys (or, in A/B, on its own).
        asked: Keys that the incumbent and the candidate were to answer.
        known: Of these, the keys whose loss is known, for each.
    """

    block: str
    began: datetime
    closed: datetime
    standing: Standing
    incumbent: float
    candidate: float
    asked: tuple[int, int]
    known: tuple[int, int]

    @property
    def coverage(self) -> float:
        """Share of the keys whose loss is known, of the version of which less is."""
        return min(known / asked if asked else 0.0 for known, asked in zip(self.known, self.asked, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a version did since the present step began.

    Args:
        requests: How often it was asked.
        errors: Answers that were none: nothing, too late, not finite, of the wrong shape.
        fallbacks: Requests that the fallback answered in its place.
        p99_ms: 99th percentile of its latency; None where nobody measured it.
    """

    requests: int = 0
    errors: int = 0
    fallbacks: int = 0
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NullShare:
    """How often a feature that the candidate needs is missing.

    Args:
        feature: Its name.
        training: Share of nulls in the training set, 0–1.
        serving: Share of nulls in what was asked since the rollout was opened, 0–1.
        requests: Requests that the latter rests on.
        incumbent: Share of nulls in what the incumbent was asked meanwhile, where it has an input of that name; NaN
            where it has none, or nobody counted. What is missing for both is no fault of the candidate's.
    """

    feature: str
    training: float
    serving: float
    requests: int
    incumbent: float = math.nan

    @property
    def excess(self) -> float:
        """How much more often it is missing than in training, and than for the incumbent."""
        usual = self.training if math.isnan(self.incumbent) else max(self.training, self.incumbent)
        return self.serving - usual


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a decision rests on.

    Args:
        at: The moment of the look.
        blocks: In the order in which they began; from ``paired_blocks``, in A/B from ``cohort_blocks``.
        incumbent: What the live version did.
        candidate: What the candidate did, in shadow as in service.
        nulls: One a feature of the candidate; None where nobody counted.
        obstacle: Why the candidate can't be asked yet (its server is not up, a window is not filled back), or can't be
            shadowed; empty where nothing stands in the way.
    """

    at: datetime
    blocks: Sequence[BlockLosses] = ()
    incumbent: Traffic = Traffic()
    candidate: Traffic = Traffic()
    nulls: Sequence[NullShare] | None = None
    obstacle: str = ""


def paired_blocks(
    answers: Answers, *, incumbent: int, candidate: int, policy: RolloutPolicy, at: datetime
) -> tuple[BlockLosses, ...]:
    """Blocks where the candidate is asked what the incumbent answers (shadow): both judged on the same keys.

    What is hard for both cancels, and a truth that is missing is missing for both. A key that the incumbent answered
    and the candidate did not (dropped, failed) lowers the candidate's coverage.
    """
    kept = _last_in_time(answers, (incumbent, candidate), policy)
    of_incumbent = kept[answers.version[kept] == incumbent]
    of_candidate = kept[answers.version[kept] == candidate]
    keys, numbers = _numbered(answers.key[kept])
    number = np.empty(len(answers.key), dtype=int)
    number[kept] = numbers
    by_key = np.full(len(keys), np.nan)
    by_key[number[of_candidate]] = answers.loss[of_candidate]
    losses = by_key[number[of_incumbent]]
    ours = answers.loss[of_incumbent]
    both = np.isfinite(ours) & np.isfinite(losses)
    labels, places = _numbered(answers.block[of_incumbent])
    count = len(labels)
    asked = np.bincount(places, minlength=count)
    known = (
        np.bincount(places, weights=np.isfinite(ours), minlength=count),
        np.bincount(places, weights=np.isfinite(losses), minlength=count),
    )
    judged = np.bincount(places, weights=both, minlength=count)
    return _blocks(
        labels, places, answers.decided_at[of_incumbent],
        means=tuple(_mean(places, count, np.where(both, loss, 0.0), judged) for loss in (ours, losses)),
        asked=(asked, asked), known=known, policy=policy, at=at,
    )  # fmt: skip


def cohort_blocks(
    answers: Answers, *, incumbent: int, candidate: int, policy: RolloutPolicy, at: datetime
) -> tuple[BlockLosses, ...]:
    """Blocks where each key is answered by one version, drawn with a known chance (A/B).

    A loss weighs by the inverse of its chance, so that each version's mean is that of all keys of the block, also where
    the share changed within it. Weights are normalised in the block: Hájek (1971), in the discussion of Basu.

    Raises:
        DataError: A row has no chance.
    """
    if answers.chance is None:
        raise DataError("Answers of cohorts need the chance of each row.", remedy="It is known: the share at the time.")
    kept = _last_in_time(answers, (incumbent, candidate), policy)
    chance = answers.chance[kept]
    if not ((chance > 0.0) & (chance <= 1.0)).all():
        raise DataError("An answer has a chance that is none.", remedy="Give its cohort's share at the time.")
    labels, places = _numbered(answers.block[kept])
    count = len(labels)
    means, asked, known = [], [], []
    for version in (incumbent, candidate):
        is_its = answers.version[kept] == version
        has_loss = is_its & np.isfinite(answers.loss[kept])
        weight = np.where(has_loss, 1.0 / chance, 0.0)
        total = np.bincount(places, weights=weight, minlength=count)
        means.append(_mean(places, count, weight * np.where(has_loss, answers.loss[kept], 0.0), total))
        asked.append(np.bincount(places, weights=is_its, minlength=count))
        known.append(np.bincount(places, weights=has_loss, minlength=count))
    return _blocks(
        labels, places, answers.decided_at[kept],
        means=(means[0], means[1]), asked=(asked[0], asked[1]), known=(known[0], known[1]), policy=policy, at=at,
    )  # fmt: skip


def _last_in_time(answers: Answers, versions: tuple[int, int], policy: RolloutPolicy) -> Array:
    """Rows that are judged: of each key and version the last that was asked before it was too late."""
    in_time = answers.received_at <= answers.decided_at + np.timedelta64(policy.late_after)
    rows = np.flatnonzero(in_time & np.isin(answers.version, versions))
    rows = rows[np.argsort(answers.received_at[rows], kind="stable")]
    _, numbers = _numbered(answers.key[rows])
    pairs = 2 * numbers + (answers.version[rows] == versions[1])
    # Seen from the end, the last of a pair is its first.
    _, last = np.unique(pairs[::-1], return_index=True)
    kept: Array = rows[len(rows) - 1 - last]
    return kept


def _numbered(texts: Array) -> tuple[list[Any], Array]:
    """The distinct values, and each row's place among them."""
    if texts.dtype.kind in "iu":
        distinct, found = np.unique(texts, return_inverse=True)
        return distinct.tolist(), found
    places: dict[str, int] = {}
    found = np.array([places.setdefault(text, len(places)) for text in texts.tolist()], dtype=int)
    return list(places), found


def _mean(places: Array, count: int, weighted: Array, total: Array) -> Array:
    sums = np.bincount(places, weights=weighted, minlength=count)
    means: Array = np.divide(sums, total, out=np.full(count, np.nan), where=total > 0)
    return means


def _blocks(
    labels: list[Any],
    places: Array,
    decided_at: Array,
    *,
    means: tuple[Array, ...],
    asked: tuple[Array, Array],
    known: tuple[Array, Array],
    policy: RolloutPolicy,
    at: datetime,
) -> tuple[BlockLosses, ...]:
    micros = decided_at.astype("datetime64[us]").astype(np.int64)
    began = np.full(len(labels), np.iinfo(np.int64).max)
    closed = np.full(len(labels), np.iinfo(np.int64).min)
    np.minimum.at(began, places, micros)
    np.maximum.at(closed, places, micros)
    blocks = []
    for n, label in enumerate(labels):
        block = BlockLosses(
            block=str(label),
            began=_instant(began[n]),
            closed=_instant(closed[n]),
            standing="open",
            incumbent=float(means[0][n]),
            candidate=float(means[1][n]),
            asked=(int(asked[0][n]), int(asked[1][n])),
            known=(int(known[0][n]), int(known[1][n])),
        )
        blocks.append(_standing(block, policy, at))
    return tuple(sorted(blocks, key=lambda block: (block.began, block.block)))


def _standing(block: BlockLosses, policy: RolloutPolicy, at: datetime) -> BlockLosses:
    closed = block.closed + policy.closes_after
    if at < closed:
        return block
    comparable = np.isfinite(block.incumbent) and np.isfinite(block.candidate)
    if comparable and block.coverage >= policy.coverage:
        return replace(block, standing="counted")
    if at < closed + policy.deadline:
        return replace(block, standing="waiting")
    return replace(block, standing="counted" if comparable and block.coverage >= policy.least_coverage else "lapsed")


def _instant(micros: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + np.timedelta64(int(micros), "us").item()


def covers_alike(blocks: Sequence[BlockLosses], most: float) -> tuple[bool, float]:
    """Whether truths are missing from both versions alike, and by how much the candidate's coverage is the lower.

    Pooled over the blocks, which count. A difference counts beyond ``most`` and three standard errors of two shares.
    """
    asked = [sum(block.asked[v] for block in blocks) for v in (0, 1)]
    known = [sum(block.known[v] for block in blocks) for v in (0, 1)]
    gap = known[0] / asked[0] - known[1] / asked[1]
    share = sum(known) / sum(asked)
    error = (share * (1.0 - share) * (1.0 / asked[0] + 1.0 / asked[1])) ** 0.5
    return abs(gap) <= most + 3.0 * error, gap
