"""The materialization pipeline: what history says of now goes into the online store, every hour."""

from kfp import dsl

from components.featurizer.component import materialize
from components.image import IMAGE
from pipelines.platform import Place


@dsl.pipeline(
    name="materialization",
    description="History read anew, and its newest rows written into the online store.",
)
def materialization(
    use_case: str,
    since: str = "",
    until: str = "",
    run_id: str = "",
    code_digest: str = "",
    image: str = IMAGE,
    node_selector: dict[str, str] = {},  # noqa: B006 - KFP reads it as the parameter's default
    tolerations: list[dict[str, str]] = [],  # noqa: B006
) -> None:
    """Brings a use case's features online.

    Args:
        use_case: Name or import path.
        since: Rows known since this instant; empty for what came since the run before.
        until: Rows known by this instant; empty for now.
        run_id: Names the run's report and result.
        code_digest: Digest of the code that the step runs.
        image: Image that the step runs in.
        node_selector: Labels of the nodes that may run it.
        tolerations: Taints of nodes that it bears, as in a pod.
    """
    task = materialize(use_case=use_case, since=since, until=until, run_id=run_id, code_digest=code_digest)
    # Sources and the online store change without any argument changing.
    Place(image=image, node_selector=node_selector, tolerations=tolerations).run(task, caching=False)
