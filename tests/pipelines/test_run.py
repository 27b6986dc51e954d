"""A run shows its steps, caches what it finished, and names the step that failed, its cause and how to go on."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from ninefold.errors import Outdated, StepFailed
from ninefold.settings import Settings, settings
from ninefold.store import Run, open_store, workers
from ninefold.store.workers import at_work, end_abandoned
from pipelines import compile as compiled
from pipelines.launch import execute_run, request_run
from pipelines.run import Step, _cause, _read, run_pipeline

PATH = "tiny_pipeline:tiny"
COMMAND = """
import sys
from datetime import timedelta
from ninefold.cli import main
from ninefold.store import workers
from pipelines import compile as compiled
workers.LASTING = timedelta(seconds=1.5)
compiled.PIPELINES["training"] = "tiny_pipeline:tiny"
sys.argv = ["ninefold", "run", "training", "churn", "--seed", "60"]
main()
"""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
    return settings()


def _run(here: Settings, run_id: str, seed: int = 0) -> list[Step]:
    steps: list[Step] = []
    arguments = {"use_case": "arrivals", "run_id": run_id, "code_digest": "d", "seed": seed}
    run_pipeline(PATH, arguments, run_id=run_id, settings=here, on_step=steps.append)
    return steps


def test_steps_are_told_of_as_they_go_and_are_cached_the_second_time(here: Settings) -> None:
    states = [(s.name, s.state) for s in _run(here, "a")]
    assert states == [("first", "running"), ("first", "done"), ("second", "running"), ("second", "done")]
    assert [(s.name, s.state) for s in _run(here, "b")] == [
        ("first", "cached"),
        ("second", "running"),
        ("second", "done"),
    ]


def test_a_failing_step_is_named_with_its_cause_and_the_way_to_resume(here: Settings) -> None:
    with pytest.raises(StepFailed, match=r"'second' failed: the well is dry\. Dig deeper\. \(DataError\)") as caught:
        _run(here, "a", seed=13)
    assert "resume" in str(caught.value)
    log = (here.home / "logs" / "runs" / "a.log").read_text()
    # Once: retries are for a cluster's troubles.
    assert log.count("DataError: the well is dry") == 1
    resumed = _run(here, "b")
    assert resumed[0] == Step(name="first", state="cached")


def _eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not check():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def _is_found_abandoned(here: Settings) -> None:
    with open_store(here.store_url) as store:
        (killed,) = store.runs()
        # Nothing says that it was killed, until it has not been heard of for long enough.
        assert killed.state == "running"
        _eventually(lambda: [run.run_id for run in end_abandoned(store)] == [killed.run_id])
        (run,) = store.runs()
        assert (run.state, run.ended_at is not None) == ("failed", True)
        assert "went away during the step 'second'" in str(run.error)
        assert end_abandoned(store) == []


def test_a_run_that_is_worked_on_is_not_taken_for_abandoned(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LASTING", timedelta(seconds=2))
    with open_store(here.store_url) as store:
        now = store.clock.now()
        store.write_run(Run(run_id="r", pipeline="training", use_case="churn", state="running", started_at=now))
        with at_work(store, "r") as mine:
            assert mine
            deadline = time.monotonic() + 4.5
            while time.monotonic() < deadline:
                assert end_abandoned(store) == []
                with at_work(store, "r") as second:
                    assert not second
                time.sleep(0.05)
        assert [run.run_id for run in end_abandoned(store)] == ["r"]


def test_a_worker_that_was_given_up_stops_at_its_next_step(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(compiled.PIPELINES, "training", PATH)
    with open_store(here.store_url) as store:
        asked = request_run("training", "churn", {}, store=store, clock=store.clock)

        def lose(step: Step) -> None:
            store.update_run(asked.run_id, state="failed", error="given up")

        with pytest.raises(Outdated, match="ended by somebody else"):
            execute_run(asked, store=store, settings=here, on_step=lose)
        (run,) = store.runs()
    assert (run.state, run.step, run.error) == ("failed", "first", "given up")
    assert not (here.home / "reports" / "arrivals" / asked.run_id).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_process_and_is_recorded(here: Settings, number: signal.Signals) -> None:
    started = subprocess.Popen([sys.executable, "-c", COMMAND], stderr=subprocess.PIPE, text=True)
    step = here.home / "run" / "step"
    _eventually(lambda: step.exists() and step.read_text() != "")
    pid = int(step.read_text())
    assert psutil.pid_exists(pid)
    started.send_signal(number)
    _, said = started.communicate(timeout=90)
    _eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    if number == signal.SIGKILL:
        _is_found_abandoned(here)
        return
    assert started.returncode == 130
    assert said.strip().endswith("Run the same command again to resume: finished steps are cached.")
    with contextlib.closing(open_store(here.store_url)) as store:
        (run,) = store.runs()
    assert (run.state, run.step, run.error) == ("failed", "second", "It was interrupted.")


KFP = [
    "12:00:00 - ERROR - Task 'extract' finished with status FAILURE",
    "Traceback (most recent call last):",
    '  File "kfp/local/pipeline_orchestrator.py", line 184, in log_and_maybe_raise_for_failure',
    "RuntimeError: Pipeline 'training' finished with status FAILURE. Inner task failed: 'extract'.",
]
FRAMES = ["    Traceback (most recent call last):", '      File "x.py", line 1, in f', "        assert truths"]


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (
            [*FRAMES, "    ninefold.errors.DataError: truths: no rows. Extract."],
            "truths: no rows. Extract. (DataError)",
        ),
        ([*FRAMES, "    AssertionError"], "AssertionError"),
        ([*FRAMES, "    zipfile.BadZipFile: File is not a zip file"], "File is not a zip file (BadZipFile)"),
        ([*FRAMES, "    KeyError: 'a'", "    ", *FRAMES, "    ValueError: two", "    lines"], "two (ValueError)"),
        (["        }", "    }", "    Killed"], "it was killed, as the system does when memory runs out"),
        (["        }", "    }"], "it ended without a word"),
        ([], "it ended without a word"),
    ],
)
def test_the_cause_is_what_the_step_itself_ended_in(words: list[str], cause: str) -> None:
    assert _cause([*words, *KFP]) == cause


def test_a_run_that_does_not_come_to_a_step_says_why() -> None:
    assert _cause(["Traceback (most recent call last):", "ModuleNotFoundError: No module named 'kfp'"]) == (
        "No module named 'kfp' (ModuleNotFoundError)"
    )
    assert _cause([]) == "it ended without a word"


def test_each_task_of_a_loop_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: dict[str, list[float]] = {}
    seconds = []
    for at, line in enumerate(
        ["Executing task 'branch'", "Executing task 'branch'", "Task 'branch' finished with status SUCCESS",
         "Executing task 'branch'", "Task 'branch' finished with status SUCCESS",
         "Task 'branch' finished with status SUCCESS"]
    ):  # fmt: skip
        monkeypatch.setattr(time, "monotonic", lambda at=at: float(at))
        step = _read(line, {}, begun)
        assert step is not None
        seconds.append(step.seconds)
    assert seconds == [0, 0, 2, 0, 3, 2]
