"""Builds overlays, and overlays with components, in a copy of the manifests that has secrets made for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from manifests.kind_secrets import make_secrets

ROOT = Path(__file__).parents[1]
"""The manifests."""

_MODULE = "sigs.k8s.io/kustomize/kustomize/v5"


@dataclass(frozen=True, slots=True)
class Combination:
    """An overlay, and the components that are added to it.

    Args:
        overlay: Its name.
        components: Names of components.
    """

    overlay: str
    components: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " + ".join([self.overlay, *self.components])


COMBINATIONS = (
    Combination("kind"),
    Combination("kind", ("durable-journal",)),
    Combination("kind", ("tracing",)),
    Combination("kind", ("spark",)),
    Combination("kind", ("model-formats", "kserve-runtimes")),
    Combination("kind", ("labelling",)),
    Combination("production"),
    Combination("production", ("durable-journal",)),
    Combination("production", ("tracing",)),
    Combination("production", ("spark",)),
    Combination("production", ("model-formats", "kserve-runtimes")),
    Combination("production", ("labelling",)),
    Combination("production", ("durable-journal", "tracing", "spark")),
    Combination("knative"),
    Combination("knative", ("durable-journal",)),
)
"""What docs/kubernetes.md recommends."""


class NoKustomize(Exception):
    """There is nothing that could build a kustomization."""


def kustomize() -> list[str]:
    """The command that builds a folder: ``kustomize``, ``kubectl``, or what Go makes of kustomize's source.

    Raises:
        NoKustomize: None of the three is there; the message names them.
    """
    if found := shutil.which("kustomize"):
        return [found, "build"]
    if found := shutil.which("kubectl"):
        return [found, "kustomize"]
    if found := shutil.which("go"):
        return [str(_built(found)), "build"]
    raise NoKustomize("There is no kustomize, no kubectl and no go on the PATH: install one of them.")


def _built(go: str) -> Path:
    version = versions()["KUSTOMIZE_VERSION"]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ninefold" / f"kustomize-{version}"
    if not (folder / "kustomize").exists():
        subprocess.run([go, "install", f"{_MODULE}@{version}"], env={**os.environ, "GOBIN": str(folder)}, check=True)
    return folder / "kustomize"


def versions(path: Path = ROOT / "versions.env") -> dict[str, str]:
    """The pinned versions."""
    lines = (line.partition("=") for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in lines}


def copied(target: Path) -> Path:
    """A copy of the manifests with secrets of its own, so that a build needs none that are real."""
    folder = target / "manifests"
    ignored = shutil.ignore_patterns("secrets", "__pycache__", "*.py")
    shutil.copytree(ROOT, folder, ignore=ignored)
    make_secrets(folder / "overlays" / "kind" / "secrets")
    return folder


def build(folder: Path, combination: Combination, command: Sequence[str]) -> list[dict[str, Any]]:
    """The objects of a combination.

    Args:
        folder: A copy of the manifests.
        combination: What to build.
        command: What builds a folder.

    Raises:
        subprocess.CalledProcessError: kustomize refuses; its words are in ``stderr``.
    """
    at = folder / "overlays" / combination.overlay
    if combination.components:
        at = folder / "overlays" / "-".join([combination.overlay, *combination.components])
        at.mkdir(exist_ok=True)
        (at / "kustomization.yaml").write_text(combined(combination))
    built = subprocess.run([*command, str(at)], capture_output=True, text=True, check=True)
    return [document for document in yaml.load_all(built.stdout, _LOADER) if document]


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def combined(combination: Combination) -> str:
    """The kustomization of an overlay with components, as a user writes it beside the overlays."""
    lines = ["apiVersion: kustomize.config.k8s.io/v1beta1", "kind: Kustomization"]
    lines += [f"resources: [../{combination.overlay}]", "components:"]
    lines += [f"- ../../components/{component}" for component in combination.components]
    return "\n".join(lines) + "\n"
