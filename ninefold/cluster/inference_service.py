"""One version of a model on a cluster: an InferenceService of KServe, as a document.

Every version has one of its own (``arrivals-v7``), in Standard mode, with Ninefold's ServingRuntime; the baseline is
version 0. All of a use case serve the model by the use case's name. Replicas, resources and the like are left to the
runtime and to whoever runs the cluster: a field that is not set here can be set by others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ninefold.records import ModelVersion
from ninefold.settings import Settings
from ninefold.store.versions import BASELINE

API_VERSION, KIND = "serving.kserve.io/v1beta1", "InferenceService"

USE_CASE_LABEL, VERSION_LABEL = "ninefold.dev/use-case", "ninefold.dev/version"
DIGEST_ANNOTATION = "ninefold.dev/digest"

NOT_READY_ANNOTATION = "ninefold.dev/not-ready"
"""Why a version that was released did not become ready; it stays for whoever looks."""

MODE_ANNOTATION = "serving.kserve.io/deploymentMode"
STANDARD = "Standard"

VISIBILITY_LABEL, INSIDE = "networking.kserve.io/visibility", "cluster-local"
"""KServe then makes no route of its own, on which any version could be asked past the split and the gateway's rules."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


def server_name(use_case: str, version: int) -> str:
    """Name of a version's InferenceService. Names of use cases have no hyphen, so two never meet."""
    return f"{use_case.replace('_', '-')}-v{version}"


def server_url(use_case: str, version: int, namespace: str) -> str:
    """Base address of a version's model server within the cluster."""
    return f"http://{server_name(use_case, version)}-predictor.{namespace}.svc.cluster.local"


def server_labels(use_case: str) -> dict[str, str]:
    """What the InferenceServices of a use case are found by."""
    return {USE_CASE_LABEL: use_case}


def version_of(document: Mapping[str, Any]) -> int | None:
    """The version that an InferenceService serves, by its label; None where it says none."""
    text = str(_labels(document).get(VERSION_LABEL, ""))
    return int(text) if _NUMBER.fullmatch(text) else None


def inference_service(use_case: str, version: ModelVersion, settings: Settings) -> dict[str, Any]:
    """The InferenceService of a version.

    Args:
        use_case: Name of the use case.
        version: Which; its package has to lie where a pod can load it from.
        settings: Name the namespace and the service account.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": server_name(use_case, version.version),
            "namespace": settings.cluster.namespace,
            "labels": {
                "app.kubernetes.io/part-of": "ninefold",
                "app.kubernetes.io/managed-by": "ninefold",
                **server_labels(use_case),
                VERSION_LABEL: str(version.version),
                VISIBILITY_LABEL: INSIDE,
            },
            "annotations": {MODE_ANNOTATION: STANDARD, DIGEST_ANNOTATION: version.digest},
        },
        "spec": {"predictor": predictor(use_case, version, settings)},
    }


def predictor(use_case: str, version: ModelVersion, settings: Settings) -> dict[str, Any]:
    """The part of an InferenceService that says what is loaded, by what, and which digest it has to have."""
    # The baseline has no other format, whatever a row of before there was a choice says of it.
    model_format = "ninefold-baseline" if version.version == BASELINE else f"ninefold-{version.format}"
    # One runtime, of the component model-formats, serves all formats that need more than ONNX Runtime.
    runtime = "ninefold-formats" if version.format in ("pmml", "skops") else model_format
    return {
        "serviceAccountName": settings.cluster.service_account,
        "model": {
            "modelFormat": {"name": model_format},
            "runtime": runtime,
            "storageUri": version.uri,
            "env": [
                {"name": "NINEFOLD_MODEL_NAME", "value": use_case},
                {"name": "NINEFOLD_MODEL_DIGEST", "value": version.digest},
            ],
        },
    }


def digest_of(document: Mapping[str, Any]) -> str:
    """The digest that an InferenceService, or a Deployment made of it, loads; empty where it says none."""
    annotations = document.get("metadata", {}).get("annotations") or {}
    return str(annotations.get(DIGEST_ANNOTATION, ""))


def _labels(document: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = document.get("metadata", {}).get("labels") or {}
    return found
