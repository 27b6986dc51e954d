"""Which versions could answer on a cluster: the InferenceServices of a use case, read into the plan's terms. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ninefold.routes import RouteTable
from serving.traffic.conditions import not_ready
from serving.traffic.desired import Desired, Model, Running

API, KIND = "serving.kserve.io/v1beta1", "InferenceService"
USE_CASE_LABEL, VERSION_LABEL, DIGEST = "ninefold.dev/use-case", "ninefold.dev/version", "ninefold.dev/digest"


@dataclass(frozen=True, slots=True)
class Served:
    """An InferenceService of a version.

    Args:
        model: What it serves.
        name: Its name.
        namespace: Where it lies.
        problem: Why it is not ready; empty where it is.
    """

    model: Model
    name: str
    namespace: str
    problem: str

    @property
    def url(self) -> str:
        """Where its model server answers: KServe's own Service for the predictor."""
        return f"http://{self.name}-predictor.{self.namespace}:80"


def served(documents: Sequence[Mapping[str, Any]], packages: Mapping[tuple[int, str], str]) -> dict[Model, Served]:
    """Model → its InferenceService; one that says no version, or serves a package that nobody registered, is left out.

    Args:
        documents: The use case's InferenceServices.
        packages: (version, digest) → the package's URI, of every version in the store.
    """
    found: dict[Model, Served] = {}
    for document in documents:
        metadata = document["metadata"]
        version = (metadata.get("labels") or {}).get(VERSION_LABEL, "")
        digest = (metadata.get("annotations") or {}).get(DIGEST, "")
        # What is being deleted answers no more in a moment.
        if metadata.get("deletionTimestamp") or not version.isdigit() or (int(version), digest) not in packages:
            continue
        model = Model(int(version), digest, packages[int(version), digest])
        found[model] = Served(model, metadata["name"], metadata["namespace"], not_ready(document))
    return found


def running(found: Mapping[Model, Served], standing: RouteTable) -> dict[Model, Running]:
    """What runs, as the plan sees it: ready once is ready for good, as one that died comes back at the same address.

    Args:
        found: The InferenceServices.
        standing: The routes that stand: what they name was ready.
    """
    return {model: Running(not service.problem or _names(standing, model)) for model, service in found.items()}


def service_troubles(desired: Desired, found: Mapping[Model, Served], use_case: str) -> list[str]:
    """What is wrong with the versions that should be served, in words; the live one first."""
    order = dict.fromkeys((*filter(None, (desired.live, desired.candidate)), *sorted(desired.models)))
    troubles = []
    for model in order:
        service = found.get(model)
        if service is None:
            troubles.append(
                f"Version {model.version} has no InferenceService with the digest {model.digest[:12]}."
                f" Make it with: ninefold release serve {use_case} {model.version}"
            )
        elif service.problem:
            troubles.append(f"Version {model.version}: {service.problem}")
    return troubles


def _names(table: RouteTable, model: Model) -> bool:
    variant = table.variants.get(model.version)
    return variant is not None and variant.digest == model.digest
