"""What production would have written of flights, and what the real monitor and the real controller make of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from bench.faults.flights import TEST_FROM, Array, Flights, Model
from components.monitor.run import Watched, watch
from ninefold.clock import EventClock, format_instant
from ninefold.dataset import FEATURE, REQUEST
from ninefold.errors import NotFound
from ninefold.records import Fallback, Prediction, Truth
from ninefold.rollout.decide import RolloutDecision
from ninefold.settings import Settings
from ninefold.store import Store, open_store
from ninefold.usecase import UseCase
from serving.rollout.controller import Controller

DAY = timedelta(days=1)
BEGAN, WATCHED_FROM = datetime(2013, 6, 13, tzinfo=UTC), datetime(2013, 7, 12, tzinfo=UTC)
FAULTY_FROM, WATCHED_UNTIL = datetime(2013, 7, 15, tzinfo=UTC), datetime(2013, 7, 18, tzinfo=UTC)
"""Days without a storm, after as many as the monitor compares with; the last three have the fault."""
LOOKED_AT = timedelta(hours=12)
"""When the controller looks, after a day's end: its flights have landed, but for a few."""

Change = Callable[[Prediction], Prediction]


def days(frame: pl.DataFrame, since: datetime, until: datetime) -> pl.DataFrame:
    """The rows that were decided in [since, until)."""
    return frame.filter((pl.col("decided_at") >= since) & (pl.col("decided_at") < until))


def predictions(frame: pl.DataFrame, value: Array, *, version: int, cohort: str = "live") -> list[Prediction]:
    """What the front end keeps of answers to a data set's rows."""
    requests = [name for name in frame.columns if name.startswith(REQUEST)]
    features = [name for name in frame.columns if name.startswith(FEATURE)]
    found = []
    for row, answer in zip(
        frame.select("key", "decided_at", *requests, *features).iter_rows(named=True), value.tolist(), strict=True
    ):
        at = row["decided_at"]
        found.append(
            Prediction(
                prediction_id=f"{version}-{cohort}-{row['key']}", use_case="arrivals", request_id=None, key=row["key"],
                decided_at=at, received_at=at, version=version, cohort=cohort,
                request={name.removeprefix(REQUEST): _json(row[name]) for name in requests},
                features={name.removeprefix(FEATURE): row[name] for name in features},
                value=answer, latency_ms=3.0,
            )
        )  # fmt: skip
    return found


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_instant(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def truths(frame: pl.DataFrame) -> list[Truth]:
    """The truths of a data set's rows, as they became known."""
    rows = frame.filter(pl.col("truth").is_not_null()).select("key", "truth", "truth_known_at")
    return [
        Truth(truth_id=key, use_case="arrivals", key=key, value=value, known_at=known, received_at=known)
        for key, value, known in rows.iter_rows()
    ]


class Production:
    """A month of honest production, and copies of it whose last days have a fault.

    Args:
        flights: The flights.
        live: The model that answers.
        name: Of its database.
        frame: What is asked, with its features; None for the flights as they are.
    """

    def __init__(
        self, flights: Flights, live: Model, *, name: str = "production", frame: pl.DataFrame | None = None
    ) -> None:
        self._flights = flights
        self._live = live
        self._path = flights.settings.home / f"{name}.db"
        frame = days(flights.frame if frame is None else frame, BEGAN, WATCHED_UNTIL)
        with closing(open_store(f"sqlite:///{self._path}")) as store:
            register(store, live)
            before = days(frame, BEGAN, FAULTY_FROM)
            store.write_predictions(predictions(before, live.predict(before), version=1))
            store.write_truths(truths(frame))
        self.faulty_days = days(frame, FAULTY_FROM, WATCHED_UNTIL)

    def watched(
        self, name: str, answers: Sequence[Prediction], *, settings: Settings | None = None,
        since: datetime = WATCHED_FROM, until: datetime = WATCHED_UNTIL,
    ) -> Watched:  # fmt: skip
        """What the monitor sees when the last days were answered so."""
        path = self._path.with_name(f"{self._path.stem}-{name}.db")
        shutil.copyfile(self._path, path)
        with closing(open_store(f"sqlite:///{path}")) as store:
            store.write_predictions(answers)
            clock = EventClock(until + 3 * DAY)
            here = settings or self._flights.settings
            return watch("arrivals", store, here, since, until, clock=clock, reports=False)

    def honest(self) -> list[Prediction]:
        """The last days' answers without a fault."""
        return predictions(self.faulty_days, self._live.predict(self.faulty_days), version=1)


def register(store: Store, live: Model) -> int:
    """Makes a model a known version, the first of them the live one."""
    version = store.register_version("arrivals", live.digest, live.uri)
    if version.version == 1:
        store.set_state("arrivals", 1, "live")
    return int(version.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """What a candidate did in shadow.

    Args:
        value: [rows] its answers.
        features: Features that were logged for it in place of the live version's; None for the same.
        fallback: [rows] why the baseline had to answer in its place; None where it need not.
        latency_ms: [rows].
    """

    value: Array
    features: Mapping[str, Sequence[Any]] | None = None
    fallback: Sequence[Fallback | None] | None = None
    latency_ms: Array | None = None


def rolled_out(
    flights: Flights, use_case: UseCase, live: Model, candidate: Model, shadow: Shadow, *, name: str, most_days: int,
    live_latency_ms: float = 3.0,
) -> tuple[list[RolloutDecision], int]:  # fmt: skip
    """Shadows a candidate from July 1 on, with a look of the real controller each noon.

    Returns:
        What was decided at each look, and the number of days until it was over.
    """
    frame = flights.july
    answers = [replace(p, latency_ms=live_latency_ms) for p in predictions(frame, live.predict(frame), version=1)]
    asked = _shadowed(frame, shadow)
    known = truths(frame)
    day = ((frame["decided_at"] - TEST_FROM).dt.total_seconds() // 86_400).to_numpy()
    clock = EventClock(TEST_FROM)
    decisions: list[RolloutDecision] = []
    with closing(open_store(f"sqlite:///{flights.settings.home / name}.db", clock=clock)) as store:
        register(store, live)
        register(store, candidate)
        store.open_rollout(
            "arrivals", incumbent=1, candidate=2, policy=use_case.rollout.to_json(), actor="release", rollout_id=name,
            salt=name, at=clock.now(),
        )  # fmt: skip
        with closing(Controller(use_case, store, clock=clock)) as controller:
            decisions += filter(None, [controller.look()])
            for number in range(most_days):
                told, kept = clock.now(), store.find_rollout(name)
                if kept is None:
                    raise NotFound(f"The rollout {name} is gone.")
                store.write_predictions(
                    replace(one, rollout_id=name, rollout_revision=kept.revision)
                    for place in np.flatnonzero(day == number).tolist()
                    for one in (answers[place], asked[place])
                )
                clock.advance(TEST_FROM + (number + 1) * DAY + LOOKED_AT)
                store.write_truths(t for t in known if told <= t.known_at < clock.now())
                decisions += filter(None, [controller.look()])
                if decisions and decisions[-1].action == "rollback":
                    return decisions, number + 1
    return decisions, most_days


def stood(looks: Sequence[RolloutDecision]) -> bool:
    """Whether a rollout was let go on at every look."""
    return bool(looks) and all(look.action != "rollback" for look in looks)


def told_of(look: RolloutDecision, *checks: str) -> str:
    """What some of the rules that stop a rollout say of one that goes on."""
    return " ".join(r.words for r in look.reasons if r.name in checks and r.finding != "failed")


def _shadowed(frame: pl.DataFrame, shadow: Shadow) -> list[Prediction]:
    found = predictions(frame, shadow.value, version=2, cohort="shadow")
    baseline = frame["baseline"].to_list()
    for place, one in enumerate(found):
        changes: dict[str, Any] = {}
        if shadow.features is not None:
            changes["features"] = {**one.features, **{name: of[place] for name, of in shadow.features.items()}}
        if shadow.latency_ms is not None:
            changes["latency_ms"] = float(shadow.latency_ms[place])
        if shadow.fallback is not None and shadow.fallback[place] is not None:
            changes |= {"fallback": shadow.fallback[place], "version": 0, "value": baseline[place]}
        found[place] = replace(one, **changes)
    return found
