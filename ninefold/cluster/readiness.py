"""Whether a version's model server is ready, and if not, why: read off the objects that Kubernetes and KServe keep.

The most concrete reason wins: a pod's container, then the Deployment, then what KServe says. All of it is a function of
documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ninefold.cluster.inference_service import MODE_ANNOTATION, STANDARD, digest_of

Document = Mapping[str, Any]

_STANDARD = (STANDARD, "RawDeployment")
"""Names of the mode, the second one of older releases of KServe."""

_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"})
_NEVER = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_NO_RUNTIME = frozenset({"NoSupportingRuntime", "RuntimeNotRecognized", "RuntimeDisabled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """How a version's model server does.

    Args:
        ready: Whether it serves the package that it should.
        hopeless: Whether waiting can't help.
        condition: What is wrong, naming the resource; empty when ready.
        remedy: What to do about it.
    """

    ready: bool
    hopeless: bool = False
    condition: str = ""
    remedy: str = ""


READY = Readiness(ready=True)


def is_ready(service: Document) -> bool:
    """Whether an InferenceService says that it is ready, in the mode in which versions have addresses of their own."""
    return _condition(service, "Ready").get("status") == "True" and _mode(service) in _STANDARD and not _going(service)


def readiness(
    service: Document | None, *, name: str, digest: str, deployment: Document | None, pods: Sequence[Document]
) -> Readiness:
    """How a version's model server does.

    Args:
        service: Its InferenceService; None when there is none.
        name: The InferenceService's name.
        digest: The digest of the package that it has to serve.
        deployment: The predictor's Deployment; None where there is none, or it can't be looked at.
        pods: The InferenceService's pods.
    """
    what = f"InferenceService {name}"
    if service is None or _going(service):
        return Readiness(
            ready=False, hopeless=True, condition=f"{what} was deleted while it was waited for.",
            remedy="Look who did it, and release the version again.",
        )  # fmt: skip
    if (mode := _mode(service)) not in _STANDARD:
        return Readiness(
            ready=False,
            hopeless=True,
            condition=f"{what} runs in KServe's mode {mode}, where versions have no address of their own; it has to be "
            f"{STANDARD}.",
            remedy="Install KServe in Standard mode with the Gateway API, or set NINEFOLD_CLUSTER__ROUTES=knative; an "
            "InferenceService keeps its mode, so delete this one.",
        )
    current = deployment is None or _is_rolled_out(deployment, digest)
    if is_ready(service) and digest_of(service) == digest and current:
        return READY
    found = (
        _of_pods([pod for pod in pods if not _going(pod) and _loads(pod, digest)])
        or (_of_deployment(deployment) if deployment is not None else None)
        or _of_service(service, what)
    )
    return found or Readiness(
        ready=False, condition=f"{what} is not ready yet: its pods start.",
        remedy=f"Look at it: kubectl describe inferenceservice {name}",
    )  # fmt: skip


def _of_pods(pods: Sequence[Document]) -> Readiness | None:
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status") or {}
        for container in _containers(status):
            found = _of_container(name, container)
            if found is not None:
                return found
        for condition in status.get("conditions") or []:
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                return Readiness(
                    ready=False, condition=f"Pod {name} has no node: {_said(condition)}.",
                    remedy="Make room: retire versions that nobody needs (ninefold release retire), or add a node.",
                )  # fmt: skip
    return None


def _of_container(pod: str, container: Document) -> Readiness | None:
    state = container.get("state") or {}
    waiting, name = state.get("waiting") or {}, container.get("name", "")
    reason = str(waiting.get("reason", ""))
    if reason in _PULL:
        return Readiness(
            ready=False,
            hopeless=reason in _NEVER,
            condition=f"Pod {pod} can't pull the image {container.get('image', '')}: {reason}: {_message(waiting)}.",
            remedy="Push or load the image, correct its name in the ServingRuntime, or give the service account its "
            "imagePullSecrets.",
        )
    if reason.startswith("CreateContainer"):
        return Readiness(
            ready=False, condition=f"Container {name} of pod {pod} can't be made: {reason}: {_message(waiting)}.",
            remedy="Make the Secret or ConfigMap that it names: see manifests/base/models.",
        )  # fmt: skip
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    if container.get("ready") or not ended or ended.get("exitCode") == 0:
        return None
    if ended.get("reason") == "OOMKilled":
        return Readiness(
            ready=False, condition=f"Container {name} of pod {pod} was killed: it needs more memory than its limit.",
            remedy="Raise the memory limit in the ServingRuntime, or in this InferenceService.",
        )  # fmt: skip
    return Readiness(
        ready=False,
        condition=f"Container {name} of pod {pod} ended with exit code {ended.get('exitCode')}: {_message(ended)}.",
        remedy="Where it loads the package: check the Secret ninefold-s3 and the package's digest. "
        f"All it said: kubectl logs {pod} -c {name} --previous",
    )


def _of_deployment(deployment: Document) -> Readiness | None:
    name = deployment["metadata"]["name"]
    failure = _condition(deployment, "ReplicaFailure")
    if failure.get("status") == "True":
        return Readiness(
            ready=False,
            condition=f"Deployment {name} can't make pods: {_said(failure)}.",
            remedy=_remedy_of_no_pods(_message(failure)),
        )
    progressing = _condition(deployment, "Progressing")
    if progressing.get("status") == "False":
        return Readiness(
            ready=False, condition=f"Deployment {name} makes no progress: {_said(progressing)}.",
            remedy=f"Look at it: kubectl describe deployment {name}",
        )  # fmt: skip
    return None


def _remedy_of_no_pods(said: str) -> str:
    if "exceeded quota" in said:
        return "Retire versions that nobody needs (ninefold release retire), or raise the ResourceQuota."
    if "violates PodSecurity" in said and '"storage-initializer"' in said:
        return (
            "Give KServe's storage initializer its security context: kubectl patch clusterstoragecontainer default "
            "--type merge --patch-file manifests/cluster/storage-initializer.yaml"
        )
    return "Look at it: kubectl describe replicasets; a policy of the namespace may refuse its pods."


def _of_service(service: Document, what: str) -> Readiness | None:
    name, status = service["metadata"]["name"], service.get("status") or {}
    look = f"Look at it: kubectl describe inferenceservice {name}"
    if not status.get("conditions"):
        return Readiness(
            ready=False, condition=f"{what} has no status: KServe's controller has not looked at it.",
            remedy="Look whether the controller runs: kubectl get pods --namespace kserve",
        )  # fmt: skip
    failure = (status.get("modelStatus") or {}).get("lastFailureInfo") or {}
    if failure.get("reason") in _NO_RUNTIME:
        return Readiness(
            ready=False,
            hopeless=True,
            condition=f"{what} names a ServingRuntime that can't be used: {failure['reason']}: {_message(failure)}.",
            remedy="Apply the runtimes: kubectl apply -k manifests/base/models",
        )
    if failure.get("reason"):
        return Readiness(
            ready=False, condition=f"{what}: {failure['reason']}: {_message(failure)}.", remedy=look
        )  # fmt: skip
    ingress = _condition(service, "IngressReady")
    if ingress.get("status") == "False":
        return Readiness(
            ready=False,
            condition=f"{what} has no route: IngressReady is False: {_said(ingress)}.",
            remedy="In KServe's ConfigMap inferenceservice-config name a Gateway that exists "
            "(ingress.kserveIngressGateway), or switch its routes off (ingress.disableIngressCreation): Ninefold has "
            "its own.",
        )
    for condition in status["conditions"]:
        if condition.get("status") == "False" and condition.get("severity", "") != "Info":
            return Readiness(
                ready=False, condition=f"{what}: {condition.get('type')} is False: {_said(condition)}.", remedy=look
            )
    return None


def _is_rolled_out(deployment: Document, digest: str) -> bool:
    """Whether every pod of a Deployment is one that loads the package."""
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    if not _loads(spec.get("template") or {}, digest):
        return False
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    wanted = spec.get("replicas", 1)
    return bool(seen and status.get("updatedReplicas", 0) >= wanted and status.get("availableReplicas", 0) >= wanted)


def _loads(pod: Document, digest: str) -> bool:
    """Whether a pod, or a template of one, is told the digest; one that is told none may be anybody's."""
    told = {
        str(variable.get("value"))
        for container in (pod.get("spec") or {}).get("containers") or []
        for variable in container.get("env") or []
        if variable.get("name") == "NINEFOLD_MODEL_DIGEST"
    }
    return not told or digest in told


def _mode(service: Document) -> str:
    """The mode as KServe resolved it, else as it is asked for."""
    annotations = service["metadata"].get("annotations") or {}
    return str((service.get("status") or {}).get("deploymentMode") or annotations.get(MODE_ANNOTATION, ""))


def _going(document: Document) -> bool:
    return "deletionTimestamp" in document["metadata"]


def _containers(status: Document) -> Iterator[Document]:
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def _condition(document: Document, kind: str) -> Document:
    conditions = (document.get("status") or {}).get("conditions") or []
    found: Document = next((one for one in conditions if one.get("type") == kind), {})
    return found


def _said(condition: Document) -> str:
    return ": ".join(part for part in (str(condition.get("reason") or ""), _message(condition)) if part) or "no reason"


def _message(part: Document) -> str:
    return " ".join(str(part.get("message") or "").split()).rstrip(".")[:600] or "it says no more"
