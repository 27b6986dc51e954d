"""Rules for what holds a namespace together: who reaches whom, who may do what, where secrets are, who owns routes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from manifests.check.findings import Document, Finding, name, namespace, of_kind, pods, selects, thing

SECRETS = frozenset(
    {"ninefold-store", "ninefold-online", "ninefold-keys", "ninefold-inner", "ninefold-s3", "ninefold-label-studio"}
)
"""Secrets that production brings along, by name (docs/kubernetes.md)."""

_CREDENTIALS = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/@:]*:[^\s/@$]+@|-----BEGIN [A-Z ]*PRIVATE KEY-----")
_SECRET_NAME = re.compile(r"(PASSWORD|SECRET|TOKEN|CREDENTIAL|(API|ACCESS|MODEL)_?KEY)", re.IGNORECASE)
_SECRET_FILES = re.compile(r"(_FILE|_PATH|_NAME|_MODE|SECRET_?NAME)$", re.IGNORECASE)
_SWITCH = {"true", "false"}


def routes(documents: Sequence[Document]) -> Iterator[Finding]:
    """A version and the split between versions are the controller's, never kustomize's."""
    services = {name(service): service for service in of_kind(documents, "Service")}
    for document in of_kind(documents, "InferenceService"):
        message = "is a version's: the releaser and the controller own those, so no overlay may hold one"
        yield Finding(thing=thing(document), rule="no-versions", message=message)
    for route in of_kind(documents, "HTTPRoute"):
        for rule in route["spec"].get("rules") or ():
            backends = rule.get("backendRefs") or ()
            if len(backends) > 1 or any("weight" in backend for backend in backends):
                message = "splits traffic by weight: rules are one atomic list, and the controller owns it"
                yield Finding(thing=thing(route), rule="no-weights", message=message)
            for backend in backends:
                service = services.get(backend["name"])
                if service is None or backend.get("port") not in {port["port"] for port in service["spec"]["ports"]}:
                    message = f"leads to {backend['name']}:{backend.get('port')}, which no Service here has"
                    yield Finding(thing=thing(route), rule="references", message=message)


def isolation(documents: Sequence[Document]) -> Iterator[Finding]:
    """Every namespace of ours is under restricted Pod Security, and denies all traffic that is not allowed."""
    policies = of_kind(documents, "NetworkPolicy")
    for owned in of_kind(documents, "Namespace"):
        enforced = (owned["metadata"].get("labels") or {}).get("pod-security.kubernetes.io/enforce")
        if enforced != "restricted":
            yield Finding(thing=thing(owned), rule="pod-security", message=f"enforces {enforced!r}, not restricted")
        if not any(namespace(policy) == name(owned) and _denies_all(policy["spec"]) for policy in policies):
            message = "has no NetworkPolicy that denies everything in both directions (component network-policies)"
            yield Finding(thing=thing(owned), rule="default-deny", message=message)


def _denies_all(spec: Any) -> bool:
    both = set(spec.get("policyTypes") or ()) == {"Ingress", "Egress"}
    return both and not spec["podSelector"] and not spec.get("ingress") and not spec.get("egress")


def rights(documents: Sequence[Document]) -> Iterator[Finding]:
    """Roles name what they allow, within a namespace, and are bound to accounts that are there."""
    accounts = {(namespace(account), name(account)) for account in of_kind(documents, "ServiceAccount")}
    for role in of_kind(documents, "Role", "ClusterRole"):
        for rule in role.get("rules") or ():
            for field in ("apiGroups", "resources", "verbs"):
                if "*" in (rule.get(field) or ()):
                    yield Finding(thing=thing(role), rule="rights", message=f"{field} holds '*': name them")
            for verb in ("escalate", "bind", "impersonate"):
                if verb in rule.get("verbs", ()):
                    yield Finding(thing=thing(role), rule="rights", message=f"allows {verb}")
    for role in of_kind(documents, "ClusterRole", "ClusterRoleBinding"):
        yield Finding(thing=thing(role), rule="rights", message="reaches beyond the namespace: use a Role")
    for binding in of_kind(documents, "RoleBinding"):
        for subject in binding.get("subjects") or ():
            at = subject.get("namespace", namespace(binding)), subject["name"]
            if subject["kind"] == "ServiceAccount" and at not in accounts:
                message = f"names service account {at[0]}/{at[1]}, which is not there"
                yield Finding(thing=thing(binding), rule="references", message=message)


def secrets(documents: Sequence[Document], generated: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """No secret stands in clear: in a Secret that no generator made from files, in an environment, or in a text.

    Args:
        documents: The objects.
        generated: Names of Secrets that generators make from files outside of the repository.
    """
    for document in documents:
        if document["kind"] == "Secret":
            if (document.get("data") or document.get("stringData")) and name(document) not in generated:
                message = "holds its values: make it from files that are in no repository, or name an existing one"
                yield Finding(thing=thing(document), rule="secret-in-clear", message=message)
            continue
        for path, text in _texts(document, ""):
            if _CREDENTIALS.search(text):
                yield Finding(thing=thing(document), rule="secret-in-clear", message=f"{path} holds credentials")
        for setting in _settings(document):
            message = f"{setting} has its value in clear: take it from a Secret"
            yield Finding(thing=thing(document), rule="secret-in-clear", message=message)


def _settings(document: Document) -> Iterator[str]:
    pairs = list((document.get("data") or {}).items()) if document["kind"] == "ConfigMap" else []
    for made in pods([document]):
        for container in made.containers:
            pairs += [(entry["name"], entry["value"]) for entry in container.get("env") or () if "value" in entry]
    for key, value in pairs:
        if value and value not in _SWITCH and _SECRET_NAME.search(key) and not _SECRET_FILES.search(key):
            yield key


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path.lstrip("."), value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from _texts(member, f"{path}.{key}")
    elif isinstance(value, list):
        for place, member in enumerate(value):
            yield from _texts(member, f"{path}[{place}]")


def references(documents: Sequence[Document]) -> Iterator[Finding]:
    """What an object names is there: Secrets, ConfigMaps, a Service's pods, the pods of a budget."""
    there = {(document["kind"], name(document)) for document in documents}
    made_pods = list(pods(documents))
    for made in made_pods:
        for kind, wanted in _used(made.spec):
            if (kind, wanted) not in there and not (kind == "Secret" and wanted in SECRETS):
                message = f"uses {kind}/{wanted}, which is neither here nor among those that production brings"
                yield Finding(thing=thing(made.owner), rule="references", message=message)
    for document in of_kind(documents, "Service", "PodDisruptionBudget"):
        selector = document["spec"].get("selector")
        labels = {"matchLabels": selector} if document["kind"] == "Service" else selector
        if selector and not any(selects(labels, made.labels) for made in made_pods):
            yield Finding(thing=thing(document), rule="references", message=f"selects no pods: {selector}")


def _used(spec: Any) -> Iterator[tuple[str, str]]:
    for volume in spec.get("volumes") or ():
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        sources = list(container.get("envFrom") or ())
        sources += [entry["valueFrom"] for entry in container.get("env") or () if "valueFrom" in entry]
        for source in sources:
            for field, kind in _SOURCES.items():
                if field in source and not source[field].get("optional"):
                    yield kind, source[field]["name"]


_SOURCES = {
    "secretRef": "Secret",
    "secretKeyRef": "Secret",
    "configMapRef": "ConfigMap",
    "configMapKeyRef": "ConfigMap",
}
