"""A whole training run of a use case whose models are no ONNX: gated, released, and a version that says what it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ninefold.cluster.inference_service import predictor
from ninefold.package import load_predictor
from ninefold.settings import settings
from ninefold.store import open_store

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", ["pmml", "skops"])
def test_a_training_run_gates_and_releases_a_package_of_the_format(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.syspath_prepend(str(HERE))
    use_case = f"market_formats:AS_{name.upper()}"
    command = ["run", "training", use_case, "--until", "2024-03-01", "--max-training-time", "10"]
    found = subprocess.run(
        [sys.executable, "-m", "ninefold", *command], capture_output=True, text=True, timeout=400, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    (path,) = (settings().home / "reports" / f"market_{name}").glob("*/result.json")
    result = json.loads(path.read_text())
    assert result["action"] == "release", result["reasons"]
    with open_store(settings().store_url) as store:
        live = store.live_version(f"market_{name}")
    assert live is not None
    assert (live.version, live.format) == (1, name)
    manifest = load_predictor(live.uri, live.digest).manifest
    assert manifest.format == name
    assert manifest.training["parity"]["error"] <= manifest.training["parity"]["tolerance"]
    asked = predictor(f"market_{name}", live, settings())["model"]
    assert (asked["modelFormat"]["name"], asked["runtime"]) == (f"ninefold-{name}", "ninefold-formats")
