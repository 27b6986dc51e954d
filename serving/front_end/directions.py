"""Who answers a request: the versions of one route table, and the rollout that is open between them.

A value of the hot path: made when routes change, and replaced as a whole, so that a request sees the routes and the
shares of one revision. Without a share nobody is drawn, and asking costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ninefold.cohorts import CohortRules, cohort_of
from ninefold.errors import DataError
from ninefold.records import entity_key
from ninefold.signature import PackageManifest
from serving.front_end.feature_reader import FeatureReader
from serving.front_end.model_client import ModelClient
from serving.front_end.training_range import TrainingRange
from serving.front_end.validation import Row

LIVE = "live"
"""The cohort of everybody who is not drawn; of all, while no rollout is open."""

CANDIDATE = "candidate"
"""The cohort of those who get the candidate's answer."""

SHADOW = "shadow"
"""The cohort of what the candidate answers for nobody to see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedVersion:
    """One version, ready to answer.

    Args:
        version: Its number; 0 is the baseline.
        digest: Digest of its package.
        manifest: What its package says of itself.
        features: Reads what its signature names; versions of the same views share one.
        training: What its training set held.
        client: Asks its model server, in the name of one cohort.
    """

    version: int
    digest: str
    manifest: PackageManifest
    features: FeatureReader
    training: TrainingRange
    client: ModelClient


@dataclass(slots=True, kw_only=True)
class OpenRollout:
    """A rollout at one of its revisions, and what was seen of it here since that began.

    Args:
        rollout_id: Its id.
        revision: Its revision.
        candidate: Version that it tries.
        shadow: Whether the candidate is to be asked beside the live version.
        share: Share of its audience that is to get the candidate's answer, 0–1.
        problem: Why this front end can't ask the candidate; None when it can.
        observed: Cohort → predictions given.
        shadowed: ``answered``, ``failed`` or ``dropped`` → predictions in shadow.
        stamp: What every prediction's record says of it.
    """

    rollout_id: str
    revision: int
    candidate: int
    shadow: bool
    share: float
    problem: str | None = None
    observed: Counter[str] = field(default_factory=Counter)
    shadowed: Counter[str] = field(default_factory=Counter)
    stamp: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.stamp = {"rollout_id": self.rollout_id, "rollout_revision": self.revision}

    def to_json(self, waiting: int) -> dict[str, Any]:
        """What people are told of it.

        Args:
            waiting: Predictions in shadow that are neither kept nor dropped yet.
        """
        return {
            "id": self.rollout_id,
            "revision": self.revision,
            "candidate": self.candidate,
            "ready": self.problem is None,
            "problem": self.problem,
            "shadow": self.shadow,
            "share": self.share,
            "observed": {cohort: self.observed[cohort] for cohort in (LIVE, CANDIDATE)},
            "shadowed": {
                **{outcome: self.shadowed[outcome] for outcome in ("answered", "failed", "dropped")},
                "waiting": waiting,
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where rows of one cohort go.

    Args:
        served: The version that answers; None before the first.
        cohort: The cohort.
        rollout: The rollout that is open; None while none is.
        shadow: Where the same rows go once they are answered; None for nowhere.
        alike: Of a shadow: whether its version takes the very instances that the live version takes.
    """

    served: ServedVersion | None
    cohort: str = LIVE
    rollout: OpenRollout | None = None
    shadow: Route | None = None
    alike: bool = False


class Draw:
    """Draws rows into the candidate's cohort.

    Args:
        rules: The rollout's.
        fields: Names of a request's fields, in the order of a row.
        key: The fields that are the unit where the audience names none.

    Raises:
        DataError: The rules look at a field that no request has.
    """

    def __init__(self, rules: CohortRules, fields: Sequence[str], key: Sequence[str]) -> None:
        audience = rules.audience
        missing = sorted(audience.fields - set(fields))
        if missing:
            raise DataError(f"The rollout draws by {', '.join(missing)}, which no request has.")
        self._rules = rules
        self._unit = [fields.index(name) for name in audience.unit or key]
        place = () if audience.area is None else (audience.area.latitude, audience.area.longitude)
        # A share alone looks at nothing but the unit.
        self._looked_at = [(name, fields.index(name)) for name in dict.fromkeys((*audience.attributes, *place))]

    def is_drawn(self, row: Row) -> bool:
        """Whether the candidate answers a row."""
        unit = entity_key([row[place] for place in self._unit])
        return cohort_of(self._rules, {name: row[place] for name, place in self._looked_at}, unit) == CANDIDATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Directions:
    """The routes that are gone by, of one revision.

    Args:
        live: Of everybody who is not drawn.
        candidate: Of those who are; None where nobody is.
        draw: Says who is; None where nobody is.
    """

    live: Route
    candidate: Route | None = None
    draw: Draw | None = None

    @property
    def rollout(self) -> OpenRollout | None:
        """The rollout that is open; None while none is."""
        return self.live.rollout

    def of(self, rows: Sequence[Row]) -> list[tuple[Route, Sequence[int]]]:
        """Each route that some rows take, and the places of those rows."""
        draw, candidate = self.draw, self.candidate
        if draw is None or candidate is None:
            return [(self.live, range(len(rows)))]
        drawn = [place for place, row in enumerate(rows) if draw.is_drawn(row)]
        if not drawn:
            return [(self.live, range(len(rows)))]
        if len(drawn) == len(rows):
            return [(candidate, drawn)]
        chosen = set(drawn)
        return [(self.live, [place for place in range(len(rows)) if place not in chosen]), (candidate, drawn)]
