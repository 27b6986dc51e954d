"""Release: a package that passed its gate goes to the model store, becomes a known version, and opens a rollout.

Everything here is idempotent: the same package is the same version and has one rollout, however often a run is
repeated, and wherever it broke off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.releaser.deploy import Deploy, no_deployment
from components.releaser.outcome import Released
from ninefold.package import verify_package
from ninefold.package.remote import publish_package
from ninefold.records import ModelVersion, derived_id
from ninefold.rollout.policy import RolloutPolicy
from ninefold.store.rollout_rows import ENDED, GOING_ON
from ninefold.store.versions import BASELINE

if TYPE_CHECKING:
    from ninefold.store import Store


ACTOR = "release"
"""Who opens rollouts and makes versions live, in their histories."""


@dataclass(frozen=True, slots=True)
class Made:
    """A package that a run made, verified.

    Args:
        folder: Where it lies.
        digest: Its digest.
        lengths: Window name → length that it was trained with, by its signature.
        format: Its format.
    """

    folder: Path
    digest: str
    lengths: Mapping[str, str]
    format: str


def read_made(folder: str, digest: str) -> Made:
    """A package in a folder that holds it under its digest.

    Raises:
        PackageError: It is not the one that the digest names.
    """
    path = Path(folder) / digest
    manifest = verify_package(path, digest)
    lengths = {view.window[0]: view.window[1] for view in manifest.signature.views if view.window is not None}
    return Made(path, digest, lengths, manifest.format)


def release_baseline(
    use_case: str, package: Made, *, store: Store, models_url: str, deploy: Deploy = no_deployment
) -> ModelVersion:
    """Registers the baseline as version 0 where none is there yet, or where the baseline's code or training changed.

    It goes live when nothing else is.

    Raises:
        PackageError: The package is not the one that the digest names.
        NinefoldError: It can't be put where packages lie, or can't be made askable; a first one is not registered then.
    """
    uri = publish_package(package.folder, package.digest, models_url)
    made = ModelVersion(
        use_case=use_case, version=BASELINE, digest=package.digest, uri=uri, state="registered",
        created_at=store.clock.now(), format=package.format,
    )  # fmt: skip
    first = store.version(use_case, BASELINE) is None
    if first:
        # Its number is known, so what is registered is what can be asked.
        deploy(made)
    version = store.register_version(
        use_case, digest=package.digest, uri=uri, metrics={}, lengths=package.lengths, version=BASELINE,
        model_format=package.format,
    )  # fmt: skip
    if not first:
        # Who keeps model servers running goes by the store, and would bring the one before back.
        deploy(made)
    if store.live_version(use_case) is None:
        store.set_state(use_case, version.version, "live", actor=ACTOR, reason="nothing else is live")
    return version


def release_candidate(
    use_case: str,
    package: Made,
    *,
    metrics: Mapping[str, float],
    policy: RolloutPolicy,
    compared_with: int | None,
    unserved: int | None = None,
    reason: str,
    store: Store,
    models_url: str,
    deploy: Deploy = no_deployment,
) -> Released:
    """Registers a candidate as the next version, and opens its rollout against the live one.

    Where nobody answers but the baseline, with which the gate has compared it, it goes live at once, unless the
    policy wants a rollout. A package that was a version before changes nothing, whatever became of that version.

    Args:
        use_case: Name of the use case.
        package: The candidate's package.
        metrics: Offline metrics.
        policy: How it may replace the live version.
        compared_with: The version that its gate compared it with; None where there was none.
        unserved: A version that is live by the store, where today's code can't serve it: the baseline answers.
        reason: Why it is released: what the gate found.
        store: The production database.
        models_url: Where packages lie.
        deploy: Makes it askable, once it has its number and before anything depends on it.

    Raises:
        PackageError: The package is not the one that the digest names.
        NinefoldError: It can't be put where packages lie, or can't be made askable: it is registered at most, and the
            live version goes on.
    """
    uri = publish_package(package.folder, package.digest, models_url)
    version = store.register_version(
        use_case, digest=package.digest, uri=uri, metrics=dict(metrics), lengths=package.lengths,
        model_format=package.format,
    )  # fmt: skip
    number = version.version
    if (known := _known(version, store)) is not None:
        return known
    # An old package that was never released can have been pruned between the two; from here on it is needed, and stays.
    publish_package(package.folder, package.digest, models_url)
    deploy(version)
    live = store.live_version(use_case)
    waiting = next((one for one in store.rollouts(use_case) if one.state == "pending"), None)
    ahead = next(iter(store.rollouts(use_case, states=GOING_ON)), None)
    alone = live is None or (policy.first_release == "live" and live.version in (BASELINE, unserved))
    if live is None or (alone and waiting is None and ahead is None):
        store.set_state(use_case, number, "live", actor=ACTOR, reason=reason)
        return Released(version=number, outcome="live")
    opened = store.open_rollout(
        use_case,
        incumbent=live.version,
        candidate=number,
        policy=policy.to_json(),
        actor=ACTOR,
        # Whoever repeats this at the same time opens the same one.
        rollout_id=derived_id(use_case, "release", package.digest),
        reason=reason,
    )
    gave_way = None if waiting is None else store.find_rollout(waiting.rollout_id)
    return Released(
        version=number,
        outcome="opened",
        rollout=opened,
        unmet=None if live.version in (BASELINE, unserved, compared_with) else live.version,
        ahead=ahead,
        superseded=gave_way.candidate if gave_way is not None and gave_way.state == "superseded" else None,
    )


def _known(version: ModelVersion, store: Store) -> Released | None:
    """What became of a version that is not new; None where nothing has yet."""
    if version.state == "live":
        return Released(version=version.version, outcome="known_live")
    mine = [one for one in store.rollouts(version.use_case, limit=1_000) if one.candidate == version.version]
    if opened := [one for one in mine if one.state not in ENDED]:
        others = store.rollouts(version.use_case, states=GOING_ON)
        ahead = next((one for one in others if one.rollout_id != opened[0].rollout_id), None)
        return Released(version=version.version, outcome="known_open", rollout=opened[0], ahead=ahead)
    last = mine[0] if mine else None
    # One that was promoted was live; what became of it then is told by its state.
    if last is not None and last.state != "promoted":
        return Released(version=version.version, outcome="known_ended", rollout=last)
    return Released(version=version.version, outcome="known_retired") if version.state == "retired" else None
