"""The tuner's steps: thin shells for Kubeflow Pipelines."""

from typing import Any, NamedTuple

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plan_branches(use_case: str, branches: int, max_training_time: float, seed: int, code_digest: str) -> list[dict]:  # type: ignore[type-arg]
    """Chooses the window lengths to try, and divides half of the time between them."""
    from components.tuner.steps import plan

    return plan(use_case, branches, max_training_time, seed)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def featurize_lengths(
    use_case: str,
    branches: list[dict],  # type: ignore[type-arg]
    code_digest: str,
    snapshot: dsl.Input[dsl.Artifact],
    training: dsl.Input[dsl.Dataset],
    validation: dsl.Input[dsl.Dataset],
    test: dsl.Input[dsl.Dataset],
    features: dsl.Output[dsl.Dataset],
) -> None:
    """Computes windows at every length that a branch has, once for all of them; registers none."""
    from components.tuner.data import write_features

    parts = {"training": training.path, "validation": validation.path, "test": test.path}
    write_features(use_case, [branch["lengths"] for branch in branches], snapshot.path, parts, features.path)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def search_branch(
    use_case: str,
    branch: dict[str, Any],
    seed: int,
    code_digest: str,
    features: dsl.Input[dsl.Dataset],
    training: dsl.Input[dsl.Dataset],
    validation: dsl.Input[dsl.Dataset],
    test: dsl.Input[dsl.Dataset],
    notes: dsl.Input[dsl.Artifact],
    found: dsl.Output[dsl.Model],
) -> None:
    """Searches for the best model at one choice of window lengths. A search that fails is an outcome, too."""
    from components.tuner import steps
    from components.tuner.task import Features

    parts = {"training": training.path, "validation": validation.path, "test": test.path}
    data = Features(use_case=use_case, parts=parts, features=features.path, notes=notes.path)
    outcome = steps.search_branch(branch, seed, data, found.path)
    found.metadata["lengths"] = dict(outcome.lengths)
    found.metadata["validation"] = outcome.error or outcome.value


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def choose_lengths(max_training_time: float, code_digest: str, found: dsl.Input[list[dsl.Model]]) -> NamedTuple(  # type: ignore[valid-type]
    "Chosen", [("lengths", dict[str, str]), ("seconds", float)]
):
    """Takes the lengths of the branch with the best validation value, and says what is left of the time."""
    from collections import namedtuple

    from components.tuner import steps

    chosen = steps.choose_lengths([one.path for one in found], max_training_time)
    return namedtuple("Chosen", list(chosen))(**chosen)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def search_further(
    seconds: float,
    seed: int,
    code_digest: str,
    found: dsl.Input[list[dsl.Model]],
    training: dsl.Input[dsl.Dataset],
    validation: dsl.Input[dsl.Dataset],
    package: dsl.Output[dsl.Model],
    tuning: dsl.Output[dsl.Artifact],
    table: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Goes on from the best branch with the time that is left, and returns the better package's digest."""
    from components.metrics_artifact import log_metrics
    from components.tuner import steps

    digest, values = steps.search_further(
        folders=[one.path for one in found],
        seconds=seconds,
        seed=seed,
        training=training.path,
        validation=validation.path,
        package=package.path,
        tuning=tuning.path,
        table=table.path,
    )
    log_metrics(metrics, values)
    return digest


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def record_tuning(use_case: str, run_id: str, tuning: dsl.Input[dsl.Artifact]) -> None:
    """Adds the branches to the run's result."""
    from components.tuner import steps

    steps.record_tuning(use_case, run_id, tuning.path)
