"""From what the store holds to what a rollout is judged by.

A reader is kept for as long as its rollout is open: answers never change, so it reads an hour of them once. Truths can
change until the end, so losses are made anew at every look.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from ninefold.cohorts import CohortRules
from ninefold.metrics import losses
from ninefold.rollout.evidence import Answers, BlockLosses, Evidence, NullShare, Traffic, cohort_blocks, paired_blocks
from ninefold.rollout.policy import RolloutPolicy
from ninefold.rollout.state import Rollout
from ninefold.rollout.stored import KeptStep, Stage, stages_of
from ninefold.store import Store
from ninefold.store.rows import from_micros, to_micros
from ninefold.usecase import UseCase
from serving.rollout.answer_log import ANSWERED, CANDIDATE, ERROR, FALLBACK, LIVE, SHADOW, AnswerColumns, AnswerLog
from serving.rollout.null_counter import NullCounter
from serving.rollout.truth_log import Codes, TruthLog

Array = np.ndarray[Any, Any]

_EARLIER = timedelta(days=2)
"""How long before the opening a decision moment may lie: who asks later than that is not judged."""


class EvidenceReader:
    """Reads what is known of one rollout.

    Args:
        use_case: Whose.
        store: The production database.
        rollout: Which rollout.
        policy: The policy that it was opened with.
        nulls: Counts the nulls of what the candidate is asked; None where that can't be done.
        live_nulls: Counts the nulls of what the incumbent is asked; None where that can't be done.
    """

    def __init__(
        self, use_case: UseCase, store: Store, rollout: Rollout, policy: RolloutPolicy, nulls: NullCounter | None,
        live_nulls: NullCounter | None = None,
    ) -> None:  # fmt: skip
        self.rollout_id = rollout.rollout_id
        self._use_case = use_case
        self._store = store
        self._policy = policy
        self._loss = policy.loss_of(use_case.metric, use_case.problem)
        since = to_micros(rollout.opened_at - _EARLIER)
        keys = Codes()
        rules = CohortRules(salt=rollout.salt, share=1.0, audience=policy.audience)
        self._answers = AnswerLog(use_case, rollout.rollout_id, rules, since, nulls, live_nulls, keys)
        # Where a request is decided when it arrives, a truth may be older than the question.
        self._truths = TruthLog(use_case.name, since if use_case.decided_at is not None else 0, keys)
        self._counter = nulls
        self._live_counter = live_nulls

    def read(self, rollout: Rollout, steps: Sequence[KeptStep], at: datetime) -> Evidence:
        """What is known at an instant.

        Args:
            rollout: The rollout as it stands.
            steps: Its whole history, oldest first.
            at: Truths count as they were known then.

        Raises:
            StoreError: The store is out of reach.
            DataError: The use case's own code fails on what was answered.
        """
        with self._store.reading() as connection:
            self._answers.look(connection)
            self._truths.look(connection)
        columns = self._answers.columns
        entered = columns.received >= to_micros(rollout.entered_at)
        return Evidence(
            at=at,
            blocks=self._blocks(rollout, stages_of(steps), at),
            incumbent=_traffic(columns, entered & (columns.cohort == LIVE)),
            candidate=_traffic(columns, entered & (columns.cohort != LIVE)),
            nulls=self._null_shares(),
        )

    @property
    def counts_nulls(self) -> bool:
        """Whether nulls are counted: the candidate's package could be read."""
        return self._counter is not None

    def newest_answer(self) -> datetime | None:
        """When the newest answer was asked for, of those that were read; None where there is none."""
        received = self._answers.columns.received
        return from_micros(int(received.max())) if len(received) else None

    def observed(self, rollout: Rollout) -> dict[str, int]:
        """Cohort → answers that clients got since the present step began."""
        columns = self._answers.columns
        entered = columns.received >= to_micros(rollout.entered_at)
        return {
            name: int(np.count_nonzero(entered & (columns.cohort == cohort)))
            for name, cohort in (("live", LIVE), ("candidate", CANDIDATE))
        }

    def _null_shares(self) -> tuple[NullShare, ...] | None:
        log = self._answers
        if self._counter is None or log.nulls is None:
            return None
        found = self._counter.shares(log.nulls, log.asked)
        if self._live_counter is None or log.live_nulls is None:
            return found
        live = {n.feature: n.serving for n in self._live_counter.shares(log.live_nulls, len(log.columns) - log.asked)}
        return tuple(replace(share, incumbent=live.get(share.feature, math.nan)) for share in found)

    def _blocks(self, rollout: Rollout, stages: Mapping[int, Stage], at: datetime) -> tuple[BlockLosses, ...]:
        ab = self._policy.mode == "ab"
        columns = self._answers.columns
        chosen = np.flatnonzero(_compared_in_ab(columns, rollout) if ab else _compared_in_shadow(columns, rollout))
        shares = {revision: self._policy.share(stage.state, stage.step) for revision, stage in stages.items()}
        compared = {revision for revision, stage in stages.items() if stage.state in (("ab",) if ab else _SHADOWED)}
        # The front end names the revision that it went by: only then was the other version there to be compared with.
        by_revision = columns.revision[chosen]
        chosen = chosen[np.isin(by_revision, list(compared)) | (columns.cohort[chosen] == SHADOW)]
        if not len(chosen):
            return ()
        chance = None
        if ab:
            share = np.array([shares[revision] for revision in columns.revision[chosen].tolist()])
            chance = np.where(columns.cohort[chosen] == CANDIDATE, share, 1.0 - share)
        answers = Answers(
            key=columns.key[chosen],
            block=columns.block[chosen],
            version=columns.version[chosen],
            decided_at=columns.decided[chosen].view("datetime64[us]"),
            received_at=columns.received[chosen].view("datetime64[us]"),
            loss=self._losses(chosen, at),
            chance=chance,
        )
        found = (cohort_blocks if ab else paired_blocks)(
            answers, incumbent=rollout.incumbent, candidate=rollout.candidate, policy=self._policy,
            at=min(at, self._newest_record(at)),
        )  # fmt: skip
        labels = self._answers.labels
        return tuple(replace(block, block=labels[int(block.block)]) for block in found)

    def _newest_record(self, at: datetime) -> datetime:
        """How far time has come by what was recorded: a clock that runs ahead must not close a block."""
        instants = [self.newest_answer()]
        truth = self._truths.received_until(to_micros(at))
        instants.append(None if truth is None else from_micros(truth))
        return max((instant for instant in instants if instant is not None), default=at)

    def _losses(self, chosen: Array, at: datetime) -> Array:
        truth = self._truths.newest(to_micros(at))[self._answers.columns.key[chosen]]
        value = self._answers.columns.value[chosen]
        scored = np.isfinite(truth) & np.isfinite(value)
        if self._use_case.problem == "binary":
            scored &= ((truth == 0.0) | (truth == 1.0)) & (value >= 0.0) & (value <= 1.0)
        found = np.full(len(chosen), np.nan)
        if scored.any():
            found[scored] = losses(self._loss, truth[scored], value[scored])
        return found


_SHADOWED = ("shadow", "canary")


def _compared_in_shadow(columns: AnswerColumns, rollout: Rollout) -> Array:
    live = (columns.cohort == LIVE) & (columns.version == rollout.incumbent)
    shadow = (columns.cohort == SHADOW) & (columns.version == rollout.candidate)
    return (columns.outcome == ANSWERED) & (live | shadow)


def _compared_in_ab(columns: AnswerColumns, rollout: Rollout) -> Array:
    live = (columns.cohort == LIVE) & (columns.version == rollout.incumbent)
    candidate = (columns.cohort == CANDIDATE) & (columns.version == rollout.candidate)
    return (columns.outcome == ANSWERED) & columns.drawn & (live | candidate)


def _traffic(columns: AnswerColumns, chosen: Array) -> Traffic:
    outcome = columns.outcome[chosen]
    latency = columns.latency_ms[chosen][outcome != FALLBACK]
    return Traffic(
        requests=len(outcome),
        errors=int(np.count_nonzero(outcome == ERROR)),
        fallbacks=int(np.count_nonzero(outcome == FALLBACK)),
        p99_ms=float(np.quantile(latency, 0.99)) if len(latency) else None,
    )
