"""The labelling pipeline: what experts said comes home, and they get what is worth looking at next, every day."""

from kfp import dsl

from components.image import IMAGE
from components.labeller.component import collect_labels, send_tasks
from pipelines.platform import LABELLING, LIGHT, Place


@dsl.pipeline(
    name="labelling",
    description="Labels that experts made come into the store, and the next batch is picked and sent to them.",
)
def labelling(
    use_case: str,
    count: int = 100,
    mix: str = "",
    since: str = "",
    until: str = "",
    run_id: str = "",
    code_digest: str = "",
    image: str = IMAGE,
    node_selector: dict[str, str] = {},  # noqa: B006 - KFP reads it as the parameter's default
    tolerations: list[dict[str, str]] = [],  # noqa: B006
) -> None:
    """Has experts label what production answered.

    Args:
        use_case: Name or import path.
        count: Tasks of the batch.
        mix: Shares of the samplers, uncertainty=0.9,random=0.1; empty for the default.
        since: First decision moment that is picked from; empty for the first there is.
        until: Just past the last one; empty for now.
        run_id: Names the batch, the run's report and its result.
        code_digest: Digest of the code that the steps run.
        image: Image that the steps run in.
        node_selector: Labels of the nodes that may run them.
        tolerations: Taints of nodes that they bear, as in a pod.
    """
    place = Place(image=image, node_selector=node_selector, tolerations=tolerations)
    # Label Studio and production change without any argument changing.
    home = place.run(
        collect_labels(use_case=use_case, code_digest=code_digest), LIGHT, caching=False, settings=LABELLING
    )
    place.run(
        send_tasks(
            use_case=use_case, count=count, mix=mix, since=since, until=until, run_id=run_id, code_digest=code_digest,
            collected=home.outputs["collected"],
        ),
        caching=False, settings=LABELLING,
    )  # fmt: skip
