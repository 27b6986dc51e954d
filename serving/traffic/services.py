"""Which versions could answer on a cluster: the InferenceServices of a use case, read into the plan's terms. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ninefold.cluster.inference_service import digest_of, server_url, version_of
from ninefold.cluster.readiness import readiness
from ninefold.routes import RouteTable
from serving.traffic.desired import Desired, Model, Running


@dataclass(frozen=True, slots=True)
class Served:
    """A version's server.

    Args:
        model: What it serves.
        url: Where it answers: KServe's own Service for the predictor.
        problem: Why it is not ready; empty where it is.
    """

    model: Model
    url: str
    problem: str


def served(
    use_case: str, documents: Sequence[Mapping[str, Any]], packages: Mapping[tuple[int, str], str]
) -> dict[Model, Served]:
    """Model → its server; one that says no version, or serves a package that nobody registered, is left out.

    Args:
        use_case: Name of the use case.
        documents: Its InferenceServices.
        packages: (version, digest) → the package's URI, of every version in the store.
    """
    found: dict[Model, Served] = {}
    for document in documents:
        metadata, version, digest = document["metadata"], version_of(document), digest_of(document)
        # What is being deleted answers no more in a moment.
        if "deletionTimestamp" in metadata or version is None or (version, digest) not in packages:
            continue
        state = readiness(document, name=metadata["name"], digest=digest, deployment=None, pods=())
        model = Model(version, digest, packages[version, digest])
        problem = "" if state.ready else f"{state.condition} {state.remedy}"
        found[model] = Served(model, server_url(use_case, version, metadata["namespace"]), problem)
    return found


def running(found: Mapping[Model, Served], standing: RouteTable) -> dict[Model, Running]:
    """What runs, as the plan sees it: ready once is ready for good, as one that died comes back at the same address.

    Args:
        found: The servers.
        standing: The routes that stand: what they name was ready.
    """
    return {model: Running(not server.problem or _names(standing, model)) for model, server in found.items()}


def server_troubles(desired: Desired, found: Mapping[Model, Served]) -> list[str]:
    """What is wrong with the versions that should be served, in words; the live one first."""
    order = dict.fromkeys((*filter(None, (desired.live, desired.candidate)), *sorted(desired.models)))
    return [f"Version {m.version}: {found[m].problem}" for m in order if m in found and found[m].problem]


def _names(table: RouteTable, model: Model) -> bool:
    variant = table.variants.get(model.version)
    return variant is not None and variant.digest == model.digest
