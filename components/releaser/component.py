"""The releaser's step: a thin shell for Kubeflow Pipelines."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def release(
    use_case: str,
    run_id: str,
    until: str,
    action: str,
    baseline_digest: str,
    digest: str,
    baseline: dsl.Input[dsl.Model],
    package: dsl.Input[dsl.Model],
    snapshot: dsl.Input[dsl.Artifact],
    test: dsl.Input[dsl.Dataset],
    evidence: dsl.Input[dsl.Artifact],
    decision: dsl.Input[dsl.Artifact],
    report: dsl.Input[dsl.HTML],
    summary: dsl.Input[dsl.Markdown],
    result: dsl.Output[dsl.Artifact],
) -> int:
    """Records what was decided; a candidate that passed becomes a version. Returns its number, or -1."""
    from pathlib import Path

    from components.releaser.steps import bring_snapshot, record_and_release, result_path

    bring_snapshot(use_case, Path(snapshot.path))
    version = record_and_release(
        use_case=use_case,
        run_id=run_id,
        until=until,
        action=action,
        baseline=(baseline.path, baseline_digest),
        candidate=(package.path, digest),
        test=test.path,
        evidence=evidence.path,
        decision=decision.path,
        report=report.path,
        summary=summary.path,
    )
    Path(result.path).write_text(result_path(use_case, run_id).read_text())
    return version
