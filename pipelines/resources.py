"""Pipelines as Kubernetes resources: a Pipeline and a PipelineVersion each, for `kubectl apply`.

A PipelineVersion can't be changed once it is there, so its name ends in a digest of what it holds: a pipeline that
changed is a new version beside the old one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import yaml

API_VERSION = "pipelines.kubeflow.org/v2beta1"


def version_name(pipeline: str, spec: Mapping[str, Any], platform: Mapping[str, Any]) -> str:
    """Name of the version of a pipeline that holds this."""
    text = json.dumps([spec, platform], sort_keys=True)
    return f"{pipeline}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def resources(pipeline: str, description: str, spec: Mapping[str, Any], platform: Mapping[str, Any]) -> str:
    """The two resources of a pipeline, as YAML.

    Args:
        pipeline: Its name.
        description: What it does.
        spec: The compiled pipeline.
        platform: What its steps need of Kubernetes.
    """
    version = version_name(pipeline, spec, platform)
    documents = [
        {
            "apiVersion": API_VERSION,
            "kind": "Pipeline",
            "metadata": {"name": pipeline},
            "spec": {"displayName": pipeline, "description": description},
        },
        {
            "apiVersion": API_VERSION,
            "kind": "PipelineVersion",
            "metadata": {"name": version},
            "spec": {
                "displayName": version,
                "description": description,
                "pipelineName": pipeline,
                "pipelineSpec": spec,
                "platformSpec": platform,
            },
        },
    ]
    head = "# Made by `ninefold compile` from the pipeline's source; change that.\n---\n"
    return head + yaml.dump_all(documents, sort_keys=True, allow_unicode=True, width=120)
