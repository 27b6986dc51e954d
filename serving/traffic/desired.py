"""What should be served, and the next steps towards it: pure, decided from the store's versions and what runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ninefold.records import ModelVersion

BASELINE = 0
GRACE_SECONDS = 10.0
"""How long a version that left the routes goes on running: requests that chose it before are answered."""


@dataclass(frozen=True, slots=True, order=True)
class Model:
    """One package under one version. The baseline's package can change under version 0; every other is immutable.

    Args:
        version: Its version.
        digest: Its package's digest.
        package: Its package's folder.
    """

    version: int
    digest: str
    package: str


@dataclass(frozen=True, slots=True)
class Desired:
    """What the store wants served.

    Args:
        live: The one that answers; None before anything is registered.
        models: All that should run, the live one and the candidate included.
        candidate: The one that a rollout tries; None where none does.
    """

    live: Model | None
    models: frozenset[Model]
    candidate: Model | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A model server as it stands.

    Args:
        ready: Whether it has ever been ready. One that died since is coming back at the same address.
        unrouted_since: When it left the routes, in seconds of the supervisor's clock; None while it is in them, or has
            never been.
    """

    ready: bool
    unrouted_since: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The next steps.

    Args:
        start: Models to start.
        live: The model that should answer now.
        routed: All models that should be in the routes now.
        stop: Models to stop.
    """

    start: tuple[Model, ...]
    live: Model | None
    routed: frozenset[Model]
    stop: tuple[Model, ...]


def desired_models(versions: Sequence[ModelVersion], candidate: int | None = None) -> Desired:
    """The live version, the baseline, and the candidate of the open rollout.

    Where nothing is live, the baseline answers: it can be in production alone.

    Args:
        versions: All versions of the use case.
        candidate: The version that the open rollout tries; one that is retired is not run.
    """
    models = {v.version: Model(v.version, v.digest, v.uri) for v in versions}
    live = next((models[v.version] for v in versions if v.state == "live"), models.get(BASELINE))
    tried = next((models[v.version] for v in versions if v.version == candidate and v.state != "retired"), None)
    wanted = {m for m in (live, models.get(BASELINE), tried) if m is not None}
    return Desired(live=live, models=frozenset(wanted), candidate=tried)


def plan(desired: Desired, running: Mapping[Model, Running], live: Model | None, now: float) -> Plan:
    """The next steps from what runs to what is wanted.

    A version answers only once its server is ready; until then the one before goes on. What left the routes is stopped
    after a grace.

    Args:
        desired: What the store wants.
        running: What runs.
        live: The model that answers at present; None when none does.
        now: The supervisor's clock, in seconds.
    """
    ready = {model for model, state in running.items() if state.ready}
    answering = desired.live if desired.live in ready else (live if live in ready else None)
    routed = frozenset(ready & desired.models) | ({answering} if answering is not None else frozenset())
    return Plan(
        start=tuple(sorted(desired.models - set(running))),
        live=answering,
        routed=routed,
        stop=tuple(sorted(m for m, state in running.items() if _is_over(m, state, desired.models | routed, now))),
    )


def _is_over(model: Model, state: Running, needed: Collection[Model], now: float) -> bool:
    if model in needed:
        return False
    # One that was never in the routes has nobody to wait for.
    return not state.ready or (state.unrouted_since is not None and now - state.unrouted_since >= GRACE_SECONDS)
