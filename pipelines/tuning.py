"""The tuning pipeline: window lengths and a model searched together, then judged and released as in training.

look-up → extract → split → featurize → prepare → evaluate-baseline, all as in training; beside it
plan-branches → featurize-lengths → search-branch (each branch) → choose-lengths; then at the chosen lengths
featurize → prepare → search-further → predict → evaluate → decide → release → record-tuning
"""

from kfp import dsl
from kfp.dsl.pipeline_channel import PipelineChannel

from components.collector.component import extract, look_up
from components.evaluator.component import decide, evaluate, evaluate_baseline, predict
from components.featurizer.component import featurize
from components.image import IMAGE
from components.preparer.component import prepare, split
from components.releaser.component import release
from components.tuner.component import (
    choose_lengths,
    featurize_lengths,
    plan_branches,
    record_tuning,
    search_branch,
    search_further,
)


@dsl.pipeline(
    name="tuning",
    description="Window lengths and model searched together in parallel branches, within one budget.",
)
def tuning(
    use_case: str,
    until: str = "",
    max_training_time: float = 240.0,
    branches: int = 4,
    seed: int = 0,
    run_id: str = "",
    code_digest: str = "",
    image: str = IMAGE,
) -> None:
    """Tunes a use case.

    Args:
        use_case: Name or import path.
        until: Only what was known before this instant is used; empty for everything known.
        max_training_time: Seconds that all searches together may take.
        branches: Choices of window lengths to try, at most; the declared one is the first of them.
        seed: Seed of every search, and of the choices.
        run_id: Names the run's report and result.
        code_digest: Digest of the code that the steps run; it keeps caching right where the image does not change.
        image: Image that the steps run in.
    """

    def on_image(task: dsl.PipelineTask, *, caching: bool = True) -> dsl.PipelineTask:
        task.set_container_image(image)
        task.set_caching_options(caching)
        return task

    now = on_image(look_up(use_case=use_case), caching=False)
    history = on_image(extract(use_case=use_case, production=now.outputs["production"], code_digest=code_digest))
    snapshot = history.outputs["snapshot"]
    parts = on_image(split(use_case=use_case, until=until, code_digest=code_digest, snapshot=snapshot))
    examples = {name: parts.outputs[name] for name in ("training", "validation", "test")}

    def at_lengths(windows: dict[str, str] | PipelineChannel) -> tuple[dsl.PipelineTask, dsl.PipelineTask]:
        featurized = on_image(
            featurize(
                use_case=use_case,
                windows=windows,
                live_lengths=now.outputs["lengths"],
                code_digest=code_digest,
                snapshot=snapshot,
                **examples,
            )
        )
        made = {name: featurized.outputs[f"featurized_{name}"] for name in examples}
        notes = parts.outputs["notes"]
        return featurized, on_image(prepare(use_case=use_case, code_digest=code_digest, notes=notes, **made))

    # The baseline is version 0 whatever becomes of the candidate: at its own lengths.
    _, declared = at_lengths({})
    baseline = on_image(
        evaluate_baseline(code_digest=code_digest, **{name: declared.outputs[f"prepared_{name}"] for name in examples})
    )
    planned = on_image(
        plan_branches(
            use_case=use_case,
            branches=branches,
            max_training_time=max_training_time,
            seed=seed,
            code_digest=code_digest,
        )
    )
    lengths = on_image(
        featurize_lengths(
            use_case=use_case, branches=planned.output, code_digest=code_digest, snapshot=snapshot, **examples
        )
    )
    with dsl.ParallelFor(planned.output) as branch:
        searched = on_image(
            search_branch(
                use_case=use_case,
                branch=branch,
                seed=seed,
                code_digest=code_digest,
                features=lengths.outputs["features"],
                notes=parts.outputs["notes"],
                **examples,
            )
        )
    chosen = on_image(
        choose_lengths(
            max_training_time=max_training_time,
            code_digest=code_digest,
            found=dsl.Collected(searched.outputs["found"]),
        )
    )
    # From here on the chosen lengths go the way of every candidate; the test set is judged by once, at its end.
    features, prepared = at_lengths(chosen.outputs["lengths"])
    sets = {name: prepared.outputs[f"prepared_{name}"] for name in ("training", "validation")}
    test = prepared.outputs["prepared_test"]
    built = on_image(
        search_further(
            seconds=chosen.outputs["seconds"],
            seed=seed,
            code_digest=code_digest,
            found=dsl.Collected(searched.outputs["found"]),
            **sets,
        )
    )
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
    released = on_image(
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
    on_image(
        record_tuning(use_case=use_case, run_id=run_id, tuning=built.outputs["tuning"]).after(released), caching=False
    )
