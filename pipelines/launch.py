"""Starting a run: it is recorded before it begins and when it ends, whoever asked for it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from components.run_result import result_path
from ninefold.errors import NinefoldError, NotFound, Outdated
from ninefold.loading import load_use_case
from ninefold.settings import Settings
from ninefold.store import Run
from ninefold.store.workers import at_work, end_abandoned
from pipelines.code_digest import code_digest
from pipelines.compile import PIPELINES
from pipelines.parameters import check_parameters
from pipelines.run import Finished, Step, run_pipeline

if TYPE_CHECKING:
    from ninefold.clock import Clock
    from ninefold.store import Store


def request_run(pipeline: str, use_case: str, parameters: Mapping[str, Any], *, store: Store, clock: Clock) -> Run:
    """Checks a run's parameters and records that it was asked for.

    Raises:
        UsageError: There is no such pipeline.
        UnknownUseCase, InvalidInput, ConfigurationError: A parameter is wrong.
    """
    checked = check_parameters(pipeline, use_case, parameters)
    now = clock.now()
    run = Run(
        run_id=f"{pipeline}-{load_use_case(use_case).name}-{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}",
        pipeline=pipeline,
        use_case=use_case,
        state="requested",
        started_at=now,
        parameters=checked.to_json(),
    )
    store.write_run(run)
    return run


def execute_run(
    run: Run, *, store: Store, settings: Settings, on_step: Callable[[Step], None] = lambda _: None
) -> tuple[Finished, dict[str, Any]] | None:
    """Runs what was asked for, here and now; before it, runs whose workers are gone are recorded as failed.

    Returns:
        How it ended, and the result that its last step wrote; None when somebody else took the run.

    Raises:
        StepFailed: A step failed; the run is recorded as failed.
        Outdated: Somebody else ended the run, because its worker could not be heard of for long.
    """
    end_abandoned(store)
    with at_work(store, run.run_id) as mine:
        if not mine or not store.update_run(run.run_id, state="running", expected="requested"):
            return None
        return _work(run, store, settings, on_step)


def _work(
    run: Run, store: Store, settings: Settings, on_step: Callable[[Step], None]
) -> tuple[Finished, dict[str, Any]]:
    def report(step: Step) -> None:
        if not store.update_run(run.run_id, state="running", step=step.name, expected="running"):
            raise Outdated(f"The run {run.run_id} was ended by somebody else.", remedy="Ask for a new one.")
        on_step(step)

    try:
        arguments = {
            "use_case": run.use_case,
            **run.parameters,
            "run_id": run.run_id,
            "code_digest": code_digest(run.use_case),
        }
        finished = run_pipeline(
            PIPELINES[run.pipeline], arguments, run_id=run.run_id, settings=settings, on_step=report
        )
        result = read_result(run, settings)
    except BaseException as error:
        # Also when it is interrupted: a run that nobody works on must not look as if it ran.
        store.update_run(run.run_id, state="failed", error=_words(error), expected="running")
        raise
    store.update_run(run.run_id, state="succeeded", expected="running")
    return finished, result


def _words(error: BaseException) -> str:
    if isinstance(error, NinefoldError):
        return str(error)
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return "It was interrupted."
    return f"{type(error).__name__}: {error}"


def read_result(run: Run, settings: Settings) -> dict[str, Any]:
    """What the last step of a run wrote: its decision, evaluations, and where the report lies.

    Raises:
        NotFound: The run has no result (yet).
    """
    path = result_path(settings, load_use_case(run.use_case).name, run.run_id)
    try:
        result: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise NotFound(f"The run {run.run_id} has no result: {path} is missing.") from error
    return result
