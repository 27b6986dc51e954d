"""The model builder's step: a thin shell for Kubeflow Pipelines."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def build(
    max_training_time: float,
    max_trials: int,
    seed: int,
    code_digest: str,
    training: dsl.Input[dsl.Dataset],
    validation: dsl.Input[dsl.Dataset],
    package: dsl.Output[dsl.Model],
    leaderboard: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Searches for the best model, packages it, and returns the package's digest."""
    from components.metrics_artifact import log_metrics
    from components.model_builder.steps import build_package

    digest, values = build_package(
        training.path,
        validation.path,
        max_training_time=max_training_time,
        max_trials=max_trials,
        seed=seed,
        folder=package.path,
        leaderboard=leaderboard.path,
    )
    log_metrics(metrics, values)
    return digest
