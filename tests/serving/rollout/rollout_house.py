"""Parcels: a small use case, and days of its production as the front end and the collector would write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ninefold.clock import EventClock
from ninefold.cohorts import CohortRules, cohort_of
from ninefold.features import BatchView
from ninefold.fields import Columns, Field, Input, Metric
from ninefold.package import write_package
from ninefold.records import Fallback, ModelVersion, Prediction, Truth, derived_id
from ninefold.rollout.decide import RolloutDecision
from ninefold.rollout.policy import Guardrails, RolloutPolicy
from ninefold.rollout.stored import Routing, rollout_of, routing
from ninefold.signature import InputStatistics, PackageManifest, Signature
from ninefold.splits import TimeSplit
from ninefold.store import Store, StoredRollout
from ninefold.usecase import UseCase
from serving.rollout.controller import Controller

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


FAULTS: set[str] = set()
"""Names of the use case's functions that fail."""


def derive(columns: Columns) -> dict[str, Any]:
    if "derive" in FAULTS:
        raise RuntimeError("no such column")
    return {"weight": columns["weight"], "depot_size": columns["depots__size"]}


def baseline(inputs: Columns) -> Any:
    return np.zeros(len(inputs["weight"]))


def decide(request: Mapping[str, Any], prediction: float) -> str:
    return "late" if prediction > 10 else "early"


def day_of(columns: Columns) -> Any:
    if "block" in FAULTS:
        raise RuntimeError("no such day")
    return columns["sent_at"].astype("datetime64[D]").astype(str)


POLICY = RolloutPolicy(
    minimum_blocks=6, harm_blocks=5, tightest_at=10, maximum_blocks=25, steps=(0.2, 0.5), blocks_per_step=2,
    deadline=timedelta(days=1), guardrails=Guardrails(minimum_requests=30),
)  # fmt: skip

USE_CASE = UseCase(
    name="parcels",
    title="How long a parcel takes",
    problem="regression",
    request=(
        Field(name="parcel", kind="category", example="p1"),
        Field(name="depot", kind="category", example="north"),
        Field(name="weight", kind="number", minimum=0, maximum=100, example=1.5),
        Field(name="toll", kind="number", nullable=True, example=2.0),
        Field(name="sent_at", kind="time", example="2024-01-01T00:00:00Z"),
    ),
    key=("parcel",),
    decided_at="sent_at",
    target=Field(name="hours", kind="number", minimum=0),
    metric=Metric(name="mae", direction="minimize", unit="h"),
    extract="nowhere:extract",
    split=TimeSplit(),
    inputs=(Input(name="weight"), Input(name="depot_size"), Input(name="toll", column="toll")),
    derive=derive,
    baseline=baseline,
    decide=decide,
    block=day_of,
    batch_views=(BatchView(name="depots", key=("depot",), columns=(Field(name="size", kind="number"),)),),
    rollout=POLICY,
)


def register(
    store: Store, folder: Path, number: int, *, inputs: Sequence[str] = ("weight", "depot_size"),
    version: int | None = None,
) -> int:  # fmt: skip
    """Registers a version; its inputs were never null in training."""
    signature = Signature(
        use_case="parcels", problem="regression", inputs=tuple(Input(name=name) for name in inputs),
        views=USE_CASE.feature_views(), derive_digest=USE_CASE.derive_digest, target="hours",
    )  # fmt: skip
    statistics = {name: InputStatistics(null_share=0.0, minimum=0.0, maximum=9.0) for name in inputs}
    manifest = PackageManifest(format="onnx", signature=signature, statistics=statistics, training={"number": number})
    digest, uri = write_package(str(folder / "models"), manifest, {"model.onnx": b"graph"})
    made: ModelVersion = store.register_version("parcels", digest, uri, version=version)
    return made.version


@dataclass
class Production:
    """Writes what production would: answers under the rollout as it stands, shadows, and truths of the day before.

    Args:
        store: Where to.
        clock: Moved on by what happens.
        errors: Version → mean absolute error of its answers.
        per_day: Requests a day.
        toll: What requests say of it; null where nobody knows.
        failing: Version → why the fallback answers in its place,
        failing_share: in this share of its requests.
        slow: Version → its latency in milliseconds.
        truths_kept: Share of the truths that ever come.
        names_rollout: Whether the front end goes by the rollout.
        depots: Where parcels are sent from, in turns.
        hardness: Depot → what errors are multiplied by there, whatever the version.
        days: Days that have passed.
    """

    store: Store
    clock: EventClock
    errors: dict[int, float]
    per_day: int = 120
    toll: float | None = 2.0
    failing: dict[int, Fallback] = field(default_factory=dict)
    failing_share: float = 1.0
    slow: dict[int, float] = field(default_factory=dict)
    truths_kept: float = 1.0
    names_rollout: bool = True
    depots: Sequence[str] = ("north",)
    hardness: Mapping[str, float] = field(default_factory=dict)
    days: int = 0
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    _late: list[Truth] = field(default_factory=list)

    def day(self, hours: float = 24.0) -> None:
        """One day, or the hours that it is cut off after, with the truths that become known in it."""
        self.part(0.0, hours)
        self.days += 1

    def part(self, first: float, last: float) -> None:
        """The hours of the present day from one to another, under the routes as they are now."""
        start = START + self.days * DAY
        routes, live = self._routes(), self.live
        answers: list[Prediction] = []
        luck = self.random.normal(0.0, 0.05)
        for n in range(int(self.per_day * first / 24.0), int(self.per_day * last / 24.0)):
            answers += self._answer(routes, live, n, start + n * (DAY / self.per_day), luck)
        self.store.write_predictions(answers)
        self.clock.advance(start + timedelta(hours=last))
        known = [truth for truth in self._late if truth.known_at <= self.clock.now()]
        self._late = [truth for truth in self._late if truth.known_at > self.clock.now()]
        self.store.write_truths(known)

    @property
    def live(self) -> int:
        """The version that answers."""
        found = self.store.live_version("parcels")
        return found.version if found is not None else 0

    @property
    def rollout(self) -> StoredRollout:
        """The rollout that was opened last."""
        return self.store.rollouts("parcels", limit=1)[0]

    @property
    def history(self) -> list[tuple[str, str]]:
        """What was recorded of it, holds left out: action and the state after."""
        steps = self.store.steps(self.rollout.rollout_id)
        return [(step.action, step.to_state) for step in steps if step.action != "hold"]

    def _routes(self) -> Routing:
        kept = self.store.rollout("parcels")
        if kept is None or not self.names_rollout:
            return Routing()
        rollout = rollout_of(kept, self.store.steps(kept.rollout_id))
        return routing(rollout, RolloutPolicy.from_json(kept.policy), self.live)

    def _answer(self, routes: Routing, live: int, number: int, sent: datetime, luck: float) -> list[Prediction]:
        parcel, depot = f"p{self.days}-{number}", self.depots[number % len(self.depots)]
        truth = float(self.random.normal(10.0, 1.0))
        if self.random.random() < self.truths_kept:
            known = sent + timedelta(hours=20)
            self._late.append(
                Truth(truth_id=f"t-{parcel}", use_case="parcels", key=parcel, value=truth, known_at=known,
                      received_at=known)
            )  # fmt: skip
        request = {"parcel": parcel, "depot": depot, "weight": 1.5, "toll": self.toll, "sent_at": sent.isoformat()}
        cohort = "live"
        if routes.cohorts:
            cohort = cohort_of(CohortRules.from_json(routes.cohorts), request, parcel)
        asked = [cohort, "shadow"] if routes.shadow and cohort == "live" else [cohort]
        found = []
        for name in asked:
            version = live if name == "live" or routes.candidate is None else routes.candidate
            side = 1.0 if self.random.random() < 0.5 else -1.0
            off = (
                side
                * self.errors.get(version, 1.0)
                * self.hardness.get(depot, 1.0)
                * (1.0 + luck)
                * float(self.random.uniform(0.8, 1.2))
            )
            fallback = self.failing.get(version) if self.random.random() < self.failing_share else None
            found.append(
                Prediction(
                    prediction_id=derived_id(parcel, name), use_case="parcels", request_id=f"r-{parcel}#0",
                    key=parcel, decided_at=sent, received_at=sent, version=0 if fallback else version, cohort=name,
                    request=request, features={"depots__size": 4.0},
                    # The fallback is perfect here: who took its answers for the version's own would be misled.
                    value=truth if fallback else truth + off, fallback=fallback,
                    latency_ms=self.slow.get(version, 4.0), rollout_id=routes.rollout,
                    rollout_revision=routes.rollout_revision,
                )
            )  # fmt: skip
        return found


def controller(production: Production, **more: Any) -> Controller:
    return Controller(USE_CASE, production.store, clock=production.clock, **more)


def run(production: Production, days: int, leading: Controller | None = None) -> list[RolloutDecision]:
    """Days of production with a look after each; what was decided, holds left out."""
    looking = leading or controller(production)
    decisions = []
    for _ in range(days):
        production.day()
        decision = looking.look()
        if decision is not None and decision.action != "hold":
            decisions.append(decision)
    return decisions


def reopen(production: Production, **policy: Any) -> StoredRollout:
    """Version 3 instead of version 2, under another policy, a moment later."""
    production.clock.advance(production.clock.now() + timedelta(seconds=1))
    return production.store.open_rollout(
        "parcels", incumbent=1, candidate=3, policy=replace(POLICY, **policy).to_json(), actor="release",
        salt="r3",
    )  # fmt: skip


def found(decision: RolloutDecision | None) -> dict[str, str]:
    assert decision is not None
    return {reason.name: reason.finding for reason in decision.reasons}
