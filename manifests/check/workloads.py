"""Rules for what runs: as whom, with which rights and bounds, from which image, and how one sees that it is well."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from manifests.check.findings import Document, Finding, Pods, labels, name, namespace, of_kind, pods, selects, thing

_TAG = re.compile(r"[^/]+:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]*)$")


def containers(documents: Sequence[Document]) -> Iterator[Finding]:
    """Non-root, on a read-only root, without rights, with requests and limits, from an image that is pinned."""
    for made in pods(documents):
        for container in made.containers:
            for rule, message in _container(made, container):
                yield Finding(
                    thing=thing(made.owner), rule=rule, message=f"container {container.get('name')!r} {message}"
                )


def _container(made: Pods, container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    of_pod = made.spec.get("securityContext") or {}
    own = container.get("securityContext") or {}
    context = {**of_pod, **own}
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield "non-root", "may run as root: set runAsNonRoot and a runAsUser that is not 0"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "read-only-root", "can write its root file system: set readOnlyRootFilesystem and mount what it writes"
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield "no-privileges", "may gain privileges: set allowPrivilegeEscalation to false"
    added = own.get("capabilities") or {}
    if added.get("drop") != ["ALL"] or added.get("add"):
        yield "no-privileges", "keeps capabilities: drop ALL"
    if (context.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
        yield "seccomp", "has no seccompProfile RuntimeDefault"
    resources = container.get("resources") or {}
    for kind in ("requests", "limits"):
        if missing := {"cpu", "memory"} - set(resources.get(kind) or ()):
            yield "resources", f"has no {kind} of {' and '.join(sorted(missing))}"
    image = str(container.get("image", ""))
    tag = _TAG.search(image)
    if "@sha256:" not in image and (tag is None or tag["tag"] == "latest"):
        yield "pinned-image", f"has the image {image!r}: name a version, not latest"
    if made.lasting and container in made.spec["containers"]:
        for probe in ("readinessProbe", "livenessProbe"):
            if probe not in container:
                yield "probes", f"has no {probe}"
    ports = {port.get("name") for port in container.get("ports") or ()}
    numbers = {port["containerPort"] for port in container.get("ports") or ()}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        port = (container.get(probe, {}).get("httpGet") or {}).get("port")
        if port is not None and port not in ports | numbers:
            yield "probes", f"is asked at port {port!r}, which is none of its ports"


def pod_specs(documents: Sequence[Document]) -> Iterator[Finding]:
    """Nothing of the node, a service account of its own, and its token only where it is used."""
    accounts = {name(account) for account in of_kind(documents, "ServiceAccount")}
    bound = {
        subject["name"] for binding in of_kind(documents, "RoleBinding") for subject in binding.get("subjects") or ()
    }
    users: dict[str, set[str]] = defaultdict(set)
    for made in pods(documents):
        if made.served:
            continue
        owner, spec = thing(made.owner), made.spec
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(field):
                yield Finding(thing=owner, rule="no-privileges", message=f"{field} is set")
        for volume in spec.get("volumes") or ():
            if "hostPath" in volume:
                yield Finding(thing=owner, rule="no-privileges", message=f"volume {volume['name']!r} is the node's own")
        account = spec.get("serviceAccountName", "default")
        if account == "default" or account not in accounts:
            yield Finding(
                thing=owner, rule="service-account", message=f"runs as service account {account!r}: give it its own"
            )
        users[account].add(owner)
        mounted = spec.get("automountServiceAccountToken", True)
        if mounted is not (account in bound):
            wanted = "has a role and no token" if account in bound else "gets a token that it has no use for"
            yield Finding(thing=owner, rule="service-account", message=f"{wanted}: set automountServiceAccountToken")
    for account, owners in users.items():
        if len(owners) > 1:
            message = f"is shared by {', '.join(sorted(owners))}: one account an app"
            yield Finding(thing=f"ServiceAccount/{account}", rule="service-account", message=message)


def availability(documents: Sequence[Document]) -> Iterator[Finding]:
    """What has replicas has a PodDisruptionBudget and is spread; what is scaled has no number of its own."""
    budgets = of_kind(documents, "PodDisruptionBudget")
    scaled: dict[tuple[str, str], Document] = {}
    for found in of_kind(documents, "HorizontalPodAutoscaler"):
        target = found["spec"]["scaleTargetRef"]
        scaled[target["kind"], target["name"]] = found
    workloads = of_kind(documents, "Deployment", "StatefulSet")
    for workload in workloads:
        spec = workload["spec"]
        scaler = scaled.get((workload["kind"], name(workload)))
        if scaler is None and spec.get("replicas", 1) < 2:
            continue
        template = spec["template"]
        if not any(
            namespace(budget) == namespace(workload)
            and selects(budget["spec"]["selector"], template["metadata"]["labels"])
            for budget in budgets
        ):
            yield Finding(
                thing=thing(workload), rule="disruption-budget", message="has replicas and no PodDisruptionBudget"
            )
        if not template["spec"].get("topologySpreadConstraints"):
            yield Finding(thing=thing(workload), rule="spread", message="has replicas and no topologySpreadConstraints")
        if scaler is not None and "replicas" in spec:
            message = "sets replicas, which its HorizontalPodAutoscaler sets: leave them out"
            yield Finding(thing=thing(workload), rule="autoscaling", message=message)
    there = {(workload["kind"], name(workload)) for workload in workloads}
    for at, found in scaled.items():
        if at not in there:
            message = f"scales {'/'.join(at)}, which is not there"
            yield Finding(thing=thing(found), rule="autoscaling", message=message)


def labelled(documents: Sequence[Document]) -> Iterator[Finding]:
    """Every object, and every pod, says what it is and that it is Ninefold's."""
    for document in documents:
        for key in _LABELS - set(labels(document)):
            yield Finding(thing=thing(document), rule="labels", message=f"has no label {key}")
    for made in pods(documents):
        for key in _LABELS - set(made.labels):
            yield Finding(thing=thing(made.owner), rule="labels", message=f"its pods have no label {key}")


_LABELS = {"app.kubernetes.io/name", "app.kubernetes.io/part-of"}
