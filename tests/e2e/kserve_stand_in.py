"""What KServe's controller makes of an InferenceService in Standard mode, for clusters that have no controller.

A Deployment and a Service ``<name>-predictor`` of the ServingRuntime and the model, the package fetched by an init
container, and the InferenceService's conditions. It is for tests alone, and they say when they use it.
"""

from __future__ import annotations

import copy
import json
import threading
from typing import Any

from kubectl import kubectl, read, read_all

_LOOK_SECONDS = 2.0
_MODELS = "model"
_OURS = "ninefold.dev/made-by=kserve-stand-in"

_FETCH = """
import os, shutil, sys
from pathlib import Path
from ninefold.package.remote import fetch_package
found = fetch_package(os.environ["URI"], os.environ["DIGEST"], Path("/tmp/fetched"))
for file in found.iterdir():
    shutil.copyfile(file, Path("/mnt/models") / file.name)
"""


class KServeStandIn:
    """Reconciles InferenceServices of one namespace in a thread.

    Args:
        namespace: Whose.
        image: Image with Ninefold's code, for the init container.
    """

    def __init__(self, namespace: str, image: str) -> None:
        self._namespace, self._image = namespace, image
        self._made: dict[str, tuple[str, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kserve stand-in", daemon=True)
        self.problem = ""
        """The last thing that went wrong."""

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; what was made stays."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            try:
                self._reconcile()
            except (RuntimeError, KeyError) as error:
                self.problem = str(error)

    def _reconcile(self) -> None:
        within = ("--namespace", self._namespace)
        deployments = {d["metadata"]["name"]: d for d in read_all(*within, "deployments", f"--selector={_OURS}")}
        for service in read_all(*within, "inferenceservices"):
            name = f"{service['metadata']['name']}-predictor"
            made_of = (service["metadata"]["uid"], service["metadata"]["generation"])
            if self._made.get(name) != made_of or name not in deployments:
                runtime = read(*within, "servingruntime", service["spec"]["predictor"]["model"]["runtime"])
                for document in (self._deployment(name, service, runtime), _service(name, service)):
                    kubectl(*within, "apply", "--server-side", "--force-conflicts",
                            "--field-manager=kserve-stand-in", "--filename=-", given=_text(document))  # fmt: skip
                self._made[name] = made_of
            else:
                self._tell(service, _is_rolled_out(deployments[name]))

    def _tell(self, service: dict[str, Any], ready: bool) -> None:
        was = {c["type"]: c["status"] for c in service.get("status", {}).get("conditions", [])}
        now = "True" if ready else "False"
        if was.get("Ready") == now and service["status"].get("observedGeneration") == service["metadata"]["generation"]:
            return
        conditions = [
            {"type": kind, "status": now, "lastTransitionTime": "2026-01-01T00:00:00Z"}
            for kind in ("PredictorReady", "IngressReady", "Ready")
        ]
        status = {
            "observedGeneration": service["metadata"]["generation"],
            "conditions": conditions,
            "deploymentMode": "Standard",
        }
        kubectl(
            "--namespace", self._namespace, "patch", "inferenceservice", service["metadata"]["name"],
            "--subresource=status", "--type=merge", f"--patch={_text({'status': status})}",
        )  # fmt: skip

    def _deployment(self, name: str, service: dict[str, Any], runtime: dict[str, Any]) -> dict[str, Any]:
        predictor, spec = service["spec"]["predictor"], copy.deepcopy(runtime["spec"])
        model = predictor["model"]
        container = spec["containers"][0]
        container["env"] = [*container.get("env", []), *model.get("env", [])]
        models = {"name": _MODELS, "mountPath": "/mnt/models"}
        container["volumeMounts"] = [*container.get("volumeMounts", []), {**models, "readOnly": True}]
        digest = next(item["value"] for item in model["env"] if item["name"] == "NINEFOLD_MODEL_DIGEST")
        secret = read("--namespace", self._namespace, "serviceaccount", predictor["serviceAccountName"])["secrets"][0]
        fetch = {
            "name": "storage-initializer",
            "image": self._image,
            "imagePullPolicy": "IfNotPresent",
            "args": ["-c", _FETCH],
            "env": [{"name": "URI", "value": model["storageUri"]}, {"name": "DIGEST", "value": digest}],
            "envFrom": [{"secretRef": {"name": secret["name"]}}],
            "securityContext": container["securityContext"],
            "volumeMounts": [models, {"name": "tmp", "mountPath": "/tmp"}],
        }
        labels = {"app": f"isvc.{name}", "serving.kserve.io/inferenceservice": service["metadata"]["name"]}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": name,
                "namespace": self._namespace,
                "labels": dict([_OURS.split("=")]),
                "ownerReferences": [_owner(service)],
            },
            "spec": {
                "replicas": predictor.get("minReplicas", 1),
                "selector": {"matchLabels": {"app": labels["app"]}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {
                    "metadata": {"labels": {**spec.get("labels", {}), **labels}},
                    "spec": {
                        "serviceAccountName": predictor["serviceAccountName"],
                        "automountServiceAccountToken": False,
                        "initContainers": [fetch],
                        "containers": [container],
                        "volumes": [*spec.get("volumes", []), {"name": _MODELS, "emptyDir": {}}],
                        "securityContext": {"fsGroup": 65532},
                    },
                },
            },
        }


def _is_rolled_out(deployment: dict[str, Any] | None) -> bool:
    if deployment is None:
        return False
    status = deployment.get("status", {})
    newest = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    return newest and status.get("availableReplicas", 0) > 0 and not status.get("unavailableReplicas")


def _service(name: str, service: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name, "namespace": service["metadata"]["namespace"], "ownerReferences": [_owner(service)],
        },
        "spec": {"selector": {"app": f"isvc.{name}"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    }  # fmt: skip


def _owner(service: dict[str, Any]) -> dict[str, Any]:
    # What it made goes with the InferenceService.
    return {
        "apiVersion": service["apiVersion"],
        "kind": service["kind"],
        "name": service["metadata"]["name"],
        "uid": service["metadata"]["uid"],
        "controller": True,
    }


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document)
