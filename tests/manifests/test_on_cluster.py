"""On a real API server: overlay kind is taken whole, and applied in mid-canary it leaves the split as it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from manifests.check.findings import name, namespace

Built = Callable[..., list[dict[str, Any]]]


def _moved(documents: Iterable[dict[str, Any]], to: str) -> dict[str, Any]:
    """The namespaced objects of an overlay in another namespace, without replicas and ports of the node."""
    moved = []
    for document in documents:
        if namespace(document) != "ninefold" or document["kind"] == "HorizontalPodAutoscaler":
            continue
        copied = json.loads(json.dumps(document).replace('"namespace": "ninefold"', f'"namespace": "{to}"'))
        if "replicas" in copied.get("spec", {}) or copied["kind"] == "Deployment":
            copied["spec"]["replicas"] = 0
        if copied["kind"] == "EnvoyProxy":
            copied["spec"]["provider"]["kubernetes"]["envoyService"] = {"type": "ClusterIP"}
        moved.append(copied)
    return {"apiVersion": "v1", "kind": "List", "items": moved}


def _route(split: tuple[int, int]) -> dict[str, Any]:
    backends = [
        {"name": f"arrivals-v{version}-predictor", "port": 80, "weight": weight}
        for version, weight in zip((6, 7), split, strict=True)
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "arrivals", "annotations": {"ninefold.dev/state": "canary"}},
        "spec": {"parentRefs": [{"name": "models", "sectionName": "clients"}], "rules": [{"backendRefs": backends}]},
    }


def test_the_server_takes_overlay_kind_and_a_canary_goes_on_through_an_apply(built: Built, cluster: Any) -> None:
    overlay = _moved(built("kind"), cluster.namespace)
    cluster.kubectl("apply", "--dry-run=server", "-f", "-", document=overlay)
    cluster.kubectl("apply", "-f", "-", document=overlay)
    controller = ("apply", "--server-side", "--field-manager", "ninefold-rollout", "-f", "-")
    cluster.kubectl(*controller, document=_route((80, 20)))
    cluster.kubectl("apply", "-f", "-", document=overlay)
    route = json.loads(cluster.kubectl("get", "httproute", "arrivals", "-o", "json"))
    (rule,) = route["spec"]["rules"]
    assert [backend["weight"] for backend in rule["backendRefs"]] == [80, 20]
    assert route["metadata"]["annotations"]["ninefold.dev/state"] == "canary"
    assert "arrivals" not in [name(item) for item in overlay["items"] if item["kind"] == "HTTPRoute"]
    # And the controller goes on, in conflict with nobody.
    cluster.kubectl(*controller, document=_route((50, 50)))
