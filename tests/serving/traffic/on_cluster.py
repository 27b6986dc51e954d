"""A namespace of one's own on the cluster that KUBECONFIG names: Gateways, versions that answer, and their readiness.

The versions are Envoys that answer by themselves: their image is there wherever Envoy Gateway is. Where KServe's
controller is missing, what it would say of an InferenceService is said here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from ninefold.cluster.api import ClusterApi
from ninefold.cluster.inference_service import inference_service, server_name
from ninefold.records import ModelVersion
from ninefold.settings import Cluster, Settings

GATEWAY_API = "gateway.networking.k8s.io/v1"
_EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"


def why_none() -> str:
    """Why there is no cluster to be tested on; empty where there is one."""
    if not os.environ.get("KUBECONFIG"):
        return "no cluster: KUBECONFIG is not set"
    if shutil.which("kubectl") is None:
        return "no kubectl on the PATH"
    api = ClusterApi("default", field_manager="ninefold-test", patience=1.0, timeout=(2.0, 3.0))
    try:
        if api.get(GATEWAY_API, "GatewayClass", "envoy") is None:
            return "the cluster has no GatewayClass envoy"
        api.list("serving.kserve.io/v1beta1", "InferenceService")
    except Exception as error:
        return f"the cluster lacks something: {error}"
    finally:
        api.close()
    return ""


def until(true: Callable[[], Any], seconds: float = 90.0, what: str = "") -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, what or "it did not come true"
        time.sleep(0.2)
    return found


class Namespace:
    def __init__(self, name: str) -> None:
        self.name = name
        self.api = ClusterApi(name, field_manager="ninefold-test")
        self.settings = Settings(cluster=Cluster(namespace=name))

    def kubectl(self, *arguments: str, text: str = "") -> str:
        done = subprocess.run(
            ["kubectl", "-n", self.name, *arguments], input=text, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def gateways(self) -> None:
        for name, listener in (("models", "clients"), ("models-inner", "inner")):
            self.api.apply({
                "apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": {"name": name},
                "spec": {
                    "gatewayClassName": "envoy",
                    "listeners": [{"name": listener, "protocol": "HTTP", "port": 80,
                                   "allowedRoutes": {"namespaces": {"from": "Same"}}}],
                },
            })  # fmt: skip

    def address(self, gateway: str) -> str:
        """Where a Gateway's Envoy answers."""
        labels = {
            "gateway.envoyproxy.io/owning-gateway-name": gateway,
            "gateway.envoyproxy.io/owning-gateway-namespace": self.name,
        }

        def service() -> str:
            for namespace in ("envoy-gateway-system", self.name):
                for found in self.api.list("v1", "Service", labels, namespace=namespace):
                    return f"http://{found['spec']['clusterIP']}"
            return ""

        return str(until(service, what=f"Gateway {gateway} has no Service"))

    def answering(self, *versions: int) -> None:
        """Versions' predictors, as KServe would make them of their InferenceServices."""
        image = self._envoy()
        for version in versions:
            name = f"{server_name('parcels', version)}-predictor"
            labels = {"app": name}
            self.api.apply({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
            })  # fmt: skip
            self.api.apply({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
                            "name": "kserve-container", "image": image, "imagePullPolicy": "IfNotPresent",
                            "command": ["envoy"], "args": ["--config-yaml", _who_answers(version)],
                            "ports": [{"containerPort": 8080}],
                            "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
                        }]},
                    },
                },
            })  # fmt: skip
        for version in versions:
            name = f"{server_name('parcels', version)}-predictor"
            self.kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s")

    def serve(self, version: ModelVersion, *, ready: bool = True, why: str = "") -> None:
        """An InferenceService, with what KServe would say of it."""
        self.api.apply(inference_service("parcels", version, self.settings))
        said = {"reason": "MinimumReplicasUnavailable", "message": why} if why else {}
        conditions = [{"type": kind, "status": str(ready), **said} for kind in ("PredictorReady", "Ready")]
        status = {"status": {"deploymentMode": "Standard", "conditions": conditions}}
        name = server_name("parcels", version.version)
        self.kubectl(
            "patch", "inferenceservice", name, "--subresource=status", "--type=merge", "-p", json.dumps(status)
        )

    def route(self, name: str = "parcels") -> dict[str, Any] | None:
        return self.api.get(GATEWAY_API, "HTTPRoute", name)

    def weights(self) -> dict[str, int]:
        route = self.route()
        return {} if route is None else {b["name"]: b["weight"] for b in route["spec"]["rules"][0]["backendRefs"]}

    def _envoy(self) -> str:
        """The image of the Gateways' own proxies."""

        def image() -> str:
            for namespace in ("envoy-gateway-system", self.name):
                for found in self.api.list("apps/v1", "Deployment", namespace=namespace):
                    for container in found["spec"]["template"]["spec"]["containers"]:
                        if container["name"] == "envoy":
                            return str(container["image"])
            return ""

        return str(until(image, what="no Envoy runs for the Gateways"))


@contextmanager
def namespace() -> Iterator[Namespace]:
    made = Namespace(f"ninefold-traffic-{uuid.uuid4().hex[:6]}")
    made.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.name}})
    try:
        yield made
    finally:
        made.api.delete("v1", "Namespace", made.name)
        made.api.close()


def answered(url: str, path: str = "/v1/models/parcels:predict", **headers: str) -> httpx.Response:
    return httpx.post(url + path, headers=headers, json={"instances": []}, timeout=5.0)


def _who_answers(version: int) -> str:
    """An Envoy that says which version it is, and which headers it got."""
    echoed = [
        {"header": {"key": f"got-{name}", "value": f"%REQ({name})%"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for name in ("x-ninefold-version", "x-ninefold-cohort", "x-ninefold-inner")
    ]
    manager = {
        "@type": f"{_EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "http_filters": [{"name": "router", "typed_config": {
            "@type": f"{_EXTENSIONS}.http.router.v3.Router"}}],
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{
                "match": {"prefix": "/"},
                "direct_response": {"status": 200, "body": {"inline_string": json.dumps({"by": version})}},
                "response_headers_to_add": echoed,
            }],
        }]},
    }  # fmt: skip
    return json.dumps({"static_resources": {"listeners": [{
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 8080}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }]}})  # fmt: skip


def environment(store: str, home: Path, kubeconfig: Path, name: str, port: int) -> dict[str, str]:
    """What a controller's process is started with."""
    return {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "NINEFOLD_HOME": str(home),
        "NINEFOLD_STORE_URL": store,
        "NINEFOLD_CLUSTER__ROUTES": "httproute",
        "NINEFOLD_CLUSTER__NAMESPACE": name,
        "NINEFOLD_PORTS__ROLLOUT": str(port),
        "NINEFOLD_ROLLOUT__LOOK_SECONDS": "0.5",
        "NINEFOLD_ROLLOUT__FRONT_END_URL": "http://127.0.0.1:9",
        "NINEFOLD_LOG_LEVEL": "info",
    }
