"""The featurizer's step: a thin shell for Kubeflow Pipelines."""

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
