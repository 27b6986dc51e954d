"""The preparer's steps: thin shells for Kubeflow Pipelines."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def split(
    use_case: str,
    until: str,
    code_digest: str,
    snapshot: dsl.Input[dsl.Artifact],
    training: dsl.Output[dsl.Dataset],
    validation: dsl.Output[dsl.Dataset],
    test: dsl.Output[dsl.Dataset],
    notes: dsl.Output[dsl.Artifact],
) -> None:
    """Divides the requests and their truths, as known at `until`, with nothing crossing."""
    from components.preparer.steps import split_snapshot

    outputs = {"training": training.path, "validation": validation.path, "test": test.path, "notes": notes.path}
    split_snapshot(use_case, until, snapshot.path, outputs)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare(
    use_case: str,
    code_digest: str,
    training: dsl.Input[dsl.Dataset],
    validation: dsl.Input[dsl.Dataset],
    test: dsl.Input[dsl.Dataset],
    notes: dsl.Input[dsl.Artifact],
    prepared_training: dsl.Output[dsl.Dataset],
    prepared_validation: dsl.Output[dsl.Dataset],
    prepared_test: dsl.Output[dsl.Dataset],
    what_was_dropped: dsl.Output[dsl.Markdown],
) -> None:
    """Sanitises all parts; oversamples or augments the training part alone."""
    from components.preparer.steps import prepare_parts

    parts = {"training": training.path, "validation": validation.path, "test": test.path}
    outputs = {
        "training": prepared_training.path,
        "validation": prepared_validation.path,
        "test": prepared_test.path,
        "report": what_was_dropped.path,
    }
    prepare_parts(use_case, parts, notes.path, outputs)
