"""The training pipeline: one definition for the laptop and the cluster.

look-up → extract → split → featurize → prepare → evaluate-baseline ∥ build → predict → evaluate → decide → release
"""

from kfp import dsl

from components.image import IMAGE
from components.model_builder.component import build
from pipelines.platform import SEARCH, Place
from pipelines.stages import Stages


@dsl.pipeline(
    name="training",
    description="From sources and production to an evaluated, gated and released model.",
)
def training(
    use_case: str,
    until: str = "",
    max_training_time: float = 120.0,
    max_trials: int = 0,
    windows: dict[str, str] = {},  # noqa: B006 - KFP reads it as the parameter's default
    seed: int = 0,
    run_id: str = "",
    code_digest: str = "",
    image: str = IMAGE,
    node_selector: dict[str, str] = {},  # noqa: B006
    tolerations: list[dict[str, str]] = [],  # noqa: B006
) -> None:
    """Trains a use case.

    Args:
        use_case: Name or import path.
        until: Only what was known before this instant is used; empty for now, or everything known where there is no
            time.
        max_training_time: Seconds that the search for a model may take.
        max_trials: Models that it may fit; 0 for as many as time allows.
        windows: Window name and length, where another than the declared one is wanted.
        seed: Seed of the search.
        run_id: Names the run's report and result.
        code_digest: Digest of the code that the steps run; it keeps caching right where the image does not change.
        image: Image that the steps run in.
        node_selector: Labels of the nodes that may run them.
        tolerations: Taints of nodes that they bear, as in a pod.
    """
    place = Place(image=image, node_selector=node_selector, tolerations=tolerations)
    stages = Stages(use_case=use_case, until=until, run_id=run_id, code_digest=code_digest, place=place)
    sets = stages.sets(windows)
    baseline = stages.baseline(sets)
    built = place.run(
        build(
            max_training_time=max_training_time,
            max_trials=max_trials,
            seed=seed,
            code_digest=code_digest,
            **sets.parts("training", "validation"),
        ),
        SEARCH,
    )
    stages.release(sets, baseline=baseline, built=built)
