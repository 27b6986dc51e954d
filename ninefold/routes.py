"""Which versions of a use case are served, and where: what the front end goes by.

One file a use case, ``gateway/<use case>.json``, replaced atomically by whoever starts and stops model servers, or on
a cluster by the front end's follower of the store. A reader that can't read a newer one keeps the last good one. One
revision holds both halves of a rollout: who is in the candidate's cohort, which the front end goes by, and where
versions are, which the gateway goes by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ninefold.atomic import replace_file
from ninefold.errors import DataError

VERSION_HEADER = "x-ninefold-version"
"""Names the version: asked for by the front end, told to direct clients by the answer."""

COHORT_HEADER = "x-ninefold-cohort"
"""Names the cohort that a request of the front end is of, to the model server."""

SECRET_HEADER = "x-ninefold-inner"  # noqa: S105
"""Holds what the gateway's inner listener admits the front end by."""

MAX_WEIGHT = 1_000_000
"""The gateway sums weights in 32 bits; this leaves room for thousands of versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One served version.

    Args:
        version: The version; 0 is the baseline.
        url: Base address of its model server (``http://127.0.0.1:8090``).
        package: Folder of its package, for the manifest.
        digest: Expected digest of the package.
    """

    version: int
    url: str
    package: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerGateway:
    """The gateway's listener for the front end: one address for every version, told apart by a header.

    Args:
        url: Its base address, on the loopback.
        secret: What it admits the front end by.
    """

    url: str
    secret: str = field(repr=False)

    def headers(self, version: int, cohort: str) -> dict[str, str]:
        """What a request of the front end carries to reach a version."""
        return {SECRET_HEADER: self.secret, VERSION_HEADER: str(version), COHORT_HEADER: cohort}


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """The variants of a use case.

    Args:
        use_case: Name of the use case.
        revision: Grows with every change.
        live: Version that answers; None before the first release.
        variants: Version → where it is served.
        candidate: Version that a rollout tries beside the live one; None while none is open.
        rollout: Id of that rollout; None while none is open.
        rollout_revision: Revision of that rollout; None while none is open.
        shadow: Whether the candidate is asked beside the live version, for nobody to see.
        cohorts: Who is in the candidate's cohort, as ``ninefold.cohorts.CohortRules`` in JSON; empty for nobody.
        weights: Version → its weight among direct clients of the gateway, relative to the others'; empty for the live
            version alone.
        gateway: Where the front end reaches variants; None where it asks them directly.

    Raises:
        DataError: It names a version that is not among the variants, or a weight is no weight.
    """

    use_case: str
    revision: int
    live: int | None
    variants: Mapping[int, Variant] = field(default_factory=dict)
    candidate: int | None = None
    rollout: str | None = None
    rollout_revision: int | None = None
    shadow: bool = False
    cohorts: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[int, int] = field(default_factory=dict)
    gateway: InnerGateway | None = None

    def __post_init__(self) -> None:
        for what, version in (("live", self.live), ("candidate", self.candidate)):
            if version is not None and version not in self.variants:
                raise DataError(f"Routes of {self.use_case}: the {what} version {version} is not among the variants.")
        for version, weight in self.weights.items():
            if version not in self.variants:
                raise DataError(f"Routes of {self.use_case}: version {version} has a weight and is no variant.")
            if type(weight) is not int or not 0 <= weight <= MAX_WEIGHT:
                raise DataError(
                    f"Routes of {self.use_case}: version {version} has the weight {weight!r}.",
                    remedy=f"A weight is a whole number from 0 to {MAX_WEIGHT:,}.",
                )
        if self.weights and not any(self.weights.values()):
            raise DataError(f"Routes of {self.use_case}: all weights are 0.", remedy="Leave them out.")

    def client_weights(self) -> dict[int, int]:
        """Version → weight among direct clients, without the versions that get nothing."""
        if self.weights:
            return {version: weight for version, weight in sorted(self.weights.items()) if weight}
        return {} if self.live is None else {self.live: 1}

    def following(self, before: RouteTable) -> RouteTable:
        """These routes under the revision that comes after others'; under theirs where nothing else differs."""
        same = replace(self, revision=before.revision)
        return same if same == before else replace(self, revision=before.revision + 1)

    def asks_nothing_new_of(self, before: RouteTable) -> bool:
        """Whether each version of these routes is where it is in others: a gateway that knows those knows these."""
        return all(before.variants.get(version) == variant for version, variant in self.variants.items())

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        document: dict[str, Any] = {
            "use_case": self.use_case,
            "revision": self.revision,
            "live": self.live,
            "variants": [
                {"version": v.version, "url": v.url, "package": v.package, "digest": v.digest}
                for v in self.variants.values()
            ],
            "candidate": self.candidate,
            "rollout": self.rollout,
            "rollout_revision": self.rollout_revision,
            "shadow": self.shadow,
            "cohorts": dict(self.cohorts),
            "weights": {str(version): weight for version, weight in self.weights.items()},
            "gateway": None,
        }
        if self.gateway is not None:
            document["gateway"] = {"url": self.gateway.url, "secret": self.gateway.secret}
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RouteTable:
        """Reads what ``to_json`` wrote, and what it wrote before there were rollouts and a gateway."""
        variants = [Variant(**v) for v in document["variants"]]
        gateway = document.get("gateway")
        return cls(
            use_case=document["use_case"],
            revision=document["revision"],
            live=document["live"],
            variants={v.version: v for v in variants},
            candidate=document.get("candidate"),
            rollout=document.get("rollout"),
            rollout_revision=document.get("rollout_revision"),
            shadow=document.get("shadow", False),
            cohorts=dict(document.get("cohorts", {})),
            weights={int(version): weight for version, weight in document.get("weights", {}).items()},
            gateway=None if gateway is None else InnerGateway(**gateway),
        )


def read_routes(path: Path) -> RouteTable | None:
    """The routes in a file; None when there is no file.

    Raises:
        DataError: The file is damaged.
    """
    try:
        return RouteTable.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"The routes in {path} are damaged: {error}.", remedy="Run: ninefold up") from error


def write_routes(path: Path, table: RouteTable) -> None:
    """Replaces the file in one step, so that a reader sees the old or the new routes, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(table.to_json(), indent=1).encode(), sync=True)
