"""Which container engine is used, and what is said where none works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from images.build import index_arguments, revision
from images.engine import Engine, ImagesError, find_engine

ROOT = Path(__file__).parents[2]
WORKS = "exit 0"
NO_DAEMON = "echo 'Cannot connect to the daemon.' >&2; exit 1"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of the search path."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def put(programs: Path, name: str, script: str) -> None:
    program = programs / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_the_first_that_works_is_used(programs: Path) -> None:
    put(programs, "podman", WORKS)
    put(programs, "buildah", WORKS)
    assert find_engine() == Engine("podman")
    put(programs, "docker", WORKS)
    assert find_engine() == Engine("docker")
    assert find_engine("buildah") == Engine("buildah")


def test_a_docker_without_its_daemon_does_not_count(programs: Path) -> None:
    put(programs, "docker", NO_DAEMON)
    put(programs, "buildah", WORKS)
    assert find_engine() == Engine("buildah")


def test_buildah_runs_nothing(programs: Path) -> None:
    put(programs, "buildah", WORKS)
    with pytest.raises(ImagesError, match="buildah only builds"):
        find_engine(running=True)


def test_none_is_one_line_that_names_each(programs: Path) -> None:
    put(programs, "docker", NO_DAEMON)
    done = subprocess.run(
        [sys.executable, "-m", "images", "build"],
        cwd=ROOT, env={"PATH": str(programs), "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "images: No container engine works here: docker does not work (Cannot connect to the daemon.); "
        "podman is not installed; buildah is not installed. Install podman, or start docker.\n"
    )


def test_an_unknown_engine_and_an_unknown_target_are_refused(programs: Path) -> None:
    with pytest.raises(ImagesError, match="'lxc'; give docker, podman or buildah"):
        find_engine("lxc")
    put(programs, "podman", "echo built >> " + str(programs / "called"))
    done = subprocess.run(
        [sys.executable, "-m", "images", "build", "front-end"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no target 'front-end'; there are pipeline, serving, labelling" in done.stderr


def test_a_build_is_given_base_target_name_and_flags(programs: Path) -> None:
    put(programs, "podman", f'[ "$1" = info ] || printf "%s\\n" "$@" >> {programs}/called')
    done = subprocess.run(
        [sys.executable, "-m", "images", "build", "serving", "--base", "mine/python:3.11", "--prefix", "reg/house",
         "--flags=--network host --label 'a=b c'"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT), "PIP_INDEX_URL": "https://me:secret@index/simple"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    called = (programs / "called").read_text().splitlines()
    # Without this format podman leaves the health check out.
    assert called[:6] == ["build", "--format=docker", "--network", "host", "--label", "a=b c"]
    assert "BASE=mine/python:3.11" in called
    assert f"--label=org.opencontainers.image.revision={revision()}" in called
    assert "--label=org.opencontainers.image.base.name=mine/python:3.11" in called
    assert called[-5:-2] == ["--target", "serving", "--tag"]
    assert called[-2].startswith("reg/house/serving:")
    assert called[-2].endswith("-python3.11")
    assert "PIP_INDEX_URL" in called
    assert "UV_DEFAULT_INDEX" in called
    assert not [argument for argument in called if "secret" in argument]


def test_an_index_is_passed_on_where_one_is_set() -> None:
    assert index_arguments({}) == []
    assert index_arguments({"UV_DEFAULT_INDEX": "x", "PIP_INDEX_URL": ""}) == ["--build-arg", "UV_DEFAULT_INDEX"]
