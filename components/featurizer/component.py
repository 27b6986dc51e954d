"""The featurizer's steps: thin shells for Kubeflow Pipelines."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def featurize(
    use_case: str,
    windows: dict[str, str],
    live_lengths: dict[str, str],
    code_digest: str,
    snapshot: dsl.Input[dsl.Artifact],
    training: dsl.Input[dsl.Dataset],
    validation: dsl.Input[dsl.Dataset],
    test: dsl.Input[dsl.Dataset],
    featurized_training: dsl.Output[dsl.Dataset],
    featurized_validation: dsl.Output[dsl.Dataset],
    featurized_test: dsl.Output[dsl.Dataset],
    live_test: dsl.Output[dsl.Dataset],
) -> None:
    """Joins features point in time; the test set also with the live version's window lengths."""
    from components.featurizer.steps import featurize_parts

    parts = {"training": training.path, "validation": validation.path, "test": test.path}
    outputs = {
        "training": featurized_training.path,
        "validation": featurized_validation.path,
        "test": featurized_test.path,
        "live_test": live_test.path,
    }
    featurize_parts(use_case, windows, live_lengths, snapshot.path, parts, outputs)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def materialize(
    use_case: str,
    since: str,
    until: str,
    run_id: str,
    code_digest: str,
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Reads history anew, and writes its newest rows into the online store."""
    from components.featurizer.refresh import refresh
    from components.metrics_artifact import log_metrics

    log_metrics(metrics, refresh(use_case, since, until, run_id, summary.path))
