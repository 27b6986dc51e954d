"""What the API server refuses, in words: the resource, the condition, the remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ninefold.cluster.connection import UNTYPED, Answer
from ninefold.errors import ClusterError, FieldConflict, ObjectChanged

_MANAGER = re.compile(r'conflict with "([^"]*)"')


def refusal(what: str, action: str, answer: Answer) -> ClusterError:
    """The error behind a refusal.

    Args:
        what: The resource: ``HTTPRoute arrivals in namespace ninefold``.
        action: What was to be done with it: ``applied``, ``read``, ``replaced``, …
        answer: What the API server said.
    """
    status, document = answer.status, answer.document
    said = str(document.get("message") or f"HTTP {status}").strip().rstrip(".")
    causes = _causes(document)
    if status == 409:
        managers = _managers(causes)
        if managers:
            return _conflict(what, managers)
        return ObjectChanged(f"{what} can't be {action}: {said}.", remedy="Read it again, and decide anew.")
    if "deploymentMode cannot be changed" in said:
        return ClusterError(
            f"{what} can't be {action}: it is there in another mode of KServe, and keeps it: {said}.",
            remedy="Delete it (kubectl delete inferenceservice), and release the version again.",
        )
    if status == 401:
        return ClusterError(
            f"{what} can't be {action}: the API server does not know who asks (HTTP 401).",
            remedy="Renew the credentials that KUBECONFIG names.",
        )
    if status == 403 and "exceeded quota" in said:
        return ClusterError(
            f"{what} can't be {action}: a quota of the namespace is used up: {said}.",
            remedy="Retire versions that nobody needs (ninefold release retire), or raise the ResourceQuota.",
        )
    if status == 403:
        return ClusterError(
            f"{what} can't be {action}: it is forbidden: {said}.",
            remedy="Give the service account that right: see the Role in manifests/.",
        )
    if status == 404:
        return ClusterError(
            f"{what} can't be {action}: {said}.",
            remedy="Make its namespace first: kubectl apply -k manifests/overlays/…",
        )
    if status in (400, 422) or UNTYPED in said:
        fields = "; ".join(f"{cause['field']}: {cause['message']}" for cause in causes if cause["field"])
        return ClusterError(
            f"{what} can't be {action}: it is not valid: {fields or said}.",
            remedy="Bring the cluster's definitions to the version that Ninefold is made for, or correct the field.",
        )
    return ClusterError(f"{what} can't be {action}: HTTP {status}: {said}.")


def missing_kind(api_version: str, kind: str) -> ClusterError:
    """The cluster has no such kind: its definition, or what brings it, is not installed."""
    return ClusterError(
        f"The cluster knows no {kind} of {api_version}: its CustomResourceDefinition is missing.",
        remedy=f"Install {_OWNERS.get(api_version.partition('/')[0], 'what brings it')}; docs/operations.md says how.",
    )


_OWNERS = {
    "serving.kserve.io": "KServe",
    "gateway.networking.k8s.io": "the Gateway API and Envoy Gateway",
    "gateway.envoyproxy.io": "Envoy Gateway",
    "pipelines.kubeflow.org": "Kubeflow Pipelines",
    "serving.knative.dev": "Knative Serving",
}


def _causes(document: Mapping[str, Any]) -> list[dict[str, str]]:
    details = document.get("details")
    found = details.get("causes") if isinstance(details, dict) else None
    return [
        {name: str(cause.get(name, "")) for name in ("reason", "message", "field")}
        for cause in found or []
        if isinstance(cause, dict)
    ]


def _managers(causes: list[dict[str, str]]) -> dict[str, tuple[str, ...]]:
    managers: dict[str, tuple[str, ...]] = {}
    for cause in causes:
        if cause["reason"] == "FieldManagerConflict":
            named = _MANAGER.search(cause["message"])
            name = named.group(1) if named else cause["message"]
            managers[name] = (*managers.get(name, ()), cause["field"])
    return managers


def _conflict(what: str, managers: Mapping[str, tuple[str, ...]]) -> FieldConflict:
    owned = "; ".join(f"{name} owns {', '.join(fields)}" for name, fields in managers.items())
    return FieldConflict(
        f"{what} was changed by somebody else: {owned}.",
        remedy="Give the fields up (kubectl apply --server-side without them, or delete the object), and Ninefold sets "
        "them again.",
        managers=managers,
    )
