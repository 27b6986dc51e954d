"""Compiled pipelines: checked in, so that a platform engineer can apply and review them, and verified in CI.

Image and code digest are parameters with placeholder defaults, so a file changes only when its pipeline does.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from ninefold.errors import DataError
from ninefold.usecase import load_object

PIPELINES = {
    "training": "pipelines.training:training",
    "tuning": "pipelines.tuning:tuning",
    "monitoring": "pipelines.monitoring:monitoring",
    "materialization": "pipelines.materialization:materialization",
    "retention": "pipelines.retention:retention",
}
"""Pipeline name → import path of its function."""

COMPILED = Path(__file__).parent / "compiled"


def compile_to(folder: Path) -> list[Path]:
    """Compiles every pipeline into a folder, and returns the files."""
    from kfp import compiler

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, path in PIPELINES.items():
        target = folder / f"{name}.yaml"
        compiler.Compiler().compile(load_object(path, what="pipeline"), str(target))
        check_strictly(target)
        files.append(target)
    return files


def check_strictly(file: Path) -> None:
    """Reads a compiled pipeline as the API server does: unknown fields are errors.

    Raises:
        DataError: It does not parse, or a step would install something at run time.
    """
    import yaml
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    text = file.read_text()
    document = next(yaml.safe_load_all(text))
    try:
        json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
    except json_format.ParseError as error:
        raise DataError(f"{file} is no pipeline: {error}.") from error
    if "pip install" in text:
        raise DataError(f"{file}: a step installs packages at run time.", remedy="Set install_kfp_package=False.")


def differences() -> list[str]:
    """Names of checked-in files that differ from what the sources compile to now."""
    with tempfile.TemporaryDirectory() as temporary:
        fresh = compile_to(Path(temporary))
        return [
            file.name
            for file in fresh
            if not (COMPILED / file.name).exists() or (COMPILED / file.name).read_text() != file.read_text()
        ]
