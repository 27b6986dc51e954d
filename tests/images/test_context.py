"""What a build is given to read."""

import tomllib
from pathlib import Path

import ninefold
from components.image import IMAGE
from images.build import image_name, version

ROOT = Path(__file__).parents[2]


def test_the_context_holds_every_import_root_and_nothing_that_lies_about() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    roots = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == {
        *roots, "LICENSE", "README.md", "pyproject.toml", "requirements", "images/health.py"
    }  # fmt: skip
    copied = {line.split()[1] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")}
    assert set(roots) <= copied


def test_names_are_those_of_pipelines_and_manifests() -> None:
    assert version() == ninefold.__version__
    assert image_name("pipeline", "ninefold") == IMAGE
