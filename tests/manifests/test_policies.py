"""Each rule of the house finds the fault that is planted in an overlay that keeps them all."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from manifests.check.policies import judge

LABELS = {"app.kubernetes.io/name": "app", "app.kubernetes.io/part-of": "ninefold"}
Documents = list[dict[str, Any]]


def _object(api_version: str, kind: str, name: str, **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ninefold", "labels": dict(LABELS)}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **more}


def sound() -> Documents:
    """A small overlay in which everything is right."""
    probe = {"httpGet": {"path": "/healthz", "port": "http"}}
    container = {
        "name": "app",
        "image": "registry.example.com/app:1.0",
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": "STORE", "valueFrom": {"secretKeyRef": {"name": "ninefold-store", "key": "url"}}}],
        "readinessProbe": probe,
        "livenessProbe": probe,
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "serviceAccountName": "app",
        "automountServiceAccountToken": True,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [{"maxSkew": 1}],
        "containers": [container],
        "volumes": [],
    }
    selector = {"matchLabels": {"app.kubernetes.io/name": "app"}}
    template = {"metadata": {"labels": dict(LABELS)}, "spec": pod}
    namespace = _object("v1", "Namespace", "ninefold")
    namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "restricted"
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "app"}
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"}
    port = {"name": "http", "port": 8080, "targetPort": "http"}
    return [
        namespace,
        _object("networking.k8s.io/v1", "NetworkPolicy", "deny", spec={
            "podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        _object("v1", "ServiceAccount", "app"),
        _object("rbac.authorization.k8s.io/v1", "Role", "app", rules=rules),
        _object("rbac.authorization.k8s.io/v1", "RoleBinding", "app", roleRef=role, subjects=[
            {"kind": "ServiceAccount", "name": "app", "namespace": "ninefold"}]),
        _object("v1", "Service", "app", spec={"selector": selector["matchLabels"], "ports": [port]}),
        _object("apps/v1", "Deployment", "app", spec={"selector": selector, "template": template}),
        _object("policy/v1", "PodDisruptionBudget", "app", spec={"maxUnavailable": 1, "selector": selector}),
        _object("autoscaling/v2", "HorizontalPodAutoscaler", "app", spec={"scaleTargetRef": target}),
        _object("gateway.networking.k8s.io/v1", "HTTPRoute", "app", spec={
            "rules": [{"backendRefs": [{"name": "app", "port": 8080}]}]}),
        _object("v1", "ConfigMap", "settings", data={"NINEFOLD_ENVIRONMENT": "cluster"}),
    ]  # fmt: skip


def test_what_keeps_all_rules_is_found_to() -> None:
    assert judge(sound()) == []


def _get(documents: Documents, kind: str) -> dict[str, Any]:
    return next(document for document in documents if document["kind"] == kind)


def _pod(documents: Documents) -> dict[str, Any]:
    return _get(documents, "Deployment")["spec"]["template"]["spec"]


def _container(documents: Documents) -> dict[str, Any]:
    return _pod(documents)["containers"][0]


def _without(kind: str) -> Callable[[Documents], None]:
    return lambda documents: documents.remove(_get(documents, kind))


def _set(where: Callable[[Documents], dict[str, Any]], key: str, value: Any) -> Callable[[Documents], None]:
    return lambda documents: where(documents).update({key: value})


def _weighted(documents: Documents) -> None:
    backends = [{"name": "app", "port": 8080, "weight": weight} for weight in (90, 10)]
    _get(documents, "HTTPRoute")["spec"]["rules"][0]["backendRefs"] = backends


def _secret(documents: Documents) -> None:
    documents.append(_object("v1", "Secret", "mine", data={"password": "c2VjcmV0"}))


def _version(documents: Documents) -> None:
    documents.append(_object("serving.kserve.io/v1beta1", "InferenceService", "arrivals-v7", spec={}))


def _unlabelled(documents: Documents) -> None:
    del _get(documents, "Service")["metadata"]["labels"]["app.kubernetes.io/part-of"]


def _pod_unlabelled(documents: Documents) -> None:
    del _get(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/part-of"]


def _open_namespace(documents: Documents) -> None:
    _get(documents, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "baseline"


def _second_app(documents: Documents) -> None:
    second = copy.deepcopy(_get(documents, "Deployment"))
    second["metadata"]["name"] = "second"
    second["spec"]["replicas"] = 1
    documents.append(second)


FAULTS: dict[str, tuple[str, Callable[[Documents], None]]] = {
    "root": ("non-root", lambda d: _pod(d)["securityContext"].pop("runAsNonRoot")),
    "user 0": ("non-root", lambda d: _pod(d)["securityContext"].update(runAsUser=0)),
    "writable root": ("read-only-root", lambda d: _container(d)["securityContext"].pop("readOnlyRootFilesystem")),
    "escalation": ("no-privileges", lambda d: _container(d)["securityContext"].pop("allowPrivilegeEscalation")),
    "capabilities": ("no-privileges", lambda d: _container(d)["securityContext"]["capabilities"].update(add=["CHOWN"])),
    "host network": ("no-privileges", _set(_pod, "hostNetwork", True)),
    "host path": ("no-privileges", _set(_pod, "volumes", [{"name": "node", "hostPath": {"path": "/"}}])),
    "seccomp": ("seccomp", lambda d: _pod(d)["securityContext"].pop("seccompProfile")),
    "limits": ("resources", lambda d: _container(d)["resources"].pop("limits")),
    "requests": ("resources", lambda d: _container(d)["resources"]["requests"].pop("memory")),
    "latest": ("pinned-image", _set(_container, "image", "app:latest")),
    "no tag": ("pinned-image", _set(_container, "image", "registry.example.com:5000/app")),
    "readiness": ("probes", lambda d: _container(d).pop("readinessProbe")),
    "liveness": ("probes", lambda d: _container(d).pop("livenessProbe")),
    "probe's port": ("probes", _set(_container, "livenessProbe", {"httpGet": {"path": "/", "port": 9999}})),
    "default account": ("service-account", lambda d: _pod(d).pop("serviceAccountName")),
    "shared account": ("service-account", _second_app),
    "idle token": ("service-account", _without("RoleBinding")),
    "no token": ("service-account", _set(_pod, "automountServiceAccountToken", False)),
    "no budget": ("disruption-budget", _without("PodDisruptionBudget")),
    "not spread": ("spread", lambda d: _pod(d).pop("topologySpreadConstraints")),
    "replicas twice": ("autoscaling", lambda d: _get(d, "Deployment")["spec"].update(replicas=3)),
    "scales nothing": ("autoscaling", lambda d: _get(d, "Deployment")["metadata"].update(name="other")),
    "no label": ("labels", _unlabelled),
    "pod without label": ("labels", _pod_unlabelled),
    "a version": ("no-versions", _version),
    "a weighted route": ("no-weights", _weighted),
    "route to nowhere": ("references", lambda d: _get(d, "Service")["spec"]["ports"][0].update(port=9)),
    "pod security": ("pod-security", _open_namespace),
    "no default deny": ("default-deny", _without("NetworkPolicy")),
    "half a default deny": ("default-deny", lambda d: _get(d, "NetworkPolicy")["spec"].update(policyTypes=["Ingress"])),
    "hole in default deny": ("default-deny", lambda d: _get(d, "NetworkPolicy")["spec"].update(egress=[{}])),
    "wildcard": ("rights", lambda d: _get(d, "Role")["rules"][0].update(verbs=["*"])),
    "cluster-wide": ("rights", lambda d: _get(d, "Role").update(kind="ClusterRole")),
    "unknown subject": ("references", lambda d: _get(d, "RoleBinding")["subjects"][0].update(name="nobody")),
    "a secret": ("secret-in-clear", _secret),
    "a secret in the environment": ("secret-in-clear", _set(_container, "env", [{"name": "PASSWORD", "value": "x"}])),
    "a secret in settings": ("secret-in-clear", lambda d: _get(d, "ConfigMap")["data"].update(MODEL_KEY="nf_x")),
    "credentials in a URL": ("secret-in-clear", _set(_container, "args", ["--store=postgresql://u:p@db/x"])),
    "unknown secret": ("references", lambda d: _container(d)["env"][0]["valueFrom"]["secretKeyRef"].update(name="x")),
    "selects nothing": ("references", lambda d: _get(d, "Service")["spec"].update(selector={"app": "other"})),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_rule(fault: str) -> None:
    rule, plant = FAULTS[fault]
    documents = sound()
    plant(documents)
    assert rule in {finding.rule for finding in judge(documents)}


def test_a_switch_about_secrets_is_no_secret() -> None:
    documents = sound()
    _container(documents)["env"].append({"name": "ENABLE_API_TOKEN", "value": "true"})
    assert judge(documents) == []


def test_a_secret_that_a_generator_makes_from_files_is_not_in_clear() -> None:
    documents = sound()
    _secret(documents)
    assert judge(documents, frozenset({"mine"})) == []
