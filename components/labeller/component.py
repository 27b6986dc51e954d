"""The labeller's steps: thin shells for Kubeflow Pipelines."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def collect_labels(
    use_case: str,
    code_digest: str,
    collected: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Brings home what experts said since the run before."""
    from components.labeller.steps import collect_step
    from components.metrics_artifact import log_metrics

    log_metrics(metrics, collect_step(use_case, collected.path))


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def send_tasks(
    use_case: str,
    count: int,
    mix: str,
    since: str,
    until: str,
    run_id: str,
    code_digest: str,
    collected: dsl.Input[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Picks from what production answered, sends it to experts, and reports."""
    from components.labeller.steps import send_step
    from components.metrics_artifact import log_metrics

    log_metrics(metrics, send_step(use_case, count, mix, since, until, run_id, collected.path, summary.path))
