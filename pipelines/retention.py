"""The retention pipeline: what is past its age goes, every day."""

from kfp import dsl

from components.image import IMAGE
from components.retention.component import prune
from pipelines.platform import RETENTION, Place


@dsl.pipeline(
    name="retention",
    description="Records and files that are older than the settings' retention says are removed.",
)
def retention(
    use_case: str,
    until: str = "",
    run_id: str = "",
    code_digest: str = "",
    image: str = IMAGE,
    node_selector: dict[str, str] = {},  # noqa: B006 - KFP reads it as the parameter's default
    tolerations: list[dict[str, str]] = [],  # noqa: B006
) -> None:
    """Prunes by the settings' policy, which is one for all use cases.

    Args:
        use_case: Name or import path of the use case that the report is kept with.
        until: Instant that ages are counted to; empty for now.
        run_id: Names the run's report and result.
        code_digest: Digest of the code that the step runs.
        image: Image that the step runs in.
        node_selector: Labels of the nodes that may run it.
        tolerations: Taints of nodes that it bears, as in a pod.
    """
    task = prune(use_case=use_case, until=until, run_id=run_id, code_digest=code_digest)
    place = Place(image=image, node_selector=node_selector, tolerations=tolerations)
    place.run(task, caching=False, settings=RETENTION)
