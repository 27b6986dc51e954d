"""A version's model server on a cluster: applied and waited for; one that never gets ready is left to be looked at."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ninefold.cluster.inference_service import (
    API_VERSION,
    KIND,
    NOT_READY_ANNOTATION,
    inference_service,
    server_name,
)
from ninefold.cluster.readiness import Readiness, readiness
from ninefold.errors import ClusterError, ConfigurationError, NinefoldError
from ninefold.package.objects import is_remote
from ninefold.records import ModelVersion
from ninefold.settings import Settings
from ninefold.store.versions import BASELINE

if TYPE_CHECKING:
    from ninefold.cluster.api import ClusterApi

FIELD_MANAGER = "ninefold-release"
"""Owns what a release sets in an InferenceService."""

LOOK_SECONDS = 2.0
_POD_LABEL = "serving.kserve.io/inferenceservice"

Deploy = Callable[[ModelVersion], object]
"""Makes a version askable, or raises."""


def no_deployment(_: ModelVersion) -> None:
    """Where the supervisor starts model servers by itself."""


def deployment(use_case: str, settings: Settings, folder: Path) -> Deploy:
    """How a release makes a version askable, by the settings.

    Args:
        use_case: Name of the use case.
        settings: Say what carries a rollout.
        folder: Where documents are written, for GitOps.
    """
    # Knative serves two revisions of one InferenceService, which the controller sets by the rollout's state.
    if settings.cluster.routes != "httproute":
        return no_deployment
    if is_rendered(settings):
        return lambda version: render(use_case, version, settings, folder)

    def apply(version: ModelVersion) -> None:
        api = cluster_api(settings)
        try:
            deploy(use_case, version, api, settings)
        finally:
            api.close()

    return apply


def is_rendered(settings: Settings) -> bool:
    """Whether a release writes documents instead of applying them."""
    return settings.cluster.routes == "httproute" and settings.cluster.release == "render"


def cluster_api(settings: Settings) -> ClusterApi:
    """The API server, asked in the name of releases.

    Raises:
        ConfigurationError: No cluster is named.
    """
    from ninefold.cluster.api import ClusterApi

    return ClusterApi(settings.cluster.namespace, field_manager=FIELD_MANAGER)


def render(use_case: str, version: ModelVersion, settings: Settings, folder: Path) -> Path:
    """Writes a version's InferenceService as YAML, and returns the file.

    Raises:
        ConfigurationError: A pod can't load the package from where it lies.
    """
    import yaml

    _require_remote(version)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{server_name(use_case, version.version)}.yaml"
    document = inference_service(use_case, version, settings)
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120))
    return path


def deploy(
    use_case: str,
    version: ModelVersion,
    api: ClusterApi,
    settings: Settings,
    *,
    pause: Callable[[float], None] = time.sleep,
    seconds: Callable[[], float] = time.monotonic,
) -> None:
    """Applies a version's InferenceService and returns once it serves the version's package.

    One that never becomes ready stays, with the reason in an annotation and an Event, and nobody is routed to it.

    Args:
        use_case: Name of the use case.
        version: Which.
        api: The API server.
        settings: Say how long it is waited for.
        pause: Waits between looks.
        seconds: A clock that never goes back.

    Raises:
        ConfigurationError: A pod can't load the package from where it lies.
        FieldConflict: Somebody changed the InferenceService by hand.
        ClusterError: The API server refuses it, or it is not ready in time; the message names resource and condition.
        Unavailable: The API server does not answer.
    """
    _require_remote(version)
    document = inference_service(use_case, version, settings)
    api.apply(document)
    ends = seconds() + settings.cluster.ready_seconds
    while True:
        found = look(document["metadata"]["name"], version.digest, api)
        if found.ready:
            return
        if found.hopeless or seconds() >= ends:
            break
        pause(LOOK_SECONDS)
    _mark(document, found, api)
    number = version.version
    give_up = "" if number == BASELINE else f"; or give it up: ninefold release retire {use_case} {number}"
    waited = "" if found.hopeless else f" after {settings.cluster.ready_seconds:g} seconds"
    raise ClusterError(
        f"Version {number} of {use_case} is not ready{waited}: {found.condition}",
        remedy=f"{found.remedy.rstrip('.')}. Its InferenceService was left to be looked at, and nothing else has "
        f"changed. Try again: ninefold release apply {use_case} {number}{give_up}",
    )


def look(name: str, digest: str, api: ClusterApi) -> Readiness:
    """How an InferenceService does, with its Deployment and pods where they may be looked at."""
    service = api.get(API_VERSION, KIND, name)
    try:
        deployed = api.get("apps/v1", "Deployment", f"{name}-predictor")
        pods = api.list("v1", "Pod", {_POD_LABEL: name})
    except ClusterError:
        # Without the right to see them, what KServe says has to do.
        deployed, pods = None, []
    return readiness(service, name=name, digest=digest, deployment=deployed, pods=pods)


def _mark(document: Mapping[str, Any], found: Readiness, api: ClusterApi) -> None:
    metadata = document["metadata"]
    annotations = {**metadata["annotations"], NOT_READY_ANNOTATION: found.condition}
    try:
        # An apply would make again what somebody has deleted meanwhile.
        if api.get(API_VERSION, KIND, metadata["name"]) is None:
            return
        marked = api.apply({**document, "metadata": {**metadata, "annotations": annotations}})
        api.event(marked, reason="NotReady", message=f"{found.condition} {found.remedy}", warning=True)
    except NinefoldError:
        # The mark is a courtesy; why the version isn't ready is what has to be told.
        return


def _require_remote(version: ModelVersion) -> None:
    if not is_remote(version.uri):
        raise ConfigurationError(
            f"Version {version.version} of {version.use_case} lies at {version.uri}, which no pod can load.",
            remedy="Set NINEFOLD_MODELS_URL to a folder in an object store (s3://bucket/models), and release it again.",
        )
