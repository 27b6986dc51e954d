"""A run shows its steps, caches what it finished, and names the step that failed, its cause and how to go on."""

import sys
from pathlib import Path

import pytest

from ninefold.errors import StepFailed
from ninefold.settings import Settings, settings
from pipelines.run import Step, _cause, run_pipeline

PATH = "tiny_pipeline:tiny"


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
    assert (here.home / "logs" / "runs" / "a.log").read_text()
    resumed = _run(here, "b")
    assert resumed[0] == Step(name="first", state="cached")


def test_the_cause_is_the_innermost_error_of_the_step() -> None:
    tail = [
        "Traceback (most recent call last):",
        '  File "x.py", line 1, in f',
        "ninefold.errors.DataError: truths: the columns truth are missing.",
        "Traceback (most recent call last):",
        "RuntimeError: Pipeline finished with status FAILURE.",
    ]
    assert _cause(tail) == "truths: the columns truth are missing. (DataError)"
    assert _cause(["Killed"]) == "Killed"
    assert _cause([]) == "no output"
