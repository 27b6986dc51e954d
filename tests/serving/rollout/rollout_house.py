"""Parcels: a small use case, and days of its production as the front end and the collector would write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ninefold.clock import EventClock
from ninefold.cohorts import CohortRules, cohort_of
from ninefold.features import BatchView
from ninefold.fields import Columns, Field, Input, Metric
from ninefold.package import write_package
from ninefold.records import ModelVersion, Prediction, Truth, derived_id
from ninefold.rollout.policy import Guardrails, RolloutPolicy
from ninefold.rollout.stored import rollout_of, routing
from ninefold.signature import InputStatistics, PackageManifest, Signature
from ninefold.store import Store, StoredRollout
from ninefold.usecase import TimeSplit, UseCase

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def derive(columns: Columns) -> dict[str, Any]:
    return {"weight": columns["weight"], "depot_size": columns["depots__size"]}


def baseline(inputs: Columns) -> Any:
    return np.zeros(len(inputs["weight"]))


def decide(request: Mapping[str, Any], prediction: float) -> str:
    return "late" if prediction > 10 else "early"


def day_of(columns: Columns) -> Any:
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


def register(store: Store, folder: Path, number: int, *, inputs: Sequence[str] = ("weight", "depot_size")) -> int:
    """Registers a version; its inputs were never null in training."""
    signature = Signature(
        use_case="parcels", problem="regression", inputs=tuple(Input(name=name) for name in inputs),
        views=USE_CASE.feature_views(), derive_digest=USE_CASE.derive_digest, target="hours",
    )  # fmt: skip
    statistics = {name: InputStatistics(null_share=0.0, minimum=0.0, maximum=9.0) for name in inputs}
    manifest = PackageManifest(format="onnx", signature=signature, statistics=statistics, training={"number": number})
    digest, uri = write_package(str(folder / "models"), manifest, {"model.onnx": b"graph"})
    version: ModelVersion = store.register_version("parcels", digest, uri)
    return version.version


@dataclass
class Production:
    """Writes what production would: answers under the rollout as it stands, shadows, and truths of the day before.

    Args:
        store: Where to.
        clock: Moved on by what happens.
        errors: Version → mean absolute error of its answers.
        per_day: Requests a day.
    """

    store: Store
    clock: EventClock
    errors: dict[int, float]
    per_day: int = 120
    toll: float | None = 2.0
    failing: Mapping[int, str] = field(default_factory=dict)
    failing_share: float = 1.0
    slow: Mapping[int, float] = field(default_factory=dict)
    truths_kept: float = 1.0
    names_rollout: bool = True
    days: int = 0
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    _late: list[Truth] = field(default_factory=list)

    def day(self) -> None:
        """One day, with the truths of the day before; the clock stands at its end."""
        start = START + self.days * DAY
        kept = self.store.rollout("parcels")
        self.store.write_truths(self._late)
        self._late = []
        answers: list[Prediction] = []
        luck = self.random.normal(0.0, 0.05)
        for n in range(self.per_day):
            sent = start + n * (DAY / self.per_day)
            answers += self._answer(kept, f"p{self.days}-{n}", sent, luck)
        self.store.write_predictions(answers)
        self.days += 1
        self.clock.advance(start + DAY)

    def _answer(self, kept: StoredRollout | None, parcel: str, sent: datetime, luck: float) -> list[Prediction]:
        live = self.store_live
        truth = float(self.random.normal(10.0, 1.0))
        if self.random.random() < self.truths_kept:
            known = sent + timedelta(hours=20)
            self._late.append(
                Truth(truth_id=f"t-{parcel}", use_case="parcels", key=parcel, value=truth, known_at=known,
                      received_at=known)
            )  # fmt: skip
        request = {"parcel": parcel, "depot": "north", "weight": 1.5, "toll": self.toll, "sent_at": sent.isoformat()}
        routes = None
        if kept is not None and self.names_rollout:
            policy = RolloutPolicy.from_json(kept.policy)
            routes = routing(rollout_of(kept, self.store.steps(kept.rollout_id)), policy, live)
        cohort = "live"
        if routes is not None and routes.cohorts:
            cohort = cohort_of(CohortRules.from_json(routes.cohorts), request, parcel)
        shadow = routes is not None and routes.shadow and cohort == "live"
        found = []
        for asked in (cohort, *(["shadow"] if shadow else [])):
            version = live if asked == "live" else kept.candidate if kept is not None else live
            error = self.errors.get(version, 1.0)
            side = 1.0 if self.random.random() < 0.5 else -1.0
            value = truth + side * error * (1.0 + luck) * float(self.random.uniform(0.8, 1.2))
            fallback = self.failing.get(version)
            if fallback is not None and self.random.random() >= self.failing_share:
                fallback = None
            found.append(
                Prediction(
                    prediction_id=derived_id(parcel, asked), use_case="parcels", request_id=f"r-{parcel}#0",
                    key=parcel, decided_at=sent, received_at=sent, version=0 if fallback else version, cohort=asked,
                    request=request, features={"depots__size": 4.0},
                    # The baseline's answers are perfect here: who took them for the version's would promote it.
                    value=truth if fallback else value, fallback=fallback, latency_ms=self.slow.get(version, 4.0),
                    rollout_id=routes.rollout if routes is not None else None,
                    rollout_revision=routes.rollout_revision if routes is not None else None,
                )  # type: ignore[arg-type]
            )  # fmt: skip
        return found

    @property
    def store_live(self) -> int:
        live = self.store.live_version("parcels")
        return live.version if live is not None else 0
