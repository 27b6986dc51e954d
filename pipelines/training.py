"""The training pipeline: one definition for the laptop and the cluster.

look-up → extract → split → featurize → prepare → evaluate-baseline ∥ build → predict → evaluate → decide → release
"""

from kfp import dsl

from components.collector.component import extract, look_up
from components.evaluator.component import decide, evaluate, evaluate_baseline, predict
from components.featurizer.component import featurize
from components.image import IMAGE
from components.model_builder.component import build
from components.preparer.component import prepare, split
from components.releaser.component import release


@dsl.pipeline(
    name="training",
    description="From sources and production to an evaluated, gated and released model.",
)
def training(
    use_case: str,
    until: str = "",
    max_training_time: float = 120.0,
    windows: dict[str, str] = {},  # noqa: B006 - KFP reads it as the parameter's default
    seed: int = 0,
    run_id: str = "",
    code_digest: str = "",
    image: str = IMAGE,
) -> None:
    """Trains a use case.

    Args:
        use_case: Name or import path.
        until: Only what was known before this instant is used; empty for everything known.
        max_training_time: Seconds that the search for a model may take.
        windows: Window name → length, where another than the declared one is wanted.
        seed: Seed of the search.
        run_id: Names the run's report and result.
        code_digest: Digest of the code that the steps run; it keeps caching right where the image does not change.
        image: Image that the steps run in.
    """

    def on_image(task: dsl.PipelineTask, *, caching: bool = True) -> dsl.PipelineTask:
        task.set_container_image(image)
        task.set_caching_options(caching)
        return task

    # What production holds changes without any argument changing: this step is never cached.
    now = on_image(look_up(use_case=use_case), caching=False)
    history = on_image(extract(use_case=use_case, production=now.outputs["production"], code_digest=code_digest))
    snapshot = history.outputs["snapshot"]
    parts = on_image(split(use_case=use_case, until=until, code_digest=code_digest, snapshot=snapshot))
    features = on_image(
        featurize(
            use_case=use_case,
            windows=windows,
            live_lengths=now.outputs["lengths"],
            code_digest=code_digest,
            snapshot=snapshot,
            training=parts.outputs["training"],
            validation=parts.outputs["validation"],
            test=parts.outputs["test"],
        )
    )
    prepared = on_image(
        prepare(
            use_case=use_case,
            code_digest=code_digest,
            training=features.outputs["featurized_training"],
            validation=features.outputs["featurized_validation"],
            test=features.outputs["featurized_test"],
            notes=parts.outputs["notes"],
        )
    )
    sets = {
        "training": prepared.outputs["prepared_training"],
        "validation": prepared.outputs["prepared_validation"],
    }
    test = prepared.outputs["prepared_test"]
    baseline = on_image(evaluate_baseline(code_digest=code_digest, test=test, **sets))
    built = on_image(build(max_training_time=max_training_time, seed=seed, code_digest=code_digest, **sets))
    digest = built.outputs["Output"]
    predicted = on_image(
        predict(
            digest=digest,
            live_version=now.outputs["version"],
            live_digest=now.outputs["digest"],
            live_uri=now.outputs["uri"],
            code_digest=code_digest,
            package=built.outputs["package"],
            test=test,
            live_test=features.outputs["live_test"],
        )
    )
    evaluated = on_image(
        evaluate(
            use_case=use_case,
            digest=digest,
            live_version=now.outputs["version"],
            code_digest=code_digest,
            package=built.outputs["package"],
            test=test,
            predictions=predicted.outputs["predictions"],
        ).after(baseline)
    )
    decided = on_image(decide(use_case=use_case, code_digest=code_digest, evidence=evaluated.outputs["evidence"]))
    on_image(
        release(
            use_case=use_case,
            run_id=run_id,
            until=until,
            action=decided.outputs["Output"],
            baseline_digest=baseline.outputs["Output"],
            digest=digest,
            baseline=baseline.outputs["package"],
            package=built.outputs["package"],
            test=test,
            evidence=evaluated.outputs["evidence"],
            decision=decided.outputs["decision"],
            report=decided.outputs["report"],
            summary=decided.outputs["summary"],
        ),
        caching=False,
    )
