"""What the cluster says of routes, in words: that no gateway takes one, or that somebody changed it by hand. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from serving.traffic.mirror import PREFIX

Standing = Literal["taken", "waiting", "refused"]
_BRINGS = {
    "BackendNotFound": "KServe makes it when the version's InferenceService is ready",
    "NoMatchingParent": "the Gateway has no such listener",
    "NotAllowedByListeners": "the Gateway's listener admits no routes of this namespace",
}


@dataclass(frozen=True, slots=True)
class Taken:
    """Whether a gateway routes by a document.

    Args:
        standing: ``taken``: the gateway has it as it is now; ``waiting``: it has not looked yet; ``refused``: it won't.
        words: Why, where it is not taken.
    """

    standing: Standing
    words: str = ""


def taken(route: Mapping[str, Any]) -> Taken:
    """Whether every Gateway that a route hangs on has taken it as it is now.

    Args:
        route: The HTTPRoute, as the API server gave it.
    """
    metadata = route["metadata"]
    what = f"HTTPRoute {metadata['name']} in namespace {metadata['namespace']}"
    statuses = (route.get("status") or {}).get("parents") or []
    for parent in route["spec"].get("parentRefs") or []:
        named = parent["name"]
        found = next((s for s in statuses if s.get("parentRef", {}).get("name") == named), None)
        conditions = {c["type"]: c for c in (found or {}).get("conditions") or []}
        if not conditions:
            return Taken("waiting", f"{what} is taken by no controller of the Gateway {named} yet.")
        for kind in ("Accepted", "ResolvedRefs"):
            condition = conditions.get(kind)
            if condition is None or condition.get("observedGeneration", 0) < metadata.get("generation", 0):
                return Taken("waiting", f"{what}: the Gateway {named} has not looked at its newest rules yet.")
            if condition["status"] != "True":
                reason = condition.get("reason", "")
                said = str(condition.get("message") or reason).rstrip(".")
                because = f" ({_BRINGS[reason]})" if reason in _BRINGS else ""
                return Taken("refused", f"{what} is not taken by the Gateway {named}: {reason}: {said}{because}.")
    return Taken("taken")


def gateway_trouble(gateway: Mapping[str, Any] | None, name: str, namespace: str) -> str:
    """Why a Gateway takes no routes; empty where it does, or where it does not say why not."""
    if gateway is None:
        return (
            f"There is no Gateway {name} in namespace {namespace}. Apply the gateway's manifests: kubectl apply -k"
            " manifests/overlays/…"
        )
    for condition in (gateway.get("status") or {}).get("conditions") or []:
        if condition["type"] in ("Accepted", "Programmed") and condition["status"] != "True":
            said = str(condition.get("message") or condition.get("reason", "")).rstrip(".")
            return (
                f"Gateway {name} in namespace {namespace} is not {condition['type']}: {condition.get('reason')}:"
                f" {said}. Look with: kubectl describe gateway {name} -n {namespace}"
            )
    return ""


def edited(route: Mapping[str, Any], manager: str) -> str:
    """Who changed by hand what a controller sets in a route; empty where nobody did.

    Args:
        route: The HTTPRoute, as the API server gave it.
        manager: The controller's field manager.
    """
    metadata = route["metadata"]
    by = {
        str(entry.get("manager")): sorted(_set_here(entry.get("fieldsV1") or {}))
        for entry in metadata.get("managedFields") or []
        if entry.get("manager") != manager and not entry.get("subresource")
    }
    said = [f"{who} set {', '.join(fields)}" for who, fields in sorted(by.items()) if fields]
    if not said:
        return ""
    name, namespace = metadata["name"], metadata["namespace"]
    return (
        f"HTTPRoute {name} in namespace {namespace} was changed by hand: {'; '.join(said)}. It is left as it is, and"
        f" rollouts are held. Give it back with: kubectl delete httproute {name} -n {namespace} (it is made anew within"
        " seconds)."
    )


def _set_here(fields: Mapping[str, Any]) -> Iterator[str]:
    """Which of the fields that a controller sets are among these."""
    for part in fields.get("f:spec") or {}:
        yield f"spec.{part.removeprefix('f:')}"
    for name in (fields.get("f:metadata") or {}).get("f:annotations") or {}:
        if name.startswith(f"f:{PREFIX}"):
            yield f"annotation {name.removeprefix('f:')}"


def holds(found: Any, wanted: Any) -> bool:
    """Whether a value of the cluster is what was set: the server adds defaults to objects, and nothing to lists."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(holds(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return (
            isinstance(found, Sequence)
            and len(found) == len(wanted)
            and all(holds(a, b) for a, b in zip(found, wanted, strict=True))
        )
    return bool(found == wanted)
