"""The evaluator's steps: thin shells for Kubeflow Pipelines."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate_baseline(
    code_digest: str,
    training: dsl.Input[dsl.Dataset],
    validation: dsl.Input[dsl.Dataset],
    test: dsl.Input[dsl.Dataset],
    package: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Evaluates and packages the baseline, before any model, and returns the package's digest."""
    from components.evaluator.steps import package_and_evaluate_baseline
    from components.metrics_artifact import log_metrics

    digest, values = package_and_evaluate_baseline(training.path, validation.path, test.path, package.path)
    log_metrics(metrics, values)
    return digest


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def predict(
    digest: str,
    live_version: int,
    live_digest: str,
    live_uri: str,
    code_digest: str,
    package: dsl.Input[dsl.Model],
    test: dsl.Input[dsl.Dataset],
    live_test: dsl.Input[dsl.Dataset],
    predictions: dsl.Output[dsl.Artifact],
) -> None:
    """Predicts the test set with the candidate and with the live version."""
    from components.evaluator.steps import predict_test_set

    live = (live_version, live_digest, live_uri)
    predict_test_set(digest, package.path, test.path, live, live_test.path, predictions.path)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    use_case: str,
    digest: str,
    live_version: int,
    code_digest: str,
    package: dsl.Input[dsl.Model],
    test: dsl.Input[dsl.Dataset],
    predictions: dsl.Input[dsl.Artifact],
    evidence: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Judges baseline, live version and candidate on the test truths, and compares them by blocks."""
    from components.evaluator.steps import gather_evidence
    from components.metrics_artifact import log_metrics

    values = gather_evidence(use_case, digest, package.path, test.path, predictions.path, live_version, evidence.path)
    log_metrics(metrics, values)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def decide(
    use_case: str,
    code_digest: str,
    evidence: dsl.Input[dsl.Artifact],
    decision: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
) -> str:
    """Decides by the use case's gates, writes the report, and returns the action."""
    from components.evaluator.steps import decide_on

    return decide_on(use_case, evidence.path, decision.path, report.path, summary.path)
