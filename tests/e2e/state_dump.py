"""What a cluster looked like when something failed: descriptions, logs, routes, Events, in one folder."""

from __future__ import annotations

from pathlib import Path

from kubectl import kubectl, read_all

_DESCRIBED = "pods,deployments,statefulsets,jobs,services,httproutes,gateways,inferenceservices,leases,pvc"


def dump(folder: Path, namespaces: tuple[str, ...]) -> Path:
    """Writes all that helps to see why, and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nodes.txt").write_text(kubectl("describe", "nodes", check=False))
    for namespace in namespaces:
        place = folder / namespace
        place.mkdir(exist_ok=True)
        within = ("--namespace", namespace)
        (place / "overview.txt").write_text(kubectl(*within, "get", _DESCRIBED, "--output", "wide", check=False))
        (place / "describe.txt").write_text(kubectl(*within, "describe", _DESCRIBED, check=False))
        (place / "routes.yaml").write_text(
            kubectl(*within, "get", "httproutes,inferenceservices", "--output", "yaml", check=False)
        )
        (place / "events.txt").write_text(kubectl(*within, "get", "events", "--sort-by=.lastTimestamp", check=False))
        for pod in read_all(*within, "pods"):
            name = pod["metadata"]["name"]
            for suffix, more in (("", ()), (".previous", ("--previous",))):
                logs = kubectl(*within, "logs", name, "--all-containers", "--tail=2000", *more, check=False)
                if logs:
                    (place / f"{name}{suffix}.log").write_text(logs)
    return folder
