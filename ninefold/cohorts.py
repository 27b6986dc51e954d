"""Who gets the candidate's answer: by a list, by an attribute, by geography, or at random.

The share is drawn by a salted hash of the unit (the user, the customer: whoever must not see answers change sides), so
a unit stays where it is, who is in at 5 % is in at 20 %, and two rollouts with different salts draw independently.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from typing import Any, Literal

from ninefold.errors import ConfigurationError

Cohort = Literal["live", "candidate"]

_POINTS = 2**64
"""Places that a hash can fall on; a share is this many of them, rounded down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """A box on the map, both edges included; one whose west lies east of its east crosses the date line.

    Args:
        latitude: Request field with the latitude in degrees.
        longitude: Request field with the longitude in degrees.
        south: Least latitude.
        north: Greatest latitude.
        west: Western edge.
        east: Eastern edge.
    """

    latitude: str
    longitude: str
    south: float
    north: float
    west: float
    east: float

    def __post_init__(self) -> None:
        if not (-90 <= self.south <= self.north <= 90 and -180 <= self.west <= 180 and -180 <= self.east <= 180):
            raise ConfigurationError(
                f"The area {self.south} to {self.north} north, {self.west} to {self.east} east is no box on the map.",
                remedy="Latitudes go from -90 to 90, south first; longitudes from -180 to 180.",
            )

    def holds(self, request: Mapping[str, Any]) -> bool:
        """Whether the request's place lies in it; a request without a place lies nowhere."""
        latitude, longitude = request.get(self.latitude), request.get(self.longitude)
        if latitude is None or longitude is None or not self.south <= latitude <= self.north:
            return False
        if self.west <= self.east:
            return bool(self.west <= longitude <= self.east)
        return bool(longitude >= self.west or longitude <= self.east)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who may be asked to try a candidate. Declared in the use case's policy; by default everybody.

    Args:
        unit: Request fields that name the unit which stays in its cohort; empty for the use case's key.
        listed: Units (``ninefold.records.entity_key`` of the unit's fields) that are always in: testers, colleagues.
        never: Units that are never in.
        attributes: Request field → its values; who has another is not drawn from.
        area: Where the request has to be from.
    """

    unit: tuple[str, ...] = ()
    listed: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()
    attributes: Mapping[str, frozenset[Any]] = field(default_factory=dict)
    area: Area | None = None

    def __post_init__(self) -> None:
        both = self.listed & self.never
        if both:
            raise ConfigurationError(f"The unit {min(both)!r} is listed, and is never to be in.")
        empty = [name for name, values in self.attributes.items() if not values]
        if empty:
            raise ConfigurationError(f"The audience allows no value of {empty[0]!r}: nobody could be in.")

    @property
    def fields(self) -> frozenset[str]:
        """Request fields that it looks at."""
        place = (self.area.latitude, self.area.longitude) if self.area else ()
        return frozenset((*self.unit, *self.attributes, *place))

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        area = self.area
        return {
            "unit": list(self.unit),
            "listed": sorted(self.listed),
            "never": sorted(self.never),
            "attributes": {name: sorted(values, key=repr) for name, values in self.attributes.items()},
            "area": {name: getattr(area, name) for name in Area.__dataclass_fields__} if area else None,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Audience:
        """Reads what ``to_json`` wrote."""
        return cls(
            unit=tuple(document["unit"]),
            listed=frozenset(document["listed"]),
            never=frozenset(document["never"]),
            attributes={name: frozenset(values) for name, values in document["attributes"].items()},
            area=Area(**document["area"]) if document["area"] else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortRules:
    """One rollout's cohorts, ready to be asked on the hot path.

    Args:
        salt: The rollout's; another salt draws other units.
        share: Share of the audience that is in, 0–1. At 0 nobody is, listed or not.
        audience: Whom to draw from.

    Raises:
        ConfigurationError: The share is none, or the salt is empty or longer than 64 bytes.
    """

    salt: str
    share: float
    audience: Audience = field(default_factory=Audience)
    _last: bytes | None = field(init=False, repr=False, compare=False, default=None)
    _salted: Any = field(init=False, repr=False, compare=False, default=None)
    _simple: bool = field(init=False, repr=False, compare=False, default=True)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.share) and 0.0 <= self.share <= 1.0):
            raise ConfigurationError(f"A cohort's share of {self.share} is none.", remedy="Give 0 to 1.")
        salt = self.salt.encode()
        if not 0 < len(salt) <= 64:
            raise ConfigurationError(f"The salt {self.salt!r} is empty or longer than 64 bytes.")
        # The greatest hash that is in, as bytes: they compare as the numbers that they spell, big end first.
        points = math.floor(Fraction(self.share) * _POINTS)
        object.__setattr__(self, "_last", (points - 1).to_bytes(8, "big") if points else None)
        object.__setattr__(self, "_salted", blake2b(digest_size=8, key=salt))
        audience = self.audience
        object.__setattr__(
            self, "_simple", not (audience.listed or audience.never or audience.attributes or audience.area)
        )

    @property
    def is_simple(self) -> bool:
        """Whether chance alone decides: everybody is drawn from, and nobody is listed."""
        return self._simple

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {"salt": self.salt, "share": self.share, "audience": self.audience.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> CohortRules:
        """Reads what ``to_json`` wrote."""
        return cls(salt=document["salt"], share=document["share"], audience=Audience.from_json(document["audience"]))


def cohort_of(rules: CohortRules, request: Mapping[str, Any], unit: str) -> Cohort:
    """The cohort of a request.

    Args:
        rules: The rollout's.
        request: The request's fields, checked.
        unit: ``ninefold.records.entity_key`` of the unit's fields.
    """
    last = rules._last
    if last is None:
        return "live"
    if not rules._simple:
        audience = rules.audience
        if unit in audience.never:
            return "live"
        if unit in audience.listed:
            return "candidate"
        for name, values in audience.attributes.items():
            if request.get(name) not in values:
                return "live"
        if audience.area is not None and not audience.area.holds(request):
            return "live"
    salted = rules._salted.copy()
    salted.update(unit.encode())
    return "candidate" if salted.digest() <= last else "live"
