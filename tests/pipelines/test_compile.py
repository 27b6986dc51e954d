"""Compiled pipelines are current, strict, install nothing, and mean the same to YAML 1.1 and 1.2."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ninefold.errors import DataError
from pipelines.compile import COMPILED, PIPELINES, check_strictly, compile_to, differences


def test_the_checked_in_files_are_what_the_sources_compile_to() -> None:
    assert differences() == []
    assert {file.stem for file in COMPILED.glob("*.yaml")} == set(PIPELINES)


def test_every_step_takes_its_image_from_the_run_and_installs_nothing() -> None:
    text = (COMPILED / "training.yaml").read_text()
    document: dict[str, Any] = next(yaml.safe_load_all(text))
    executors = document["deploymentSpec"]["executors"]
    assert len(executors) == 11
    for executor in executors.values():
        assert executor["container"]["image"] == "{{$.inputs.parameters['pipelinechannel--image']}}"
    assert "pip install" not in text


def test_what_reads_production_and_what_releases_is_never_cached() -> None:
    document: dict[str, Any] = next(yaml.safe_load_all((COMPILED / "training.yaml").read_text()))
    cached = {
        name: task["cachingOptions"].get("enableCache") for name, task in document["root"]["dag"]["tasks"].items()
    }
    assert {name for name, enabled in cached.items() if not enabled} == {"look-up", "release"}


def test_baseline_and_build_run_in_parallel() -> None:
    document: dict[str, Any] = next(yaml.safe_load_all((COMPILED / "training.yaml").read_text()))
    tasks = document["root"]["dag"]["tasks"]
    assert "evaluate-baseline" not in tasks["build"].get("dependentTasks", [])
    assert "build" not in tasks["evaluate-baseline"].get("dependentTasks", [])


def test_no_parameter_reads_as_a_boolean() -> None:
    document: dict[str, Any] = next(yaml.safe_load_all((COMPILED / "training.yaml").read_text()))
    assert all(isinstance(name, str) for name in document["root"]["inputDefinitions"]["parameters"])


def test_an_unknown_field_is_an_error(tmp_path: Path) -> None:
    file = compile_to(tmp_path)[0]
    file.write_text(file.read_text().replace("pipelineInfo:", "pipelineInof:", 1))
    with pytest.raises(DataError, match="pipelineInof"):
        check_strictly(file)
