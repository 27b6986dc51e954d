"""Overlay kind on the cluster that KUBECONFIG names, with stand-ins for what the cluster lacks; each is named."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import images_on_cluster as images
import yaml
from kserve_stand_in import KServeStandIn
from kubectl import kubectl, read, read_all, wait_rolled_out, wait_until
from training import has_kfp

from images.build import HERE
from manifests.kind_secrets import make_secrets

NAMESPACE = "ninefold"
OVERLAY = HERE / "manifests" / "overlays" / "kind"
_OBJECT_STORE = "kubeflow"


@dataclass
class House:
    """What the tests stand on.

    Args:
        lacking: What the cluster has not, and what stands in for it.
        keys: Name → API key.
        kserve: The stand-in for KServe's controller; None where that runs.
        candidate: The version that is tried at present.
    """

    lacking: list[str] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    kserve: KServeStandIn | None = None
    candidate: int = 0

    @property
    def applications(self) -> str:
        """Where applications ask, within the cluster."""
        return f"http://{self._gateway()}:8080"

    @property
    def clients(self) -> str:
        """Where direct clients of the models ask, within the cluster."""
        return f"http://{self._gateway()}"

    @property
    def headers(self) -> dict[str, str]:
        """An application's key."""
        return {"x-apikey": self.keys["client"]}

    def _gateway(self) -> str:
        owner = "gateway.envoyproxy.io/owning-gateway"
        selector = f"{owner}-name=models,{owner}-namespace={NAMESPACE}"

        services = functools.partial(read_all, "services", "--all-namespaces", f"--selector={selector}")
        metadata = wait_until("Gateway models has a Service", services)[0]["metadata"]
        return f"{metadata['name']}.{metadata['namespace']}.svc.cluster.local"


def bring_up(folder: Path, tell: Callable[[str], None]) -> House:
    """Applies the overlay, starts stand-ins, and waits for everything that needs no model.

    Args:
        folder: For files.
        tell: Told what goes on.
    """
    house = House()
    tell(f"cluster {kubectl('config', 'current-context').strip()}")
    stand_in = images.load_command() is not None and shutil.which("kind") is None
    if os.environ.get("E2E_IMAGES") != "loaded":
        tell("loading images ...")
        images.load([images.ours("serving"), images.ours("pipeline")])
        if stand_in:
            _third_party(house, tell)
    make_secrets(OVERLAY / "secrets")
    if read("--namespace", _OBJECT_STORE, "service", "ml-pipeline") is None:
        house.lacking.append("the object store of Kubeflow Pipelines: one in memory is in its place")
        _object_store()
    kubectl("apply", "--filename=-", given=(HERE / "manifests/base/namespace/namespace.yaml").read_text())
    if shutil.which("cluster"):
        for claim, size in (("data-postgres-0", "8Gi"), ("data-redis-0", "2Gi")):
            if read("--namespace", NAMESPACE, "pvc", claim) is None:
                subprocess.run(["cluster", "volume", f"e2e-{claim}", size], check=True, stdout=subprocess.DEVNULL)
    tell("applying overlay kind ...")
    apply_overlay(folder, house)
    wait_rolled_out("statefulset/postgres", "statefulset/redis", namespace=NAMESPACE)
    if read("--namespace", "kserve", "deployment", "kserve-controller-manager") is None:
        house.lacking.append("KServe's controller: the tests make the Deployment and Service of an InferenceService")
        house.kserve = KServeStandIn(NAMESPACE, images.ours("serving"))
        house.kserve.start()
    if not has_kfp():
        house.lacking.append("Kubeflow Pipelines: training runs as one Job; what needs them is skipped")
    for name in ("client", "model"):
        house.keys[name] = (OVERLAY / "secrets" / f"{name}-key").read_text().strip()
    return house


def apply_overlay(folder: Path, house: House) -> None:
    """Applies overlay kind as it stands in the repository, with the Envoy image that the cluster has.

    Raises:
        RuntimeError: The API server refuses something.
    """
    place = folder / "overlay"
    place.mkdir(exist_ok=True)
    customization: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [str(Path(*[".."] * len(place.parts[1:]), *OVERLAY.parts[1:]))],
    }
    if envoy := _envoy_image():
        note = "Envoy's own image: the cluster's is used"
        if note not in house.lacking:
            house.lacking.append(note)
        patch = [{"op": "add", "path": "/spec/provider/kubernetes/envoyDeployment/container/image", "value": envoy}]
        customization["patches"] = [{"target": {"kind": "EnvoyProxy"}, "patch": yaml.safe_dump(patch)}]
    (place / "kustomization.yaml").write_text(yaml.safe_dump(customization))
    built = kubectl("kustomize", "--load-restrictor=LoadRestrictionsNone", str(place))
    kubectl("apply", "--server-side", "--field-manager=e2e", "--force-conflicts", "--filename=-", given=built)


def _envoy_image() -> str | None:
    """The image of an Envoy that this cluster runs for others, where it is no released one."""
    selector = "gateway.envoyproxy.io/owning-gateway-name"
    for pod in read_all("pods", "--all-namespaces", f"--selector={selector}"):
        if pod["metadata"]["labels"].get("gateway.envoyproxy.io/owning-gateway-namespace") == NAMESPACE:
            continue
        for container in pod["spec"]["containers"]:
            if container["name"] == "envoy" and "envoyproxy/envoy" not in container["image"]:
                return str(container["image"])
    return None


def _third_party(house: House, tell: Callable[[str], None]) -> None:
    pinned = images.versions()
    wanted = {
        "postgres": f"docker.io/library/postgres:{pinned['POSTGRES_VERSION']}",
        "redis": f"docker.io/library/redis:{pinned['REDIS_VERSION']}",
    }
    if read("--namespace", _OBJECT_STORE, "service", "ml-pipeline") is None:
        wanted["s3"] = images.S3
    for folder, name in wanted.items():
        tell(f"building a stand-in for {name} ...")
        images.build_stand_in(folder, name)
        house.lacking.append(f"a registry to pull {name.rpartition('/')[2]} from: made of Debian's or PyPI's packages")
    images.load(list(wanted.values()))


def _object_store() -> None:
    kubectl("create", "namespace", _OBJECT_STORE, check=False)
    within = {"name": "minio-service", "namespace": _OBJECT_STORE}
    labels = {"app": "e2e-s3"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": within,
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [
                        {
                            "name": "s3",
                            "image": images.S3,
                            "imagePullPolicy": "IfNotPresent",
                            "readinessProbe": {"tcpSocket": {"port": 9000}, "periodSeconds": 1},
                        }
                    ]
                },
            },
        },
    }
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": within,
        "spec": {"selector": labels, "ports": [{"port": 9000, "targetPort": 9000}]},
    }  # fmt: skip
    for document in (deployment, service):
        kubectl("apply", "--filename=-", given=json.dumps(document))
    wait_rolled_out("deployment/minio-service", namespace=_OBJECT_STORE)
    make = "import urllib.request as r; r.urlopen(r.Request('http://127.0.0.1:9000/ninefold', method='PUT'))"
    kubectl("--namespace", _OBJECT_STORE, "exec", "deployment/minio-service", "--", "python", "-c", make)
