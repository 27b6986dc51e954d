"""A training run on the cluster: through Kubeflow Pipelines where they are, else the same command in one Job."""

from __future__ import annotations

import json
from typing import Any

from images_on_cluster import ours
from kubectl import kubectl, read, wait_until

NEEDS = ("store", "online", "s3", "kubernetes")


def has_kfp() -> bool:
    """Whether Kubeflow Pipelines' API server is on the cluster."""
    return read("--namespace", "kubeflow", "service", "ml-pipeline") is not None


def run_as_job(name: str, arguments: list[str], namespace: str, seconds: float = 1200) -> str:
    """Runs Python with arguments in a Job of the pipeline image, and returns its log.

    Raises:
        AssertionError: It failed; the error holds the end of its log.
    """
    kubectl("--namespace", namespace, "delete", "job", name, "--ignore-not-found", "--wait=true")
    kubectl("apply", "--filename=-", given=json.dumps(_job(name, arguments, namespace)))

    def over() -> str | None:
        conditions = read("--namespace", namespace, "job", name).get("status", {}).get("conditions") or []
        return next(
            (c["type"] for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None
        )

    end = wait_until(f"job {name} ends", over, seconds, pause=2.0)
    log = kubectl("--namespace", namespace, "logs", f"job/{name}", "--tail=400", check=False)
    assert end == "Complete", f"Job {name} failed:\n{log[-4000:]}"
    return log


def run_script(name: str, script: str, namespace: str) -> str:
    """Runs a script as ``run_as_job`` does."""
    return run_as_job(name, ["-c", script], namespace, seconds=300)


def _job(name: str, arguments: list[str], namespace: str) -> dict[str, Any]:
    def secret(variable: str, secret_name: str, key: str) -> dict[str, Any]:
        return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret_name, "key": key}}}

    labels = {"app.kubernetes.io/part-of": "ninefold", **{f"ninefold.dev/{need}": "true" for need in NEEDS}}
    container = {
        "name": "ninefold",
        "image": ours("pipeline"),
        "imagePullPolicy": "IfNotPresent",
        "args": arguments,
        "envFrom": [{"configMapRef": {"name": "ninefold"}}, {"secretRef": {"name": "ninefold-s3"}}],
        "env": [
            secret("NINEFOLD_STORE_URL", "ninefold-store", "url"),
            secret("NINEFOLD_ONLINE_URL", "ninefold-online", "url"),
        ],
        "volumeMounts": [
            {"name": "home", "mountPath": "/var/lib/ninefold"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "keys", "mountPath": "/etc/ninefold", "readOnly": True},
        ],
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"cpu": "2", "memory": "4Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    hashes = {"secretName": "ninefold-keys", "items": [{"key": "keys.json", "path": "keys.json"}]}
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": "ninefold-pipeline",
        "containers": [container],
        "volumes": [
            {"name": "home", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "keys", "secret": hashes},
        ],
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }  # fmt: skip
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }
