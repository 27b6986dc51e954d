"""The monitoring pipeline: one definition for the laptop and the cluster, started daily."""

from kfp import dsl

from components.image import IMAGE
from components.monitor.component import monitor
from pipelines.platform import MONITORING, Place


@dsl.pipeline(
    name="monitoring",
    description="How production does: quality as truths come, drift, nulls, traffic; measurements and alerts.",
)
def monitoring(
    use_case: str,
    since: str = "",
    until: str = "",
    run_id: str = "",
    code_digest: str = "",
    image: str = IMAGE,
    node_selector: dict[str, str] = {},  # noqa: B006 - KFP reads it as the parameter's default
    tolerations: list[dict[str, str]] = [],  # noqa: B006
) -> None:
    """Monitors a use case.

    Args:
        use_case: Name or import path.
        since: First decision moment; empty for every window whose truths may have come since the run before.
        until: Just past the last one; empty for now.
        run_id: Names the run's report and result.
        code_digest: Digest of the code that the step runs.
        image: Image that the step runs in.
        node_selector: Labels of the nodes that may run it.
        tolerations: Taints of nodes that it bears, as in a pod.
    """
    task = monitor(use_case=use_case, since=since, until=until, run_id=run_id, code_digest=code_digest)
    # What production holds changes without any argument changing.
    place = Place(image=image, node_selector=node_selector, tolerations=tolerations)
    place.run(task, caching=False, settings=MONITORING)
