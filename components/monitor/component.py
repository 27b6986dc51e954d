"""The monitor's step: a thin shell for Kubeflow Pipelines."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def monitor(
    use_case: str,
    since: str,
    until: str,
    run_id: str,
    code_digest: str,
    result: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
    page: dsl.Output[dsl.HTML],
) -> None:
    """Judges production: quality, drift, nulls, traffic; measures, reports and alerts."""
    from components.metrics_artifact import log_metrics
    from components.monitor.steps import monitor_step

    log_metrics(metrics, monitor_step(use_case, since, until, run_id, result.path, summary.path, page.path))
