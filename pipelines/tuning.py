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
from pipelines.platform import LIGHT, SEARCH, Place
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
    node_selector: dict[str, str] = {},  # noqa: B006
    tolerations: list[dict[str, str]] = [],  # noqa: B006
) -> None:
    """Tunes a use case.

    Args:
        use_case: Name or import path.
        until: Only what was known before this instant is used; empty for now, or everything known where there is no
            time.
        max_training_time: Seconds that all searches together may take.
        branches: Choices of window lengths to try, at most; the declared one is the first of them.
        seed: Seed of every search, and of the choices.
        run_id: Names the run's report and result.
        code_digest: Digest of the code that the steps run; it keeps caching right where the image does not change.
        image: Image that the steps run in.
        node_selector: Labels of the nodes that may run them.
        tolerations: Taints of nodes that they bear, as in a pod.
    """
    place = Place(image=image, node_selector=node_selector, tolerations=tolerations)
    stages = Stages(use_case=use_case, until=until, run_id=run_id, code_digest=code_digest, place=place)
    # The baseline is version 0 whatever becomes of the candidate: at its own lengths.
    baseline = stages.baseline(stages.sets({}))
    planned = place.run(
        plan_branches(
            use_case=use_case,
            branches=branches,
            max_training_time=max_training_time,
            seed=seed,
            code_digest=code_digest,
        ),
        LIGHT,
    )
    lengths = place.run(
        featurize_lengths(
            use_case=use_case,
            branches=planned.output,
            code_digest=code_digest,
            snapshot=stages.snapshot,
            **stages.examples,
        )
    )
    with dsl.ParallelFor(planned.output) as branch:
        searched = place.run(
            search_branch(
                use_case=use_case,
                branch=branch,
                seed=seed,
                code_digest=code_digest,
                features=lengths.outputs["features"],
                notes=stages.notes,
                **stages.examples,
            ),
            SEARCH,
        )
    chosen = place.run(
        choose_lengths(
            max_training_time=max_training_time, code_digest=code_digest, found=dsl.Collected(searched.outputs["found"])
        ),
        LIGHT,
    )
    # From here on the chosen lengths go the way of every candidate; the test set is judged by once, at its end.
    sets = stages.sets(chosen.outputs["lengths"])
    built = place.run(
        search_further(
            seconds=chosen.outputs["seconds"],
            seed=seed,
            code_digest=code_digest,
            found=dsl.Collected(searched.outputs["found"]),
            **sets.parts("training", "validation"),
        ),
        SEARCH,
    )
    released = stages.release(sets, baseline=baseline, built=built)
    recorded = record_tuning(use_case=use_case, run_id=stages.run_id, tuning=built.outputs["tuning"])
    place.run(recorded.after(released), LIGHT, caching=False)
