"""A rollout on Knative: one InferenceService a use case, two revisions, and the order in which traffic moves. Pure.

KServe sends ``canaryTrafficPercent`` of the requests to the newest revision and the rest to the one that was rolled out
before; 0 keeps the newest from all of them, and without the field it gets all. That draws for each request anew, so
the front end names a revision by the host of its tag: ``latest-`` and ``prev-``. A tag's meaning moves with the object,
so each step waits until front ends go by a host whose meaning the next one leaves alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ninefold.cluster.inference_service import (
    API_VERSION,
    DIGEST_ANNOTATION,
    KIND,
    MODE_ANNOTATION,
    predictor,
    server_labels,
)
from ninefold.errors import DataError
from ninefold.records import ModelVersion
from ninefold.routes import RouteTable
from ninefold.settings import Settings
from serving.traffic.httproutes import client_name

VERSION, PREVIOUS, PREVIOUS_DIGEST = "ninefold.dev/version", "ninefold.dev/previous", "ninefold.dev/previous-digest"
_TAGS = "serving.kserve.io/enable-tag-routing"
_MODE = "Knative"

Key = tuple[int, str]
"""A version and its package's digest."""


@dataclass(frozen=True, slots=True)
class Revisions:
    """An InferenceService as it stands, or as it should.

    Args:
        latest: What its newest revision serves; None before the first.
        previous: What the revision serves that was rolled out before; None where the newest has all requests.
        percent: Share of the requests that is the newest's; None for all.
        ready: Whether the newest revision answers.
    """

    latest: Key | None = None
    previous: Key | None = None
    percent: int | None = None
    ready: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """What comes next.

    Args:
        wanted: How the InferenceService should stand.
        hosts: Version → the tag that front ends reach it by; empty for the host without a tag.
        live: The version that answers until then.
    """

    wanted: Revisions
    hosts: Mapping[int, str]
    live: int | None


def require_two(table: RouteTable) -> None:
    """Refuses what Knative can't carry.

    Raises:
        DataError: More than two versions are to get requests.
    """
    named = {*table.weights, *(v for v in (table.live, table.candidate) if v is not None)}
    if len(named) > 2:
        raise DataError(
            f"Knative carries two versions of {table.use_case} at once, and versions"
            f" {', '.join(map(str, sorted(named)))} are to get requests.",
            remedy="End one of them, or set NINEFOLD_CLUSTER__ROUTES to httproute.",
        )


def percent_of(weights: Mapping[int, int], candidate: int | None) -> int:
    """The candidate's share of direct clients' requests in percent, as a whole number: Knative knows no parts."""
    total = sum(weights.values())
    return 0 if candidate is None or not total else round(100 * weights.get(candidate, 0) / total)


@dataclass(frozen=True, slots=True)
class Followed:
    """How front ends reach versions.

    Args:
        tags: Version → tag, by the newest routes.
        settled: Whether every front end has had the time to read them.
    """

    tags: Mapping[int, str]
    settled: bool

    def goes_by(self, version: int, tag: str) -> bool:
        """Whether all front ends reach a version by a tag."""
        return self.settled and self.tags.get(version) == tag

    def nobody_by(self, tag: str) -> bool:
        """Whether no front end reaches anything by a tag."""
        return self.settled and tag not in self.tags.values()


def move(at: Revisions, live: Key, candidate: Key | None, percent: int, followed: Followed) -> Move:
    """The next move of an InferenceService towards what the store wants.

    Args:
        at: How it stands.
        live: What should answer.
        candidate: What a rollout tries; None where none does.
        percent: The candidate's share of direct clients.
        followed: How front ends reach versions.
    """
    if at.latest is None:
        return Move(Revisions(live), {}, None)
    if at.latest == live and at.percent is not None:
        return _promotion(at, live, followed)
    if at.latest == live:
        hosts = {live[0]: ""} if at.ready or live[0] in followed.tags else {}
        answers = live[0] if hosts else None
        # With 0 % the host without a tag goes on meaning what it means.
        begins = candidate is not None and bool(hosts) and followed.goes_by(live[0], "")
        return Move(Revisions(candidate, live, 0) if begins else at, hosts, answers)
    if at.previous == live:
        return _canary(at, live, candidate, percent, followed)
    # Made live by hand, and in neither revision: it is brought up beside what answers, and then promoted.
    answering = at.previous if at.percent is not None and at.previous is not None else at.latest
    tag = "" if at.percent is None else "prev"
    if not tag and not at.ready and answering[0] not in followed.tags:
        # Nothing has answered yet.
        return Move(Revisions(live), {}, None)
    free = followed.goes_by(answering[0], tag) and followed.nobody_by("latest")
    return Move(Revisions(live, answering, 0) if free else at, {answering[0]: tag}, answering[0])


def _canary(at: Revisions, live: Key, candidate: Key | None, percent: int, followed: Followed) -> Move:
    alone = {live[0]: "prev"}
    if candidate is None or (candidate != at.latest and not followed.nobody_by("latest")):
        return Move(Revisions(at.latest, live, 0), alone, live[0])
    if candidate != at.latest or not at.ready:
        return Move(Revisions(candidate, live, 0), alone, live[0])
    # Only when nobody goes by the host without a tag any more may requests be drawn there.
    drawn = percent if followed.goes_by(live[0], "prev") else 0
    return Move(Revisions(candidate, live, drawn), {**alone, candidate[0]: "latest"}, live[0])


def _promotion(at: Revisions, live: Key, followed: Followed) -> Move:
    if not at.ready and followed.tags.get(live[0]) != "latest":
        previous = at.previous or live
        return Move(at, {previous[0]: "prev"}, previous[0])
    # Front ends leave the tag prev first: it goes with the share.
    done = at.ready and followed.goes_by(live[0], "latest") and followed.nobody_by("prev")
    return Move(Revisions(live) if done else at, {live[0]: "latest"}, live[0])


def revisions(service: Mapping[str, Any] | None) -> Revisions:
    """How an InferenceService stands, by its annotations and status."""
    if service is None:
        return Revisions()
    metadata, spec, status = service["metadata"], service["spec"]["predictor"], service.get("status") or {}
    notes = metadata.get("annotations") or {}
    ready = {c["type"]: c["status"] for c in status.get("conditions") or []}.get("Ready") == "True"
    seen = int(status.get("observedGeneration") or 0) >= int(metadata.get("generation") or 0)
    return Revisions(
        latest=_key(notes, VERSION, DIGEST_ANNOTATION),
        previous=_key(notes, PREVIOUS, PREVIOUS_DIGEST),
        percent=spec.get("canaryTrafficPercent"),
        ready=ready and seen,
    )


def knative_service(
    use_case: str, wanted: Revisions, version: ModelVersion, settings: Settings, annotations: Mapping[str, str]
) -> dict[str, Any]:
    """The InferenceService of a use case.

    Args:
        use_case: Name of the use case.
        wanted: How it should stand.
        version: What its newest revision serves.
        settings: Name the namespace and the service account.
        annotations: What people are to see of the rollout.
    """
    notes = {MODE_ANNOTATION: _MODE, _TAGS: "true", VERSION: str(version.version), DIGEST_ANNOTATION: version.digest}
    if wanted.previous is not None:
        notes |= {PREVIOUS: str(wanted.previous[0]), PREVIOUS_DIGEST: wanted.previous[1]}
    share = {} if wanted.percent is None else {"canaryTrafficPercent": wanted.percent}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": client_name(use_case),
            "namespace": settings.cluster.namespace,
            "labels": {"app.kubernetes.io/part-of": "ninefold", **server_labels(use_case)},
            "annotations": {**annotations, **notes},
        },
        "spec": {"predictor": {**predictor(use_case, version, settings), **share}},
    }


def host_url(use_case: str, tag: str, namespace: str) -> str:
    """Where front ends reach a revision."""
    name = f"{client_name(use_case)}-predictor"
    return f"http://{tag}-{name}.{namespace}.svc.cluster.local".replace("//-", "//")


def _key(notes: Mapping[str, str], version: str, digest: str) -> Key | None:
    text = notes.get(version, "")
    return (int(text), notes.get(digest, "")) if text.isdigit() else None
