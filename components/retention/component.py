"""Retention's step: a thin shell for Kubeflow Pipelines."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prune(
    use_case: str,
    until: str,
    run_id: str,
    code_digest: str,
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Removes what is older than the settings' retention says."""
    from components.metrics_artifact import log_metrics
    from components.retention.steps import prune_step

    log_metrics(metrics, prune_step(use_case, until, run_id, summary.path))
