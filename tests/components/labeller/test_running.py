"""Installing and running Label Studio on this machine; what runs here is a small program in its place."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from components.labeller import installation
from components.labeller.connection import connect, credentials, folder
from components.labeller.installation import ensure_installed, is_installed, program
from ninefold.errors import ConfigurationError, Unavailable
from ninefold.settings import settings

ROOT = Path(__file__).parents[3]

PROGRAM = """#!{python}
import json, os, subprocess, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
here = Path.cwd()
if (here / "fails").exists():
    sys.exit("no space left on device")
child = subprocess.Popen(["sleep", "300"])
told = {{"environment": dict(os.environ), "arguments": sys.argv, "child": child.pid}}
(here / "told.json").write_text(json.dumps(told))
token = "Token " + os.environ["LABEL_STUDIO_USER_TOKEN"]
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def do_GET(self):
        known = self.headers["Authorization"] == token and not (here / "forgets").exists()
        self.send_response(200 if known or self.path == "/health" else 401)
        self.end_headers()
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def until(what: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with a small program, which the settings name; Label Studio's folder in the home."""
    path = tmp_path / "env" / "bin" / "label-studio"
    path.parent.mkdir(parents=True)
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(0o755)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        monkeypatch.setenv("NINEFOLD_PORTS__LABEL_STUDIO", str(listener.getsockname()[1]))
    monkeypatch.setenv("NINEFOLD_LABELLING__ENVIRONMENT", str(tmp_path / "env"))
    settings.cache_clear()
    return folder(settings())


def start(log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "components.labeller", "up"], cwd=ROOT, stdout=output, stderr=output,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip


def test_it_runs_until_sigterm_and_leaves_nothing_behind(place: Path, tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    process = start(log)
    try:
        until(lambda: "Log in as admin@localhost" in log.read_text() or process.poll() is not None)
        told = json.loads((place / "told.json").read_text())
        who = credentials(settings())
        assert who.password not in log.read_text()
        with connect(settings()) as studio:
            assert studio.call("GET", "/api/anything") is None
        second = start(tmp_path / "second.log")
        assert second.wait(30) == 2
        assert "runs already" in (tmp_path / "second.log").read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
    until(lambda: not psutil.pid_exists(told["child"]))
    environment = told["environment"]
    assert environment["LABEL_STUDIO_USER_TOKEN"] == who.token
    # Secrets are not where everybody on the machine can read them.
    assert not {who.token, who.password} & set(told["arguments"])
    assert environment["LABEL_STUDIO_COLLECT_ANALYTICS"] == environment["LABEL_STUDIO_LATEST_VERSION_CHECK"] == "false"
    assert environment["HTTPS_PROXY"] == "http://127.0.0.1:1"
    assert not [name for name in environment if name.startswith("NINEFOLD_")]
    assert told["arguments"][told["arguments"].index("--internal-host") + 1] == "127.0.0.1"


def test_one_that_ends_before_it_answers_says_why(place: Path, tmp_path: Path) -> None:
    (place / "fails").touch()
    process = start(tmp_path / "up.log")
    assert process.wait(30) == 1
    said = (tmp_path / "up.log").read_text()
    assert "ended with 1 before it answered. It last wrote: no space left on device" in said
    assert "Traceback" not in said


def test_one_that_knows_another_administrator_is_not_used(place: Path, tmp_path: Path) -> None:
    (place / "forgets").touch()
    process = start(tmp_path / "up.log")
    assert process.wait(30) == 2
    assert "does not admit the token of admin@localhost" in (tmp_path / "up.log").read_text()


def test_a_taken_port_is_named(place: Path, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", settings().ports.label_studio))
        listener.listen()
        assert start(tmp_path / "up.log").wait(30) == 2
    assert "NINEFOLD_PORTS__LABEL_STUDIO" in (tmp_path / "up.log").read_text()


def test_secrets_are_made_once_and_are_their_owner_s_alone() -> None:
    made = credentials(settings())
    assert credentials(settings()) == made
    path = folder(settings()) / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.write_text("{}")
    with pytest.raises(ConfigurationError, match="is broken"):
        credentials(settings())


def test_one_that_somebody_else_keeps_only_has_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NINEFOLD_LABELLING__ENVIRONMENT", str(tmp_path))
    settings.cache_clear()
    with pytest.raises(ConfigurationError, match="no Label Studio in"):
        ensure_installed(settings(), print)
    program(settings()).parent.mkdir()
    program(settings()).touch()
    ensure_installed(settings(), print)


def test_an_installation_that_fails_says_why_and_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(installation, "LIST", tmp_path / "list.txt")
    with pytest.raises(ConfigurationError, match=r"list\.txt, is missing"):
        ensure_installed(settings(), print)
    (tmp_path / "list.txt").write_text(f"label-studio==0.0.0 --hash=sha256:{'0' * 64}\n")
    for _ in range(2):
        told: list[str] = []
        with pytest.raises(Unavailable, match=r"can't be installed.*install\.log"):
            ensure_installed(settings(), told.append)
        assert told[0].startswith("Installing Label Studio 0.0.0 into ")
        assert not is_installed(settings())


def test_an_installation_of_another_list_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = settings().home / "label-studio" / "env"
    place.mkdir(parents=True)
    (tmp_path / "list.txt").write_text("one")
    monkeypatch.setattr(installation, "LIST", tmp_path / "list.txt")
    (place / "installed").write_text(installation._digest())
    assert is_installed(settings())
    (tmp_path / "list.txt").write_text("two")
    assert not is_installed(settings())
