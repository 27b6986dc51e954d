"""The controller of one use case's rollouts: one look is read, decide, record.

The store is the only thing that it changes. Whoever starts model servers makes routes of what stands there, so a
controller that is killed at any point leaves either the old step or the new one, whole, and the next look goes on from
it. A lease lets one controller look at a time, and each step names the lease and the revision that it rests on, so one
that lost its turn records nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import structlog

from ninefold.clock import Clock, format_instant
from ninefold.errors import NinefoldError, Outdated, StoreError
from ninefold.package import verify_package
from ninefold.records import ModelVersion
from ninefold.rollout.decide import RolloutDecision, decide
from ninefold.rollout.evidence import Evidence
from ninefold.rollout.guardrails import FEATURES_NULL
from ninefold.rollout.policy import RolloutPolicy
from ninefold.rollout.reason import Reason
from ninefold.rollout.state import Rollout, apply
from ninefold.rollout.stored import rollout_of
from ninefold.store import Lease, RolloutStep, Store, StoredRollout
from ninefold.store.versions import BASELINE
from ninefold.usecase import UseCase
from serving.rollout.evidence_reader import EvidenceReader
from serving.rollout.null_counter import NullCounter

log = structlog.get_logger()

Obstacle = Callable[[ModelVersion], str]
"""Why a candidate can't be asked yet, in words; empty where nothing stands in the way."""

Trouble = Callable[[], str]
"""Why routes don't follow the store, in words; empty where they do."""

ACTOR = "controller"
_LASTING = timedelta(minutes=2)
_SKEW = timedelta(minutes=5)
"""How far the clocks of two machines may be apart."""
_STOPS = frozenset({"harm", "errors", "latency", "fallbacks", FEATURES_NULL})
"""What ends a rollout whatever the clock says: it rests on what was counted."""


def no_obstacle(_: ModelVersion) -> str:
    """Nothing stands in the way."""
    return ""


def no_trouble() -> str:
    """Routes follow the store."""
    return ""


@dataclass(frozen=True, slots=True)
class Standing:
    """A rollout as it stands, in the store's terms and in the rules'.

    Args:
        kept: What the store holds.
        steps: Its whole history, oldest first.
        rollout: The same, folded.
        policy: The policy that it was opened with.
        candidate: The candidate's version; None where it is not known.
        live: The version that answers.
    """

    kept: StoredRollout
    steps: Sequence[RolloutStep]
    rollout: Rollout
    policy: RolloutPolicy
    candidate: ModelVersion | None
    live: int


def standing(store: Store, kept: StoredRollout) -> Standing:
    """Reads how a rollout stands."""
    # The history may have gone on since.
    steps = [step for step in store.steps(kept.rollout_id) if step.revision <= kept.revision]
    live = store.live_version(kept.use_case)
    return Standing(
        kept=kept,
        steps=steps,
        rollout=rollout_of(kept, steps),
        policy=RolloutPolicy.from_json(kept.policy),
        candidate=store.version(kept.use_case, kept.candidate),
        live=live.version if live is not None else BASELINE,
    )


def evidence_reader(use_case: UseCase, store: Store, found: Standing) -> EvidenceReader:
    """Reads what is known of a rollout, the nulls of both versions' inputs included."""
    number = found.kept.incumbent
    # The baseline's package names all inputs of the run that made it, and needs few: it excuses nothing.
    incumbent = store.version(use_case.name, number) if number != BASELINE else None
    return EvidenceReader(
        use_case, store, found.rollout, found.policy,
        nulls=_null_counter(use_case, found.candidate), live_nulls=_null_counter(use_case, incumbent),
    )  # fmt: skip


def _null_counter(use_case: UseCase, version: ModelVersion | None) -> NullCounter | None:
    """Counts the nulls of a version's inputs; None where its package can't be read, or is of another ``derive``."""
    try:
        return NullCounter(use_case, verify_package(version.uri, version.digest)) if version is not None else None
    except NinefoldError as error:
        log.warning("nulls are not counted", use_case=use_case.name, error=str(error))
        return None


class Controller:
    """Leads the rollouts of one use case.

    Args:
        use_case: Whose.
        store: The production database.
        clock: The clock that requests go by.
        obstacle: Says why a candidate that waits can't be asked yet.
        trouble: Says why routes don't follow the store: no step forward then.
        holder: Who this is, for people.
        lasting: For how long a look keeps others from looking.
    """

    def __init__(
        self,
        use_case: UseCase,
        store: Store,
        *,
        clock: Clock,
        obstacle: Obstacle = no_obstacle,
        trouble: Trouble = no_trouble,
        holder: str = ACTOR,
        lasting: timedelta = _LASTING,
    ) -> None:
        self._use_case = use_case
        self._store = store
        self._clock = clock
        self._obstacle = obstacle
        self._trouble = trouble
        self._holder = holder
        self._lasting = lasting
        self._lease: Lease | None = None
        self._reader: EvidenceReader | None = None

    def look(self) -> RolloutDecision | None:
        """One look at the rollout that goes on, else at the one that waits.

        Returns:
            What was decided and recorded; None where nothing was decided: there is no rollout, another controller
            leads, the store can't be read or written, or the use case's own code fails.
        """
        try:
            lease = self._leading()
            kept = self._store.rollout(self._use_case.name) if lease is not None else None
            if lease is None or kept is None:
                self._reader = None
                return None
            found = standing(self._store, kept)
            return self._mended(found, lease) or self._decided(found, lease)
        except Outdated as error:
            # Somebody else acted since: a person, or another controller. The next look sees what they did.
            self._lease = None
            log.info("rollout has moved on", use_case=self._use_case.name, error=str(error))
        except NinefoldError as error:
            log.error("rollout is held", use_case=self._use_case.name, error=str(error))
        return None

    def close(self) -> None:
        """Gives the lease back, so that another controller need not wait for its end."""
        lease, self._lease = self._lease, None
        if lease is not None:
            try:
                self._store.release_lease(lease)
            except StoreError as error:
                log.warning("lease not given back", lease=lease.name, error=str(error))

    def _leading(self) -> Lease | None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease = self._store.renew_lease(lease, self._lasting)
        if lease is None:
            lease = self._store.take_lease(f"rollout/{self._use_case.name}", self._holder, self._lasting)
        self._lease = lease
        return lease

    def _mended(self, found: Standing, lease: Lease) -> RolloutDecision | None:
        """What was done about a rollout that no longer fits the versions; None where it fits."""
        if (wrong := misfit(found)) is None:
            return None
        action, reason = wrong
        decision = RolloutDecision(
            action="hold" if action == "rebase" else action, at=self._clock.now(), revision=found.kept.revision,
            step=None, share=float(action == "promote"), reasons=(reason,),
        )  # fmt: skip
        self._record(found, decision, lease, action=action)
        return decision

    def _decided(self, found: Standing, lease: Lease) -> RolloutDecision:
        evidence = self._evidence(found)
        newest = self._reader.newest_answer() if self._reader is not None else None
        decision = decided(found, evidence, newest, self._trouble())
        if decision.action != "hold" or _is_news(decision, found.steps):
            self._record(found, decision, lease)
        else:
            log.debug("rollout", use_case=self._use_case.name, action="hold", words=decision.words)
        return decision

    def _evidence(self, found: Standing) -> Evidence:
        at = self._clock.now()
        if found.rollout.state == "pending":
            # A candidate that was never asked has nothing to read.
            return Evidence(at=at, obstacle=self._obstacle(found.candidate) if found.candidate is not None else "")
        reader = self._reader
        fits = reader is not None and reader.rollout_id == found.kept.rollout_id
        if reader is None or not fits or not reader.counts_nulls:
            made = evidence_reader(self._use_case, self._store, found)
            if reader is None or not fits or made.counts_nulls:
                reader = made
        self._reader = reader
        return reader.read(found.rollout, found.steps, at)

    def _record(self, found: Standing, decision: RolloutDecision, lease: Lease, *, action: str = "") -> None:
        kept, event = found.kept, decision.event(by=ACTOR)
        moved = found.rollout if event is None else apply(found.rollout, event)
        self._store.record_step(
            kept.rollout_id,
            revision=kept.revision,
            actor=ACTOR,
            action=action or decision.action,
            state=moved.state,
            step=moved.step,
            reasons=tuple(reason.words for reason in decision.deciding),
            numbers=kept_numbers(decision),
            lease=lease,
            live=kept.candidate if moved.state == "promoted" and kept.candidate != found.live else None,
            incumbent=found.live if action == "rebase" else None,
            at=decision.at,
        )
        log.info(
            "rollout",
            use_case=kept.use_case,
            rollout=kept.rollout_id,
            candidate=kept.candidate,
            state=kept.state,
            action=action or decision.action,
            share=decision.share,
            words=decision.words,
            **{name: n for name, n in decision.numbers.items() if n is not None},
        )


def misfit(found: Standing) -> tuple[Literal["promote", "rollback", "rebase"], Reason] | None:
    """What has to be done about a rollout that no longer fits the versions, and why; None where it fits."""
    kept, live = found.kept, found.live
    name = f"Version {kept.candidate}"
    if kept.candidate == live:
        return "promote", Reason("versions", "failed", f"{name} is live already: it was made so by hand.")
    if found.candidate is None:
        return "rollback", Reason("versions", "failed", f"{name} is not registered.")
    if found.candidate.state == "retired":
        return "rollback", Reason("versions", "failed", f"{name} was retired meanwhile.")
    if kept.incumbent == live:
        return None
    if kept.state != "pending":
        words = f"Version {live} went live in place of {kept.incumbent}, which version {kept.candidate} was judged by."
        return "rollback", Reason("versions", "failed", words)
    words = f"Version {live} is live now in place of {kept.incumbent}: version {kept.candidate} is compared with it."
    return "rebase", Reason("versions", "unknown", words)


def decided(
    found: Standing, evidence: Evidence, newest_answer: datetime | None, routes_trouble: str = ""
) -> RolloutDecision:
    """The decision about a rollout; where the clock is wrong, or routes don't follow, it goes nowhere but back.

    Args:
        found: How it stands.
        evidence: What is known.
        newest_answer: When the newest answer under it was asked for; None where there is none.
        routes_trouble: Why routes don't follow the store, in words; empty where they do.
    """
    decision = decide(found.rollout, evidence, found.policy)
    trouble = clock_trouble(found, newest_answer, evidence.at)
    if trouble is None and routes_trouble:
        trouble = Reason("routes", "unknown", routes_trouble)
    stops = decision.action == "rollback" and any(reason.name in _STOPS for reason in decision.deciding)
    if trouble is None or stops:
        return decision
    others = tuple(reason for reason in decision.reasons if reason.finding != "failed")
    share = found.policy.share(found.rollout.stage, found.rollout.step)
    return replace(decision, action="hold", step=None, share=share, reasons=(trouble, *others))


def kept_numbers(decision: RolloutDecision) -> dict[str, Any]:
    """What history keeps beside the words: the numbers, the share, and every reason that was looked at."""
    return {**decision.numbers, "share": decision.share, "looked_at": [r.to_json() for r in decision.reasons]}


def clock_trouble(found: Standing, newest_answer: datetime | None, at: datetime) -> Reason | None:
    """Whether a clock went wrong: what happened lies ahead of now. None where it seems right."""
    ahead = {
        "was opened": found.kept.opened_at,
        "entered its step": found.rollout.entered_at,
        "was last decided about": found.steps[-1].at if found.steps else None,
        "was last asked": newest_answer,
    }
    for what, instant in ahead.items():
        if instant is not None and instant > at + (_SKEW if what == "was last asked" else timedelta(0)):
            words = f"The clock says {format_instant(at)}, and the rollout {what} at {format_instant(instant)}."
            return Reason("clock", "unknown", words)
    return None


def _is_news(decision: RolloutDecision, steps: Sequence[RolloutStep]) -> bool:
    """Whether a hold tells what the last entry of the history does not: something else was found of something."""
    if not steps or steps[-1].action != "hold":
        return True
    looked_at = steps[-1].numbers.get("looked_at", ())
    before = [(reason.get("name"), reason.get("finding")) for reason in looked_at]
    return before != [(reason.name, reason.finding) for reason in decision.reasons]
