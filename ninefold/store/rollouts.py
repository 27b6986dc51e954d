"""Rollouts: where each stands, and every step that led there, with its reasons.

The store knows no rules of a rollout but three: of a use case one goes on and one waits; a step is recorded only on
the revision that it was decided on; and a candidate whose rollout ends without it is retired with that step, unless it
is live. When and why to step is decided elsewhere.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ninefold.errors import NotFound, Outdated, StoreError, UsageError
from ninefold.store.database import Database
from ninefold.store.leases import Lease, require_lease
from ninefold.store.rollout_rows import (
    ENDED,
    GOING_ON,
    RolloutState,
    RolloutStep,
    StoredRollout,
    rollout_from,
    step_from,
)  # fmt: skip
from ninefold.store.rows import from_micros, to_micros
from ninefold.store.tables import models, rollout_steps, rollouts
from ninefold.store.versions import BASELINE, VERSIONS_LOCK, change_state


class Rollouts(Database):
    """Rollouts and their history."""

    def open_rollout(
        self,
        use_case: str,
        *,
        incumbent: int,
        candidate: int,
        policy: Mapping[str, Any],
        actor: str,
        rollout_id: str | None = None,
        salt: str | None = None,
        reason: str = "",
        at: datetime | None = None,
    ) -> StoredRollout:
        """Queues a candidate (``pending``). One that waits already is superseded; one that goes on is left alone.

        Opening again what is not over, or what has this id, changes nothing.

        Args:
            use_case: Name of the use case.
            incumbent: The version that answers.
            candidate: The version that may replace it.
            policy: The policy, as JSON.
            actor: Who opens it.
            rollout_id: Its id; a new one by default.
            salt: What cohorts are drawn with; a random one by default.
            reason: Why it is opened.
            at: When, where the store's clock is not the one that requests go by; by default now.
        """
        with self.writing(alone=VERSIONS_LOCK) as connection:
            known = sa.and_(
                rollouts.c.use_case == use_case, rollouts.c.candidate == candidate, rollouts.c.state.not_in(ENDED)
            )
            if rollout_id is not None:
                known = sa.or_(rollouts.c.rollout_id == rollout_id, known)
            if (found := connection.execute(sa.select(rollouts).where(known)).first()) is not None:
                return rollout_from(found)
            now = to_micros(at or self.clock.now())
            waiting = sa.select(rollouts).where(rollouts.c.use_case == use_case, rollouts.c.state == "pending")
            for row in connection.execute(waiting).all():
                why = f"version {candidate} is newer"
                _change(connection, row, now, actor, "supersede", "superseded", (why,), {})
            identity = rollout_id or uuid.uuid4().hex
            opened = {
                "rollout_id": identity,
                "use_case": use_case,
                "incumbent": incumbent,
                "candidate": candidate,
                "state": "pending",
                "step": 0,
                "salt": salt or uuid.uuid4().hex,
                "revision": 1,
                "policy": dict(policy),
                "opened_at_us": now,
                "updated_at_us": now,
                "ended_at_us": None,
                "reason": reason,
            }
            connection.execute(rollouts.insert().values(opened))
            reasons = (reason,) if reason else ()
            _append(connection, identity, now, actor, "open", reasons, {}, None, "pending", 1)
            return rollout_from(_found(connection, identity))

    def record_step(
        self,
        rollout_id: str,
        *,
        revision: int,
        actor: str,
        action: str,
        state: RolloutState,
        step: int | None = None,
        reasons: Sequence[str] = (),
        numbers: Mapping[str, Any] | None = None,
        lease: Lease | None = None,
        live: int | None = None,
        incumbent: int | None = None,
        at: datetime | None = None,
    ) -> StoredRollout:
        """Records what was decided, and moves the rollout there: both, or neither.

        Where neither state, step nor incumbent changes, history gains an entry and the revision stays. A candidate
        that is rolled back or superseded is retired in the same transaction, unless it is live.

        Args:
            rollout_id: The rollout.
            revision: The revision that the decision rests on.
            actor: Who decided.
            action: What was decided.
            state: The state from now on.
            step: Place in the list of shares from now on; None keeps it.
            reasons: Why, in words.
            numbers: What it rests on, as JSON.
            lease: Refuse when the decider lost this lease.
            live: This version becomes the live one, in the same transaction.
            incumbent: The version that it is compared with from now on; None keeps it.
            at: When, where the store's clock is not the one that requests go by; by default now.

        Raises:
            NotFound: There is no such rollout, or no such version.
            UsageError: There is no such state.
            Outdated: The rollout has moved on since, somebody else has the lease, or a version is to go live in place
                of one that is live no longer; nothing is recorded.
            StoreError: Another rollout of the use case goes on or waits already.
        """
        if state not in get_args(RolloutState):
            raise UsageError(
                f"{state!r} is no state of a rollout.", remedy=f"Use one of {', '.join(get_args(RolloutState))}."
            )
        with self.writing(alone=VERSIONS_LOCK) as connection:
            if lease is not None:
                require_lease(connection, lease)
            row = _found(connection, rollout_id)
            if row.revision != revision:
                raise Outdated(
                    f"The rollout {rollout_id} of {row.use_case} stands at revision {row.revision} ({row.state}), "
                    f"not {revision}.",
                    remedy="Look again and decide anew.",
                )
            _require_room(connection, row, state)
            now = at or self.clock.now()
            compared = row.incumbent if incumbent is None else incumbent
            if live is not None:
                _require_live(connection, row, compared, live)
                change_state(
                    connection, row.use_case, live, "live", now=now, actor=actor, reason=_why(row, action, reasons)
                )
            _change(
                connection, row, to_micros(now), actor, action, state, tuple(reasons), dict(numbers or {}),
                step=step, incumbent=compared,
            )  # fmt: skip
            return rollout_from(_found(connection, rollout_id))

    def rollout(self, use_case: str) -> StoredRollout | None:
        """The rollout that goes on; else the one that waits; else None."""
        waiting_last = sa.case((rollouts.c.state == "pending", 1), else_=0)
        query = (
            sa.select(rollouts)
            .where(rollouts.c.use_case == use_case, rollouts.c.state.not_in(ENDED))
            .order_by(waiting_last)
            .limit(1)
        )
        with self.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else rollout_from(row)

    def find_rollout(self, rollout_id: str) -> StoredRollout | None:
        """One rollout; None when there is none of that id."""
        with self.reading() as connection:
            row = connection.execute(sa.select(rollouts).where(rollouts.c.rollout_id == rollout_id)).one_or_none()
        return None if row is None else rollout_from(row)

    def rollouts(
        self, use_case: str | None = None, *, states: Collection[RolloutState] | None = None, limit: int = 100
    ) -> list[StoredRollout]:
        """Rollouts, opened last first; each argument narrows them."""
        where = []
        if use_case is not None:
            where.append(rollouts.c.use_case == use_case)
        if states is not None:
            where.append(rollouts.c.state.in_(list(states)))
        order = (rollouts.c.opened_at_us.desc(), rollouts.c.rollout_id)
        with self.reading() as connection:
            found = connection.execute(sa.select(rollouts).where(*where).order_by(*order).limit(limit))
            return [rollout_from(row) for row in found]

    def steps(self, rollout_id: str) -> list[RolloutStep]:
        """A rollout's whole history, oldest first."""
        mine = rollout_steps.c.rollout_id == rollout_id
        with self.reading() as connection:
            found = connection.execute(sa.select(rollout_steps).where(mine).order_by(rollout_steps.c.number))
            return [step_from(row) for row in found]


def _found(connection: Connection, rollout_id: str) -> Any:
    row = connection.execute(sa.select(rollouts).where(rollouts.c.rollout_id == rollout_id)).one_or_none()
    if row is None:
        raise NotFound(f"There is no rollout {rollout_id!r}.")
    return row


def _require_room(connection: Connection, row: Any, state: RolloutState) -> None:
    """Names the rollout that is in the way, before the unique index refuses with the database's words."""
    if state in ENDED:
        return
    states = ("pending",) if state == "pending" else GOING_ON
    others = sa.select(rollouts).where(
        rollouts.c.use_case == row.use_case, rollouts.c.rollout_id != row.rollout_id, rollouts.c.state.in_(states)
    )
    if (other := connection.execute(others).first()) is not None:
        raise StoreError(
            f"The rollout {row.rollout_id} can't be {state}: {other.rollout_id} of {row.use_case}, version "
            f"{other.candidate}, is {other.state}.",
            remedy="One at a time; end that one first.",
        )


def _require_live(connection: Connection, row: Any, compared: int, live: int) -> None:
    """Refuses to replace a version that the decision knows nothing of."""
    query = sa.select(models.c.version).where(models.c.use_case == row.use_case, models.c.state == "live")
    # Where none is live, the baseline answers.
    answers = connection.execute(query).scalar()
    if (BASELINE if answers is None else answers) not in (compared, live):
        raise Outdated(
            f"Version {answers} of {row.use_case} is live now, not version {compared}, which {live} was compared with.",
            remedy="Look again and decide anew.",
        )


def _change(
    connection: Connection,
    row: Any,
    now_us: int,
    actor: str,
    action: str,
    state: RolloutState,
    reasons: tuple[str, ...],
    numbers: dict[str, Any],
    *,
    step: int | None = None,
    incumbent: int | None = None,
) -> None:
    place = row.step if step is None else step
    compared = row.incumbent if incumbent is None else incumbent
    changes = (state, place, compared) != (row.state, row.step, row.incumbent)
    revision = row.revision + 1 if changes else row.revision
    if changes:
        values = {
            "state": state,
            "step": place,
            "incumbent": compared,
            "revision": revision,
            "updated_at_us": now_us,
            "ended_at_us": now_us if state in ENDED else None,
            "reason": "; ".join(reasons),
        }
        connection.execute(rollouts.update().where(rollouts.c.rollout_id == row.rollout_id).values(values))
    _append(connection, row.rollout_id, now_us, actor, action, reasons, numbers, row.state, state, revision)
    if state in ("rolled_back", "superseded"):
        _retire_candidate(connection, row, now_us, actor, _why(row, action, reasons))


def _retire_candidate(connection: Connection, row: Any, now_us: int, actor: str, reason: str) -> None:
    """The baseline stands by whatever happens, and what is live goes on."""
    mine = (models.c.use_case == row.use_case, models.c.version == row.candidate, models.c.version != BASELINE)
    if connection.execute(sa.select(models.c.state).where(*mine)).scalar() == "registered":
        now = from_micros(now_us)
        change_state(connection, row.use_case, row.candidate, "retired", now=now, actor=actor, reason=reason)


def _why(row: Any, action: str, reasons: Sequence[str]) -> str:
    return "; ".join(reasons) or f"rollout {row.rollout_id}: {action}"


def _append(
    connection: Connection,
    rollout_id: str,
    at_us: int,
    actor: str,
    action: str,
    reasons: tuple[str, ...],
    numbers: dict[str, Any],
    from_state: RolloutState | None,
    to_state: RolloutState,
    revision: int,
) -> None:
    last = sa.select(sa.func.max(rollout_steps.c.number)).where(rollout_steps.c.rollout_id == rollout_id)
    entry = {
        "rollout_id": rollout_id,
        "number": (connection.execute(last).scalar() or 0) + 1,
        "at_us": at_us,
        "actor": actor,
        "action": action,
        "reasons": list(reasons),
        "numbers": numbers,
        "from_state": from_state,
        "to_state": to_state,
        "revision": revision,
    }
    connection.execute(rollout_steps.insert().values(entry))
