"""How steps run on a cluster: image, secrets, settings, size, retries, rights. The local runner ignores it all.

Of restricted Pod Security, KFP 2.17 lets a pipeline say user, group and non-root; its own compiler adds what it can't
say: no privilege escalation, no capabilities, the runtime's seccomp profile. Neither makes the root file system
read-only; a step writes below ``/var/lib/ninefold`` and ``/tmp`` alone, both empty at its start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes
from pydantic.fields import FieldInfo

from ninefold.settings import Cluster, Labelling, Monitoring, Retention

Value = Any
"""A pipeline parameter, an output of a task, or a constant: KFP puts the value in its place when the step runs."""

SERVICE_ACCOUNT = "ninefold-pipeline"
"""Of every run's pods; what it may do stands in manifests/base/pipelines."""

USER = 65532

SETTINGS = "ninefold"
"""ConfigMap with the settings of everything that runs on the cluster, those of steps among them."""

_REQUIRED = ("ENVIRONMENT", "HOME", "MODELS_URL")


def _public(group: str, fields: Mapping[str, FieldInfo]) -> tuple[str, ...]:
    """Names of a group's settings, without ``NINEFOLD_`` and without those that are secrets."""
    return tuple(
        f"{group}__{name.upper()}" for name, field in fields.items() if "SecretStr" not in str(field.annotation)
    )


_COMMON = ("CLOCK", "LOG_LEVEL", *_public("CLUSTER", Cluster.model_fields))
RETENTION = _public("RETENTION", Retention.model_fields)
MONITORING = _public("MONITORING", Monitoring.model_fields)
LABELLING = _public("LABELLING", Labelling.model_fields)

# Credentials may come from the machine's identity instead.
_S3 = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")

NEEDS = ("store", "online", "s3", "kubernetes")
"""What network policies let every step reach, by the labels of its pod; those of labelling reach Label Studio, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a kind of step needs.

    Args:
        cpu: Cores that it is sure of, and may have at most.
        memory: The same of memory.
        seconds: What an attempt may take.
        retries: Attempts after the first; each waits twice as long as the one before.
    """

    cpu: tuple[str, str]
    memory: tuple[str, str]
    seconds: int
    retries: int


# A KFP server that restarts fails the step that was asking it, so every step is tried again.
LIGHT = Size(cpu=("100m", "1"), memory=("256Mi", "1Gi"), seconds=1800, retries=3)
DATA = Size(cpu=("250m", "2"), memory=("512Mi", "4Gi"), seconds=2 * 3600, retries=2)
# The longest search that may be asked for, and an hour.
SEARCH = Size(cpu=("500m", "2"), memory=("512Mi", "4Gi"), seconds=25 * 3600, retries=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the steps of a run run.

    Args:
        image: Their image.
        node_selector: Labels of the nodes that may run them.
        tolerations: Taints of nodes that they bear.
    """

    image: Value
    node_selector: Value
    tolerations: Value

    def run(
        self, task: dsl.PipelineTask, size: Size = DATA, *, caching: bool = True, settings: tuple[str, ...] = ()
    ) -> dsl.PipelineTask:
        """Runs a task there.

        Args:
            task: The task.
            size: What it needs.
            caching: Whether a finished step of the same inputs does; false for what reads or changes production.
            settings: Names of settings, without ``NINEFOLD_``, that it reads beside those that every step does.
        """
        task.set_container_image(self.image)
        task.set_caching_options(caching)
        # Argo counts from the first attempt's begin, so the bound is that of all attempts and the pauses between them.
        longest = (size.retries + 1) * (size.seconds + 600)
        task.set_retry(size.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration=f"{longest}s")
        task.set_cpu_request(size.cpu[0]).set_cpu_limit(size.cpu[1])
        task.set_memory_request(size.memory[0]).set_memory_limit(size.memory[1])
        kubernetes.set_timeout(task, size.seconds)
        kubernetes.set_image_pull_policy(task, "IfNotPresent")
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
        kubernetes.empty_dir_mount(task, volume_name="home", mount_path="/var/lib/ninefold")
        kubernetes.empty_dir_mount(task, volume_name="tmp", mount_path="/tmp")  # noqa: S108 - the pod's own
        kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "ninefold")
        for need in NEEDS:
            kubernetes.add_pod_label(task, f"ninefold.dev/{need}", "true")
        kubernetes.add_node_selector_json(task, self.node_selector)
        kubernetes.add_toleration_json(task, self.tolerations)
        _environment(task, settings)
        return task


def _environment(task: dsl.PipelineTask, more: tuple[str, ...]) -> None:
    # Where one of these is missing the pod says so: a step must not work on an empty store of its own.
    kubernetes.use_config_map_as_env(task, SETTINGS, _named(_REQUIRED))
    kubernetes.use_config_map_as_env(task, SETTINGS, _named((*_COMMON, *more)), optional=True)
    kubernetes.use_secret_as_env(task, "ninefold-store", {"url": "NINEFOLD_STORE_URL"})
    kubernetes.use_secret_as_env(task, "ninefold-online", {"url": "NINEFOLD_ONLINE_URL"})
    kubernetes.use_secret_as_env(task, "ninefold-s3", {name: name for name in _S3}, optional=True)
    if more == MONITORING:
        webhook = {"webhook": "NINEFOLD_MONITORING__WEBHOOK"}
        kubernetes.use_secret_as_env(task, "ninefold-keys", webhook, optional=True)
        workspace = {"evidently-url": "NINEFOLD_MONITORING__WORKSPACE_URL"}
        kubernetes.use_secret_as_env(task, "ninefold-store", workspace, optional=True)
    if more == LABELLING:
        studio = {"token": "NINEFOLD_LABELLING__TOKEN", "webhook-secret": "NINEFOLD_LABELLING__WEBHOOK_SECRET"}
        kubernetes.use_secret_as_env(task, "ninefold-label-studio", studio, optional=True)
        kubernetes.add_pod_label(task, "ninefold.dev/labelling", "true")


def _named(names: tuple[str, ...]) -> dict[str, str]:
    return {f"NINEFOLD_{name}": f"NINEFOLD_{name}" for name in names}
