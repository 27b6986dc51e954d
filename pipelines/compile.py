"""Compiled pipelines: checked in, so that a platform engineer can apply and review them, and verified in CI.

Image and code digest are parameters with placeholder defaults, so a file changes only when its pipeline does.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from ninefold.errors import DataError
from ninefold.loading import load_object
from pipelines.resources import resources
from pipelines.yaml_readers import read_both

PIPELINES = {
    "training": "pipelines.training:training",
    "tuning": "pipelines.tuning:tuning",
    "monitoring": "pipelines.monitoring:monitoring",
    "labelling": "pipelines.labelling:labelling",
    "materialization": "pipelines.materialization:materialization",
    "retention": "pipelines.retention:retention",
}
"""Pipeline name → import path of its function."""

COMPILED = Path(__file__).parent / "compiled"

MANIFESTS = Path(__file__).parents[1] / "manifests" / "base" / "pipelines"
"""Where the same pipelines lie as Kubernetes resources; an installed package has none."""


def compile_to(folder: Path, manifests: Path | None = None) -> list[Path]:
    """Compiles every pipeline, checks what came of it, and returns the files.

    Args:
        folder: Where the compiled pipelines go.
        manifests: Where they go as Kubernetes resources; None for nowhere.
    """
    from kfp import compiler

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, path in PIPELINES.items():
        target, pipeline = folder / f"{name}.yaml", load_object(path, what="pipeline")
        compiler.Compiler().compile(pipeline, str(target))
        spec, platform = check_strictly(target)
        files.append(target)
        if manifests is not None:
            text = resources(name, pipeline.description, spec, platform)
            read_both(text, f"The manifest of {name}")
            (manifests / f"{name}.yaml").write_text(text)
            files.append(manifests / f"{name}.yaml")
    return files


def check_strictly(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a compiled pipeline as the API server does: unknown fields are errors.

    Returns:
        The pipeline, and what its steps need of Kubernetes.

    Raises:
        DataError: It does not parse, means different things to readers of YAML 1.1 and 1.2, is not in ASCII, or a step
            would install something at run time.
    """
    from google.protobuf import json_format
    from kfp.kubernetes import kubernetes_executor_config_pb2
    from kfp.pipeline_spec import pipeline_spec_pb2

    text = file.read_text()
    documents = read_both(text, str(file))
    spec, platform = documents[0], documents[1] if len(documents) > 1 else {}
    executors = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    try:
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
        for executor in executors.values():
            json_format.ParseDict(executor, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    except json_format.ParseError as error:
        raise DataError(f"{file} is no pipeline: {error}.") from error
    if odd := sorted(set(json.dumps([spec, platform], ensure_ascii=False)) - set(map(chr, range(128)))):
        raise DataError(
            f"{file} holds {' '.join(odd)}: a database of KFP's that is not in UTF-8 can't keep it.",
            remedy="Write docstrings of pipelines and components in ASCII.",
        )
    if "pip install" in text:
        raise DataError(f"{file}: a step installs packages at run time.", remedy="Set install_kfp_package=False.")
    return spec, platform


def differences() -> list[str]:
    """Names of checked-in files that differ from what the sources compile to now."""
    with tempfile.TemporaryDirectory() as temporary:
        compiled, manifests = Path(temporary) / "compiled", Path(temporary) / "manifests"
        manifests.mkdir()
        compile_to(compiled, manifests)
        kept = [(COMPILED, compiled), *([(MANIFESTS, manifests)] if MANIFESTS.is_dir() else [])]
        return [
            str((there / file.name).relative_to(MANIFESTS.parents[2]))
            for there, fresh in kept
            for file in sorted(fresh.iterdir())
            if not (there / file.name).exists() or (there / file.name).read_text() != file.read_text()
        ]
