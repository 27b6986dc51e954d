"""With a real Label Studio and a real browser: two hundred tasks become two hundred truths, each once."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.labeller.collect import collect
from components.labeller.connection import connect, credentials
from components.labeller.label_studio import LabelStudio
from components.labeller.selection import by_keys, label_tasks
from components.labeller.send import send
from ninefold.clock import WallClock
from ninefold.errors import Unavailable
from ninefold.loading import load_use_case
from ninefold.settings import Settings, settings
from ninefold.store import Store

ROOT = Path(__file__).parents[3]
REVIEWS = load_use_case("reviews")
ENVIRONMENT = Path(os.environ.get("NINEFOLD_LABELLING__ENVIRONMENT", ROOT / ".ninefold" / "label-studio" / "env"))
FRESH = ENVIRONMENT.parent / "fresh-for-tests"

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1_500),
    pytest.mark.skipif(
        not (ENVIRONMENT / "bin" / "label-studio").exists(),
        reason=f"no Label Studio in {ENVIRONMENT}: run `ninefold label up`, or set NINEFOLD_LABELLING__ENVIRONMENT",
    ),
]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.2)
    return found


class Up:
    """``ninefold label up``."""

    def __init__(self, log: Path, **environment: str) -> None:
        self._log, self._more = log, environment
        self.start()

    def start(self) -> None:
        with self._log.open("wb") as output:
            command = [sys.executable, "-m", "components.labeller", "up"]
            environment = {**_environment(), **self._more}
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env=environment)

    def said(self) -> str:
        return self._log.read_text()

    def wait(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.said()
            return "Log in as" in self.said()

        until(ready, 600)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Label Studio's first start leaves, made once: it takes longer than all the rest."""
    if not FRESH.exists():
        home = tmp_path_factory.mktemp("fresh")
        running = Up(
            home / "up.log", NINEFOLD_HOME=str(home), NINEFOLD_LABELLING__ENVIRONMENT=str(ENVIRONMENT),
            NINEFOLD_PORTS__LABEL_STUDIO=str(free_port()),
        )  # fmt: skip
        try:
            running.wait()
        finally:
            running.stop()
        shutil.copytree(home / "label-studio", f"{FRESH}.part")
        Path(f"{FRESH}.part").rename(FRESH)
    return FRESH


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, fresh: Path) -> Settings:
    monkeypatch.setenv("NINEFOLD_LABELLING__ENVIRONMENT", str(ENVIRONMENT))
    for port in ("LABEL_STUDIO", "COLLECTOR"):
        monkeypatch.setenv(f"NINEFOLD_PORTS__{port}", str(free_port()))
    settings.cache_clear()
    shutil.copytree(fresh, settings().home / "label-studio")
    return settings()


@pytest.fixture
def up(here: Settings, tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path / "up.log")
    try:
        running.wait()
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()


@pytest.fixture
def collector(here: Settings, tmp_path: Path) -> Iterator[str]:
    subprocess.run([sys.executable, "-m", "ninefold", "key", "create", "test"], check=True, env=_environment())
    url = f"http://127.0.0.1:{here.ports.collector}"
    with (tmp_path / "collector.log").open("wb") as log:
        command = [sys.executable, "-m", "serving.collector", "--use-case", "reviews"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=_environment())

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(ready)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def answer(studio: LabelStudio, task: dict[str, Any], label: str) -> None:
    part = {"from_name": "answer", "to_name": "shown_input", "type": "choices", "value": {"choices": [label]}}
    studio.call("POST", f"/api/tasks/{task['id']}/annotations", json={"result": [part], "lead_time": 2})


def test_two_hundred_tasks_one_of_them_in_a_browser_are_two_hundred_truths(
    store: Store, here: Settings, up: Up, collector: str, browsing: Any, tmp_path: Path
) -> None:
    if missing := browsing.missing_browser():
        pytest.skip(f"no browser: {missing}")
    keys = [f"r{i:03}" for i in range(200)]
    tasks = label_tasks("reviews", by_keys(store, REVIEWS, keys).picks, "b1", WallClock().now())
    restarts = 0

    def tell(line: str) -> None:
        nonlocal restarts
        if not restarts and re.search(r"100 of 200 sent", line):
            # In the middle of the send it goes, and comes back while the send waits for it.
            restarts += 1
            assert up.stop() == 0
            up.start()

    with connect(here) as studio:
        sent = send(store, REVIEWS, studio, tasks, here, tell)
        assert (restarts, sent.new, sent.imported, sent.waiting) == (1, 200, 200, 200)
        up.wait()
        again = send(store, REVIEWS, studio, tasks, here)
        assert (again.new, again.imported, again.waiting) == (0, 0, 200)

        who = credentials(here)
        with browsing.browser(tmp_path, free_port()) as window:
            window.open(f"{studio.url}/user/login/")
            window.type("//input[@name='email']", who.username)
            window.type("//input[@name='password']", who.password)
            window.click("//button[@type='submit']")
            until(lambda: "login" not in window.url())
            window.open(f"{sent.url}/data?labeling=1")
            window.find("//*[contains(text(), 'Does its author find the product great?')]")
            shown = window.text()
            assert "Review 0 of the tea." in shown
            assert "Why this one: Somebody picked it by hand." in shown
            assert "Version 1 answered: great, with a probability of 0.50." in shown
            assert "Great is what gets the best mark" in shown
            window.click("//button[@aria-label='Close modal']")
            # The expert has to say something: nothing is filled in.
            assert window.run("return document.querySelectorAll('input[type=radio]:checked').length") == 0
            window.click("//*[text()='other']")
            window.picture(tmp_path / "task.png")
            window.click("//button[@aria-label='Submit current annotation']")
            # The webhook tells the collector, before anybody collects.
            [truth] = until(lambda: list(store.truths("reviews")))
        assert (truth.key, truth.value, truth.source, truth.annotator) == ("r000", 0.0, "labeller", who.username)

        everything = list(studio.tasks(sent.project))
        for task in everything:
            if not task["annotations"]:
                answer(studio, task, "great")
        first = collect(store, REVIEWS, studio, now=WallClock().now())
        second = collect(store, REVIEWS, studio, now=WallClock().now())
    assert (first.states["settled"], second.annotations, second.truths) == (200, 0, 0)
    assert store.counts()["truths"] == store.counts()["annotations"] == 200
    assert len(list(store.truths("reviews"))) == 200
    assert up.stop() == 0
    with connect(here) as studio, pytest.raises(Unavailable, match="ninefold label up"):
        studio.version()


def test_a_real_project_edited_by_hand_and_one_that_says_no(store: Store, here: Settings, up: Up) -> None:
    tasks = label_tasks("reviews", by_keys(store, REVIEWS, ["r001", "r002", "r003"]).picks, "b1", WallClock().now())
    with connect(here) as studio:
        sent = send(store, REVIEWS, studio, tasks, here)
        declared = next(p for p in studio.projects() if p["id"] == sent.project)["label_config"]
        other = declared.replace('<Choice value="other"/>', '<Choice value="other"/><Choice value="superb"/>')
        assert other != declared
        studio.update_project(sent.project, {"label_config": other})
        first, second, third = list(studio.tasks(sent.project))
        answer(studio, first, "superb")
        answer(studio, second, "other")
        studio.call("POST", f"/api/tasks/{third['id']}/annotations", json={"result": [], "was_cancelled": True})
        studio.call("POST", f"/api/projects/{sent.project}/import", json=[{"data": {"shown_input": "by hand"}}])
        answer(studio, list(studio.tasks(sent.project))[-1], "great")
        found = collect(store, REVIEWS, studio, now=WallClock().now())
        assert (found.states["outside"], found.states["settled"], found.states["skipped"]) == (1, 1, 1)
        assert (found.unknown, found.truths) == (1, 1)
        told: list[str] = []
        send(store, REVIEWS, studio, (), here, told.append)
        now = next(p for p in studio.projects() if p["id"] == sent.project)["label_config"]
        assert now == declared or "keeps its label config" in told[0]
        # A second one in the same home is refused.
        twice = subprocess.run(
            [sys.executable, "-m", "components.labeller", "up"], cwd=ROOT, env=_environment(), capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert twice.returncode == 2
        assert "runs already" in twice.stderr
