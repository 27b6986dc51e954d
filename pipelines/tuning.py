"""The tuning pipeline: window lengths and a model searched together, then judged and released as in training.

look-up → extract → split → featurize → prepare → evaluate-baseline, all as in training; beside it
plan-branches → featurize-lengths → search-branch (each branch) → choose-lengths; then at the chosen lengths
featurize → prepare → search-further → predict → evaluate → decide → release → record-tuning
"""

from kfp import dsl

from components.image import IMAGE
from components.tuner.component import (
    choose_lengths,
    featurize_lengths,
    plan_branches,
    record_tuning,
    search_branch,
    search_further,
)
from pipelines.stages import Stages


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
    stages = Stages(use_case=use_case, until=until, run_id=run_id, code_digest=code_digest, image=image)
    # The baseline is version 0 whatever becomes of the candidate: at its own lengths.
    baseline = stages.baseline(stages.sets({}))
    planned = stages.on_image(
        plan_branches(
            use_case=use_case,
            branches=branches,
            max_training_time=max_training_time,
            seed=seed,
            code_digest=code_digest,
        )
    )
    lengths = stages.on_image(
        featurize_lengths(
            use_case=use_case,
            branches=planned.output,
            code_digest=code_digest,
            snapshot=stages.snapshot,
            **stages.examples,
        )
    )
    with dsl.ParallelFor(planned.output) as branch:
        searched = stages.on_image(
            search_branch(
                use_case=use_case,
                branch=branch,
                seed=seed,
                code_digest=code_digest,
                features=lengths.outputs["features"],
                notes=stages.notes,
                **stages.examples,
            )
        )
    chosen = stages.on_image(
        choose_lengths(
            max_training_time=max_training_time, code_digest=code_digest, found=dsl.Collected(searched.outputs["found"])
        )
    )
    # From here on the chosen lengths go the way of every candidate; the test set is judged by once, at its end.
    sets = stages.sets(chosen.outputs["lengths"])
    built = stages.on_image(
        search_further(
            seconds=chosen.outputs["seconds"],
            seed=seed,
            code_digest=code_digest,
            found=dsl.Collected(searched.outputs["found"]),
            **sets.parts("training", "validation"),
        )
    )
    released = stages.release(sets, baseline=baseline, built=built)
    stages.on_image(
        record_tuning(use_case=use_case, run_id=run_id, tuning=built.outputs["tuning"]).after(released), caching=False
    )
