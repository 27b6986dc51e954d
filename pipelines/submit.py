"""Submitting a run to Kubeflow Pipelines: the compiled pipeline, checked parameters, and where to follow it."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.image import IMAGE
from ninefold.clock import Clock, format_instant
from ninefold.errors import InvalidInput, StepFailed
from ninefold.loading import load_use_case
from pipelines.compile import COMPILED, check_strictly
from pipelines.kfp_server import KfpServer
from pipelines.parameters import check_parameters
from pipelines.platform import SERVICE_ACCOUNT

_IMAGE = re.compile(
    r"(?:[a-z0-9.-]+(?::[0-9]+)?/)?[a-z0-9._-]+(?:/[a-z0-9._-]+)*"
    r"(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?"
)
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?|")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
_OPEN_ENDED = ("training", "tuning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where a run's steps run on a cluster.

    Args:
        image: Their image.
        node_selector: Labels of the nodes that may run them.
        tolerations: Taints of nodes that they bear, as in a pod.
        service_account: As whom they run.
    """

    image: str = IMAGE
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, str]] = ()
    service_account: str = SERVICE_ACCOUNT

    @property
    def fixed(self) -> bool:
        """Whether the image is named by its digest, so that a cached step is never another code's."""
        return "@sha256:" in self.image


def where(image: str | None, node_selector: Sequence[str], tolerations: Sequence[str], service_account: str) -> Where:
    """Reads where steps run.

    Args:
        image: Image with a tag or a digest; None for the default.
        node_selector: ``KEY=VALUE`` each.
        tolerations: ``KEY[=VALUE][:EFFECT]`` each.
        service_account: Name.

    Raises:
        InvalidInput: One is not written as it has to be.
    """
    image = image or IMAGE
    match = _IMAGE.fullmatch(image)
    if match is None or not (match["tag"] or match["digest"]) or match["tag"] == ":latest":
        raise InvalidInput(
            "image", f"{image!r} is no image with a tag of its own or a digest.",
            remedy="Write it as registry/ninefold/pipeline:0.1.0-python3.11, best with its digest: …@sha256:…",
        )  # fmt: skip
    labels = {}
    for text in node_selector:
        key, equals, value = text.partition("=")
        if not equals or not key or not _LABEL.fullmatch(value):
            raise InvalidInput("node_selector", f"{text!r} is no label.", remedy="Write it as pool=training.")
        labels[key] = value
    return Where(
        image=image, node_selector=labels, tolerations=[_toleration(text) for text in tolerations],
        service_account=service_account,
    )  # fmt: skip


def _toleration(text: str) -> dict[str, str]:
    taint, colon, effect = text.partition(":")
    key, equals, value = taint.partition("=")
    if not key or (colon and effect not in _EFFECTS):
        raise InvalidInput("toleration", f"{text!r} is no taint.", remedy="Write it as dedicated=training:NoSchedule.")
    found = {"key": key, "operator": "Equal" if equals else "Exists"}
    return {**found, **({"value": value} if equals else {}), **({"effect": effect} if colon else {})}


def arguments(pipeline: str, use_case: str, given: Mapping[str, Any], place: Where, run_id: str = "") -> dict[str, Any]:
    """The parameters of a run on a cluster, checked.

    Args:
        pipeline: Its name.
        use_case: Name or import path.
        given: As ``check_parameters`` takes them, but that an end may be left out: then it is when the run begins.
        place: Where its steps run.
        run_id: Names the run's report; empty for a name that the run makes.
    """
    open_end = pipeline in _OPEN_ENDED and not given.get("until")
    # Whatever the end will be, the rest is checked now.
    checked = check_parameters(pipeline, use_case, {**given, "until": "2000-01-01"} if open_end else given).to_json()
    return {
        "use_case": use_case,
        **checked,
        **({"until": ""} if open_end else {}),
        "run_id": run_id,
        "image": place.image,
        "node_selector": dict(place.node_selector),
        "tolerations": [dict(one) for one in place.tolerations],
    }


def specification(pipeline: str) -> dict[str, Any]:
    """The compiled pipeline with what its steps need of Kubernetes, as the API server takes both."""
    spec, platform = check_strictly(COMPILED / f"{pipeline}.yaml")
    return {"pipeline_spec": spec, "platform_spec": platform}


def submit(
    server: KfpServer,
    pipeline: str,
    use_case: str,
    given: Mapping[str, Any],
    *,
    place: Where,
    experiment: str | None,
    clock: Clock,
) -> tuple[str, str]:
    """Submits a run.

    Args:
        server: Where to.
        pipeline: Its name.
        use_case: Name or import path.
        given: Its parameters.
        place: Where its steps run.
        experiment: Name of one that exists; None for the use case's own, which is made when it is missing.
        clock: Tells the time that the run is named by.

    Returns:
        The run's id at KFP, and its name.
    """
    name = load_use_case(use_case).name
    run_name = f"{pipeline}-{name}-{clock.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    parameters = arguments(pipeline, use_case, given, place, run_name)
    experiment_id = server.experiment(experiment or experiment_of(name), create=experiment is None)
    run = server.create_run(
        experiment_id=experiment_id,
        display_name=run_name,
        description=f"Submitted {format_instant(clock.now())}.",
        pipeline_spec=specification(pipeline),
        runtime_config={"parameters": parameters},
        service_account=place.service_account,
    )
    return str(run.run_id), run_name


def experiment_of(use_case: str) -> str:
    """Name of the experiment that a use case's runs are in."""
    return f"ninefold-{use_case}"


def page_of(host: str, run_id: str) -> str:
    """Address of a run's page in the UI."""
    return f"{host}/#/runs/details/{run_id}"


def wait_for(
    server: KfpServer,
    run_id: str,
    *,
    seconds: float,
    on_step: Callable[[str, str], None] = lambda _name, _state: None,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Waits for a run's end.

    Args:
        server: Where it runs.
        run_id: Its id.
        seconds: How long to wait at most.
        on_step: Told a step's name and state whenever it has a new one.
        monotonic: Tells how much time went by.
        sleep: Lets some go by.

    Raises:
        StepFailed: It failed, or did not end in time; the message says what it was at.
    """
    known: dict[str, str] = {}
    until, page = monotonic() + seconds, page_of(server.at.host, run_id)
    while True:
        run = server.run(run_id)
        steps = states(run)
        for name, state in steps.items():
            if known.get(name) != state:
                on_step(name, state)
        known = steps
        if run.state == "SUCCEEDED":
            return
        if run.state in _ENDED:
            failed = ", ".join(name for name, state in steps.items() if state == "FAILED") or "none of its steps"
            why = f": {run.error.message}" if run.error is not None and run.error.message else ""
            raise StepFailed(f"The run {run_id} {run.state.lower()} in {failed}{why}.", remedy=f"Its logs: {page}")
        if monotonic() >= until:
            going = ", ".join(name for name, state in steps.items() if state in ("RUNNING", "PENDING")) or "its start"
            raise StepFailed(
                f"The run {run_id} did not end within {seconds:.0f} s; it is at {going}.",
                remedy=f"Look at its pods (kubectl describe pods -l pipeline/runid={run_id}): an image that can't be "
                f"pulled, a Secret that is missing or a full cluster stands there. Its page: {page}",
            )
        sleep(5.0)


def states(run: Any) -> dict[str, str]:
    """Step → its state, of the steps that people know: not those that KFP puts before and around them."""
    details = getattr(run.run_details, "task_details", None) or ()
    own = {d.display_name: d.state for d in details if d.display_name and d.state}
    return {
        name: str(state)
        for name, state in own.items()
        if not name.startswith(("root", "executor")) and not name.endswith("-driver") and name != run.display_name
    }
