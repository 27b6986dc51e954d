"""A schedule is six-field cron in UTC, seconds first; runs never overlap, and what is missed is counted."""

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ninefold.clock import EventClock, parse_instant
from ninefold.errors import InvalidInput, StepFailed
from ninefold.settings import settings
from ninefold.store import open_store
from pipelines.schedule import Schedule, keep_running

START = datetime(2013, 7, 1, 12, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("0 0 3 * * 1", datetime(2013, 7, 8, 3, tzinfo=UTC)),
        ("15 * * * * *", datetime(2013, 7, 1, 12, 1, 15, tzinfo=UTC)),
        ("0 30 6 1 * *", datetime(2013, 8, 1, 6, 30, tzinfo=UTC)),
    ],
)
def test_the_first_field_is_the_second(expression: str, due: datetime) -> None:
    assert Schedule(expression).after(START) == due


@pytest.mark.parametrize("expression", ["", "0 3 * * 1", "0 0 25 * * *", "a b c d e f", "0 0 3 * * 1 2013"])
def test_anything_else_is_refused_with_an_example(expression: str) -> None:
    with pytest.raises(InvalidInput, match="03:00 UTC"):
        Schedule(expression)


def test_a_day_that_never_comes_is_refused_at_once() -> None:
    with pytest.raises(InvalidInput, match="never due"):
        Schedule("0 0 0 30 2 *")
    assert Schedule("0 0 0 29 2 *").after(START) == datetime(2016, 2, 29, tzinfo=UTC)


def _simulate(
    seconds_a_job: float, jobs: int, fail_on: int | None = None, failure: Exception | None = None
) -> tuple[list[datetime], dict[str, int]]:
    clock, stop, ran = EventClock(START), threading.Event(), []

    def job(due: datetime) -> None:
        ran.append(due)
        clock.advance(clock.now() + timedelta(seconds=seconds_a_job))
        if len(ran) >= jobs:
            stop.set()
        if len(ran) == fail_on:
            raise failure or StepFailed("build broke")

    def wait(seconds: float) -> bool:
        clock.advance(clock.now() + timedelta(seconds=seconds))
        return stop.is_set()

    counts = keep_running(Schedule("0 * * * * *"), job, clock=clock, stop=stop, wait=wait)
    return ran, counts


def test_a_job_runs_at_each_due_instant() -> None:
    ran, counts = _simulate(seconds_a_job=5, jobs=3)
    assert ran == [datetime(2013, 7, 1, 12, minute, tzinfo=UTC) for minute in (1, 2, 3)]
    assert counts == {"ran": 3, "failed": 0, "missed": 0}


def test_runs_never_overlap_and_the_missed_ones_are_counted() -> None:
    ran, counts = _simulate(seconds_a_job=150, jobs=2)
    assert ran == [datetime(2013, 7, 1, 12, minute, tzinfo=UTC) for minute in (1, 4)]
    assert counts["missed"] == 4


@pytest.mark.parametrize("failure", [StepFailed("build broke"), ModuleNotFoundError("a use case that is edited")])
def test_a_failed_run_is_counted_and_the_schedule_goes_on(failure: Exception) -> None:
    ran, counts = _simulate(seconds_a_job=5, jobs=3, fail_on=1, failure=failure)
    assert len(ran) == 3
    assert counts == {"ran": 2, "failed": 1, "missed": 0}


COMMAND = """
import sys
from ninefold.cli import main
from pipelines import commands
from pipelines import compile as compiled
compiled.PIPELINES["training"] = "tiny_pipeline:tiny"
commands.print_result = lambda console, result: console.print(result["word"])
sys.argv = ["ninefold", "schedule", "training", "arrivals", "--cron", "*/3 * * * * *"]
main()
"""


@pytest.mark.slow
def test_the_command_runs_until_it_is_told_to_stop_and_each_run_knows_its_due_instant() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        deadline = time.monotonic() + 120
        with open_store(settings().store_url) as store:
            while len(store.runs(state="succeeded")) < 2:
                assert process.poll() is None
                assert time.monotonic() < deadline, "no run came to its end"
                time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=60)
            runs = store.runs()
    finally:
        process.kill()
    assert process.returncode == 0, said
    # The one that was under way at the signal has come to its end, too.
    assert {run.state for run in runs} == {"succeeded"}
    assert f"Stopped. {len(runs)} ran, 0 failed" in said
    assert said.count("ARRIVALS") == len(runs)
    for run in runs:
        due = parse_instant(str(run.parameters["until"]))
        assert (due.second % 3, due.microsecond) == (0, 0)
        assert timedelta(0) <= run.started_at - due < timedelta(minutes=1)
