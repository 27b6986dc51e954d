"""The doctor names what is missing, and start-up refuses somebody else's packages."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from children import free_port

from ninefold.settings import settings
from serving.gateway.process import find_envoy
from serving.supervisor.doctor import Check, examine, foreign_roots


@pytest.fixture(autouse=True)
def _ports(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "FRONT_END",
        "COLLECTOR",
        "ORCHESTRATOR",
        "EVALUATOR",
        "MODEL_BUILDER",
        "GATEWAY",
        "GATEWAY_INNER",
        "MODELS_FROM",
    ):
        monkeypatch.setenv(f"NINEFOLD_PORTS__{name}", str(free_port()))
    settings.cache_clear()


def found(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_a_healthy_machine_has_no_failure() -> None:
    checks = examine("arrivals")
    assert [check for check in checks if check.level == "fail"] == []
    assert {"Python", "import roots", "extra serving", "disk", "API keys", "store", "use case arrivals"} <= {
        check.name for check in checks
    }


def test_a_port_in_use_fails_with_a_remedy() -> None:
    port = settings().ports.front_end
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        check = found(examine(), f"port {port}")
    assert (check.level, "NINEFOLD_PORTS__FRONT_END" in check.remedy) == ("fail", True)


def test_an_unknown_use_case_and_a_damaged_store_fail() -> None:
    (settings().folder("run").parent / "store.db").write_bytes(b"no database at all" * 100)
    checks = examine("nobody")
    assert found(checks, "use case nobody").level == "fail"
    assert "fail" in {check.level for check in checks if "store" in check.name}


def test_no_keys_outside_of_local_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NINEFOLD_ENVIRONMENT", "cluster")
    settings.cache_clear()
    assert found(examine(), "API keys").level == "fail"


@pytest.mark.parametrize(("use", "level"), [("auto", "warn"), ("always", "fail"), ("never", "ok")])
def test_a_missing_envoy_is_as_bad_as_the_settings_make_it(
    monkeypatch: pytest.MonkeyPatch, use: str, level: str
) -> None:
    assert found(examine(), "gateway") == Check("gateway", "ok", f"Envoy {find_envoy()[1]}")
    monkeypatch.setattr("serving.supervisor.doctor.find_envoy", lambda: (None, "none on this machine"))
    monkeypatch.setenv("NINEFOLD_GATEWAY__USE", use)
    settings.cache_clear()
    assert found(examine(), "gateway").level == level


def test_somebody_elses_packages_are_refused_by_name(tmp_path: Path) -> None:
    assert foreign_roots() == {}
    (tmp_path / "components").mkdir()
    (tmp_path / "components" / "__init__.py").touch()
    child = subprocess.run(
        [str(Path(sys.executable).with_name("ninefold")), "up", "arrivals"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert child.returncode == 2
    assert f"components leads to {tmp_path / 'components'}" in child.stderr
    assert "Traceback" not in child.stderr
