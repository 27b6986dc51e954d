"""A rollout with the real services: front end, Envoy, model servers; asked all the time while rows move it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from children import runs, wait_until

from ninefold.clock import format_instant
from ninefold.loading import load_use_case
from ninefold.package import write_package
from ninefold.rollout.policy import RolloutPolicy
from ninefold.routes import read_routes
from ninefold.settings import Rollouts, Serving, Settings
from ninefold.signature import PackageManifest, Signature
from ninefold.store import Store
from serving.supervisor.state import SupervisorState, read_state
from serving.supervisor.status import RolloutRow, rollout_row
from serving.supervisor.supervisor import Supervisor
from serving.traffic import desired

PREDICT = "/v1/models/arrivals:predict"


def package(settings: Settings, seed: int) -> tuple[str, str]:
    """The baseline's package; another seed is another package that answers the same."""
    use_case = load_use_case("arrivals")
    signature = Signature(
        use_case="arrivals", problem=use_case.problem, inputs=use_case.inputs, views=use_case.feature_views(),
        derive_digest=use_case.derive_digest, target=use_case.target.name,
    )  # fmt: skip
    baseline = {"path": use_case.baseline_path, "digest": use_case.baseline_digest}
    manifest = PackageManifest(
        format="baseline", signature=signature, statistics={}, baseline=baseline, training={"seed": seed}
    )
    return write_package(settings.models_url, manifest, {})


@dataclass
class Seen:
    """What those who ask saw."""

    statuses: Counter[int | str] = field(default_factory=Counter)
    versions: Counter[int] = field(default_factory=Counter)
    fallbacks: Counter[str | None] = field(default_factory=Counter)
    sides: dict[int, set[str]] = field(default_factory=dict)


@contextlib.contextmanager
def load(supervisor: Supervisor, askers: int = 3, departed: datetime | None = None) -> Iterator[Seen]:
    """Asks the front end of many flights until the block ends, by default of flights of the example's day."""
    example = {f.name: f.example for f in load_use_case("arrivals").request if f.example is not None}
    if departed is not None:
        example |= {
            "date": departed.date().isoformat(),
            "scheduled_departure": format_instant(departed),
            "scheduled_arrival": format_instant(departed + timedelta(hours=3)),
            "departed_at": format_instant(departed),
        }
    seen, ending = Seen(), threading.Event()

    def ask(first: int) -> None:
        flight = first
        with httpx.Client(headers={"X-ApiKey": supervisor.key}, timeout=10) as client:
            while not ending.is_set():
                flight = first + (flight - first + askers) % 300
                try:
                    answer = client.post(
                        f"{supervisor.front_end}{PREDICT}", json={"instances": [{**example, "flight": flight}]}
                    )
                except httpx.TransportError as error:
                    seen.statuses[type(error).__name__] += 1
                    continue
                seen.statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    prediction = answer.json()["predictions"][0]
                    seen.versions[prediction["version"]] += 1
                    seen.fallbacks[prediction["fallback"]] += 1
                    seen.sides.setdefault(flight, set()).add(prediction["cohort"])
                ending.wait(0.02)

    threads = [threading.Thread(target=ask, args=(1 + number,)) for number in range(askers)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ending.set()
        for thread in threads:
            thread.join()


@pytest.mark.timeout(600)
def test_from_shadow_to_promotion_and_through_a_death_no_request_fails(
    with_gateway: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desired, "GRACE_SECONDS", 3.0)
    settings = with_gateway.model_copy(update={"clock": "event", "serving": Serving(model_timeout_seconds=5.0)})
    for seed in range(3):
        digest, uri = package(settings, seed)
        store.register_version("arrivals", digest, uri, version=seed)
    store.set_state("arrivals", 1, "live")
    policy = RolloutPolicy(steps=(0.2, 0.5)).to_json()

    def move(to: Any, **more: Any) -> None:
        found = store.find_rollout(rollout.rollout_id)
        assert found is not None
        store.record_step(rollout.rollout_id, revision=found.revision, actor="test", action=to, state=to, **more)

    def state() -> SupervisorState:
        found = read_state(settings.home)
        assert found is not None
        return found

    def shown() -> RolloutRow:
        row = rollout_row(state(), supervisor.key)
        assert row is not None
        return row

    def front_end() -> dict[str, Any]:
        answer = httpx.get(f"{supervisor.front_end}/v1/models/arrivals", headers={"X-ApiKey": supervisor.key})
        rollout: dict[str, Any] = answer.json()["rollout"] or {}
        return rollout

    def die(name: str) -> None:
        killed = next(process for process in state().processes if process.name == name)
        os.kill(killed.pid or 0, signal.SIGKILL)
        wait_until(
            lambda: any(
                (p.name, p.restarts, p.state) == (name, killed.restarts + 1, "ready") for p in state().processes
            ),
            180,
        )

    with Supervisor(settings, "arrivals") as supervisor:
        supervisor.wait_ready(180)
        rollout = store.open_rollout("arrivals", incumbent=1, candidate=2, policy=policy, actor="test")
        with load(supervisor) as seen:
            wait_until(lambda: bool(front_end().get("ready")), 180)
            assert (front_end()["candidate"], front_end()["shadow"]) == (2, False)
            move("shadow")
            wait_until(lambda: front_end()["shadow"] and front_end()["shadowed"]["answered"] > 20, 30)
            assert seen.versions.keys() == {1}, "nobody got the candidate's answer"
            move("canary", step=0)
            wait_until(lambda: front_end()["share"] == 0.2 and shown().observed.get("candidate", 0) > 20, 30)
            move("canary", step=1)
            wait_until(lambda: front_end()["share"] == 0.5 and shown().observed.get("candidate", 0) > 20, 30)
            wait_until(lambda: shown().problem == "")
            moved = {flight for flight, sides in seen.sides.items() if sides == {"live", "candidate"}}
            assert seen.fallbacks.keys() == {None}

            for name in ("model 2", "model 1", "gateway"):
                die(name)
                answered = seen.versions[2]
                wait_until(lambda before=answered: seen.versions[2] > before + 20, 30)
                assert seen.fallbacks.keys() <= {None, "model_unreachable"}, name

            fallbacks, old = seen.fallbacks.total() - seen.fallbacks[None], state()
            move("promoted", live=2)
            wait_until(lambda: (t := read_routes(supervisor.routes)) is not None and t.live == 2)
            wait_until(lambda: not front_end(), 30)
            incumbent = next(process for process in old.processes if process.name == "model 1")
            wait_until(lambda: not runs(incumbent.pid or 0), 30)
            by_old = seen.versions[1]
            answered = seen.versions[2]
            wait_until(lambda: seen.versions[2] > answered + 50, 30)
            assert seen.versions[1] == by_old
            given = seen.fallbacks.total() - seen.fallbacks[None]
            assert given == fallbacks, "the promotion itself costs nobody an answer"
    assert seen.statuses.keys() == {200}
    assert 0 < len(moved) < len(seen.sides), "who is in goes over with the share, and only they"


@pytest.mark.timeout(600)
def test_the_controller_takes_a_candidate_into_shadow_and_out_when_it_hangs(
    with_gateway: Settings, store: Store
) -> None:
    """The process that the supervisor starts, by the wall clock: nobody else moves the rollout."""
    settings = with_gateway.model_copy(
        update={"rollout": Rollouts(look_seconds=0.5), "serving": Serving(model_timeout_seconds=1.0)}
    )
    for seed in range(3):
        digest, uri = package(settings, seed)
        store.register_version("arrivals", digest, uri, version=seed)
    store.set_state("arrivals", 1, "live")
    policy = RolloutPolicy().to_json()

    def history() -> list[tuple[str, str]]:
        return [(step.actor, step.to_state) for step in store.steps(rollout.rollout_id)]

    with Supervisor(settings, "arrivals") as supervisor:
        supervisor.wait_ready(180)
        rollout = store.open_rollout("arrivals", incumbent=1, candidate=2, policy=policy, actor="test")
        # What is judged was decided lately.
        with load(supervisor, departed=datetime.now(UTC)) as seen:
            wait_until(lambda: ("controller", "shadow") in history(), 180)
            found = read_state(settings.home)
            assert found is not None
            hung = next(process for process in found.processes if process.name == "model 2")
            os.kill(hung.pid or 0, signal.SIGSTOP)
            wait_until(lambda: ("controller", "rolled_back") in history(), 120)
            last = store.steps(rollout.rollout_id)[-1]
            assert any("failed" in reason for reason in last.reasons), last.reasons
            wait_until(lambda: (t := read_routes(supervisor.routes)) is not None and t.candidate is None)
            os.kill(hung.pid or 0, signal.SIGCONT)
    assert seen.statuses.keys() == {200}
    assert (seen.versions.keys(), seen.fallbacks.keys()) == ({1}, {None}), "who asked noticed nothing"
