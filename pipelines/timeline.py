"""What happened when, why, and with what numbers: one row a happening, read back from what production keeps.

Rollouts and alerts tell of themselves; a training run tells by the result that it wrote.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from components.monitor.joined import SHADOW, counted, read_joined
from components.monitor.run import with_inputs
from ninefold.dataset import REQUEST, columns_of
from ninefold.errors import NotFound
from ninefold.metrics import losses
from ninefold.rollout.guardrails import FEATURES_NULL
from ninefold.rollout.policy import RolloutPolicy
from ninefold.rollout.stored import Stage, stages_of
from ninefold.settings import Settings
from ninefold.store import RolloutStep, Store, StoredRollout
from ninefold.usecase import UseCase
from pipelines.launch import read_result

Array = np.ndarray[Any, Any]

_ALERT, _TRAINED, NOTED, OPENED, _BEGUN = range(1, 6)
"""Places among what happened in a day; what ends or moves a rollout comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One thing that happened.

    Args:
        at: When, in event time.
        version: The version that it is about; None for none.
        what: In a few words.
        why: In a sentence or two.
        place: Among what happened that day, where one follows from the other.
    """

    at: datetime
    version: int | None
    what: str
    why: str
    place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A version stood somewhere for a while.

    Args:
        version: Which.
        state: ``shadow``, ``canary``, ``live``, ``rolled_back``.
        share: Share of the answers that was its own, 0–1.
        since: From when.
        until: To when.
    """

    version: int
    state: str
    share: float
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """How far apart two versions were, day by day.

    Args:
        incumbent: The one that answered.
        candidate: The one that was tried.
        days: Days on which both were judged.
        gain: Mean of the days' differences of the loss; above 0 the candidate is better.
        deviation: Their standard deviation.
        answered: Requests that the candidate answered meanwhile.
        outcome: How the rollout ended or stands.
    """

    incumbent: int
    candidate: int
    days: int
    answered: int
    gain: float
    deviation: float
    outcome: str

    @property
    def size(self) -> float:
        """Mean over standard deviation; NaN where it is not known."""
        return self.gain / self.deviation if self.deviation else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """All of it.

    Args:
        metric: Name of the loss.
        unit: Its unit.
        days: One row a day, mean losses on requests whose truth is known: ``answered``, of what clients got;
            ``baseline`` on the same requests; ``v<version>`` of each version that was asked then, in shadow or not, and
            ``baseline_v<version>`` on the same requests as the version. Null where it was not asked.
        happenings: In order.
        stretches: What each version did, in order.
        effects: One a rollout.
    """

    metric: str
    unit: str
    days: pl.DataFrame
    happenings: tuple[Happening, ...]
    stretches: tuple[Stretch, ...]
    effects: tuple[Effect, ...] = field(default_factory=tuple)

    @property
    def versions(self) -> tuple[int, ...]:
        """Versions that did something."""
        return tuple(sorted({stretch.version for stretch in self.stretches}))


def read_timeline(
    use_case: UseCase, store: Store, settings: Settings, since: datetime, until: datetime,
    notes: Iterable[Happening] = (),
) -> Timeline:  # fmt: skip
    """Reads what happened to a use case in [since, until).

    Args:
        use_case: Whose.
        store: The production database.
        settings: Say where results of runs lie.
        since: From when.
        until: To when.
        notes: What no record tells of.
    """
    rollouts = sorted(store.rollouts(use_case.name, limit=1_000), key=lambda r: r.opened_at)
    histories = [(rollout, store.steps(rollout.rollout_id)) for rollout in rollouts]
    judged = judged_answers(use_case, store, since, until)
    happenings = [
        *notes,
        *_of_runs(use_case, store, settings),
        *(h for rollout, steps in histories for h in of_rollout(rollout, steps)),
        *_of_alerts(use_case, store, since),
    ]
    return Timeline(
        metric=use_case.metric.name,
        unit=use_case.target.unit or "",
        days=by_day(judged),
        happenings=tuple(sorted(happenings, key=lambda h: (h.at.date(), h.place, h.at))),
        stretches=tuple(_stretches(use_case, store, histories, since, until)),
        effects=tuple(effect(judged, rollout) for rollout in rollouts),
    )


def judged_answers(use_case: UseCase, store: Store, since: datetime, until: datetime) -> pl.DataFrame:
    """Every version's loss on every request that it was asked, in shadow or not.

    Returns:
        ``key, day, version, shadow, loss`` and ``baseline``, the baseline's loss on the same request; a loss is null
        where the truth is not known.
    """
    frame = with_inputs(use_case, read_joined(store, use_case, since, until))
    loss = use_case.rollout.loss_of(use_case.metric, use_case.problem)
    truth = frame["truth"].to_numpy()
    known = frame["truth"].is_not_null().to_numpy()

    def lost(column: str) -> pl.Series:
        found = np.full(len(frame), np.nan)
        found[known] = losses(loss, truth[known], frame[column].to_numpy()[known])
        return pl.Series(found).fill_nan(None)

    frame = frame.with_columns(
        pl.Series("day", np.asarray(use_case.block(columns_of(frame, REQUEST))).tolist(), dtype=pl.String),
        lost("value").alias("loss"),
        lost("baseline").alias("baseline"),
    )
    return counted(use_case, frame).select(
        "key", "day", "version", "loss", "baseline", shadow=pl.col("cohort") == SHADOW
    )


def by_day(judged: pl.DataFrame) -> pl.DataFrame:
    """Mean losses day by day (``Timeline.days``)."""
    versions = judged.group_by("day", "version").agg(v=pl.col("loss").mean(), baseline_v=pl.col("baseline").mean())
    wide = (
        versions.unpivot(index=["day", "version"], on=["v", "baseline_v"])
        .with_columns(name=pl.format("{}{}", "variable", "version"))
        .pivot("name", index="day", values="value")
    )
    answered = judged.filter(~pl.col("shadow"))
    got = answered.group_by("day").agg(
        answered=pl.col("loss").mean(), baseline=pl.col("baseline").mean(), requests=pl.len()
    )
    return got.join(wide, on="day", how="left").sort("day")


def effect(judged: pl.DataFrame, rollout: StoredRollout) -> Effect:
    """How far apart a rollout's two versions were, day by day, on the requests that both were asked."""
    inside = pl.col("day") >= f"{rollout.opened_at:%Y-%m-%d}"
    if rollout.ended_at is not None:
        inside &= pl.col("day") < f"{rollout.ended_at:%Y-%m-%d}"
    frame = judged.filter(inside)
    ours, theirs = (
        frame.filter(pl.col("version") == version).select("key", "day", "loss")
        for version in (rollout.incumbent, rollout.candidate)
    )
    pairs = ours.join(theirs, on="key", suffix="_candidate")
    daily = pairs.group_by("day").agg(gain=(pl.col("loss") - pl.col("loss_candidate")).mean())
    gains = daily["gain"].drop_nulls().to_numpy()
    return Effect(
        incumbent=rollout.incumbent,
        candidate=rollout.candidate,
        days=len(gains),
        answered=len(frame.filter((pl.col("version") == rollout.candidate) & ~pl.col("shadow"))),
        gain=float(gains.mean()) if len(gains) else math.nan,
        deviation=float(gains.std()) if len(gains) else math.nan,
        outcome=rollout.state.replace("_", " "),
    )


def of_rollout(rollout: StoredRollout, steps: Sequence[RolloutStep]) -> Iterator[Happening]:
    """What a rollout's history tells: every change, and of the looks that changed nothing the first that warned."""
    policy, revision, suspected = RolloutPolicy.from_json(rollout.policy), 0, False
    stages = stages_of(steps)
    for step in steps:
        moved, revision = step.revision != revision, step.revision
        if not moved and (suspected or not _is_warning(step)):
            continue
        suspected |= not moved
        yield Happening(
            at=step.at,
            version=rollout.candidate,
            what=_what(step, policy, stages[step.revision], rollout),
            why=" ".join(step.reasons),
            place={"open": OPENED, "start_shadow": _BEGUN, "hold": _BEGUN}.get(step.action, 0),
        )


def _is_warning(step: RolloutStep) -> bool:
    looked_at = step.numbers.get("looked_at", ())
    return step.action == "hold" and any(r.get("name") == FEATURES_NULL for r in looked_at[:1])


def _what(step: RolloutStep, policy: RolloutPolicy, stage: Stage, rollout: StoredRollout) -> str:
    name = f"version {rollout.candidate}"
    match step.action:
        case "open":
            return f"{name} waits, against version {rollout.incumbent}"
        case "start_shadow":
            return f"{name} in shadow"
        case "advance":
            return f"{name} answers {policy.share(stage.state, stage.step):.0%}"
        case "promote":
            return f"{name} promoted"
        case "rollback":
            return f"{name} rolled back"
        case "hold":
            return f"{name} is suspected"
    return f"{name}: {step.action.replace('_', ' ')}"


def _of_alerts(use_case: UseCase, store: Store, since: datetime) -> Iterator[Happening]:
    """Alerts about answers that clients got. How one fares that is tried is told by its rollout."""
    live = [
        (f"version {stretch.version}", stretch.since, stretch.until)
        for stretch in _live(use_case, store, since, datetime.max.replace(tzinfo=UTC))
    ]
    for alert in store.alerts(use_case.name):
        answers = not alert.subject or any(
            who == alert.subject and began <= alert.raised_at < ended for who, began, ended in live
        )
        if alert.severity == "critical" and answers:
            what = f"alert: {alert.subject} {alert.check.replace('_', ' ')}".replace("  ", " ")
            yield Happening(at=alert.raised_at, version=None, what=what, why=alert.message, place=_ALERT)


def _of_runs(use_case: UseCase, store: Store, settings: Settings) -> Iterator[Happening]:
    for run in store.runs(pipeline="training", state="succeeded"):
        try:
            result = read_result(run, settings)
        except NotFound:
            continue
        if result["use_case"] != use_case.name:
            continue
        version = result["version"]
        what = f"version {version} trained" if version is not None else "a candidate was trained, and not released"
        asked = " The monitor had asked for it." if "-alert-" in run.run_id else ""
        why = f"{result['summary']} {_words(result)}{asked}"
        yield Happening(at=run.started_at, version=version, what=what, why=why, place=_TRAINED)


def _words(result: Mapping[str, Any]) -> str:
    """Losses on the test set, in a sentence."""
    found = ", ".join(f"{row['name']} {row['value']:.2f}" for row in result["rows"])
    return f"On its test month: {found} {result['unit']}.".replace(" .", ".")


def _live(use_case: UseCase, store: Store, since: datetime, until: datetime) -> Iterator[Stretch]:
    """Who was live, one after the other."""
    live: dict[int, datetime] = {}
    for change in store.version_changes(use_case.name):
        if change.to_state == "live":
            live[change.version] = max(change.at, since)
        elif change.version in live:
            began = live.pop(change.version)
            yield Stretch(version=change.version, state="live", share=1.0, since=began, until=change.at)
    for version, began in live.items():
        yield Stretch(version=version, state="live", share=1.0, since=began, until=until)


def _stretches(
    use_case: UseCase, store: Store, histories: Sequence[tuple[StoredRollout, Sequence[RolloutStep]]],
    since: datetime, until: datetime,
) -> Iterator[Stretch]:  # fmt: skip
    yield from _live(use_case, store, since, until)
    for rollout, steps in histories:
        policy, stages = RolloutPolicy.from_json(rollout.policy), stages_of(steps)
        changes = [step for n, step in enumerate(steps) if n == 0 or step.revision != steps[n - 1].revision]
        for step, after in zip(changes, [*(s.at for s in changes[1:]), until], strict=True):
            if step.to_state in ("shadow", "canary"):
                share = policy.share(step.to_state, stages[step.revision].step)
                yield Stretch(version=rollout.candidate, state=step.to_state, share=share, since=step.at, until=after)
            elif step.to_state == "rolled_back":
                yield Stretch(version=rollout.candidate, state="rolled_back", share=0.0, since=step.at, until=step.at)
