"""Rollouts as the supervisor serves them: rows of a real store in, routes of a real Envoy and processes out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from children import runs, wait_until
from gateway_house import load
from tiny_supervisor import Tiny

from ninefold.rollout.policy import RolloutPolicy
from ninefold.routes import RouteTable, read_routes
from ninefold.settings import Settings
from ninefold.store import Store, StoredRollout
from serving.supervisor.specs import settings_environment
from serving.supervisor.state import SupervisorState, read_state
from serving.supervisor.status import rollout_row
from serving.supervisor.supervisor import Supervisor
from serving.traffic import desired

PREDICT = "/v1/models/arrivals:predict"
STEPS = (0.1, 0.25, 0.5)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.supervisor.supervisor.POLL_SECONDS", 0.05)
    monkeypatch.setattr("serving.supervisor.supervisor.TICK_SECONDS", 0.02)
    monkeypatch.setattr(desired, "GRACE_SECONDS", 1.0)


def version(store: Store, digest: str, *, live: bool = False) -> int:
    number = store.register_version("arrivals", digest, f"/models/{digest}").version
    if live:
        store.set_state("arrivals", number, "live")
    return number


def opened(store: Store, candidate: int, incumbent: int = 1) -> StoredRollout:
    return store.open_rollout(
        "arrivals", incumbent=incumbent, candidate=candidate, policy=RolloutPolicy(steps=STEPS).to_json(), actor="test"
    )


def step(store: Store, rollout: StoredRollout, state: Any, place: int | None = None, **more: Any) -> StoredRollout:
    found = store.find_rollout(rollout.rollout_id)
    assert found is not None
    return store.record_step(
        rollout.rollout_id, revision=found.revision, actor="test", action=state, state=state, step=place, **more
    )


def table(supervisor: Supervisor) -> RouteTable:
    found = read_routes(supervisor.routes)
    assert found is not None
    return found


def routed(supervisor: Supervisor, rollout: StoredRollout) -> RouteTable:
    """The routes, once they are those of this revision of the rollout."""
    wanted = (rollout.rollout_id, rollout.revision)
    wait_until(lambda: (table(supervisor).rollout, table(supervisor).rollout_revision) == wanted)
    return table(supervisor)


def state(settings: Settings) -> SupervisorState:
    found = read_state(settings.home)
    assert found is not None
    return found


def pid(settings: Settings, name: str) -> int:
    return next(process.pid for process in state(settings).processes if process.name == name) or 0


def inner(found: RouteTable, asked: int) -> int:
    assert found.gateway is not None
    headers = found.gateway.headers(asked, "live")
    return httpx.post(f"{found.gateway.url}{PREDICT}", headers=headers).status_code


def without_rollout(found: RouteTable) -> bool:
    return (found.candidate, found.rollout, found.rollout_revision, found.shadow, found.cohorts, found.weights) == (
        None, None, None, False, {}, {},
    )  # fmt: skip


def test_the_routes_follow_a_rollout_from_pending_to_promotion(with_gateway: Settings, store: Store) -> None:
    version(store, "d1", live=True)
    with Tiny(with_gateway, "arrivals") as supervisor:
        supervisor.wait_ready(20)
        assert without_rollout(table(supervisor))
        assert state(with_gateway).rollout is None
        rollout = opened(store, version(store, "d2"))
        found = routed(supervisor, rollout)
        assert (found.live, sorted(found.variants), found.candidate) == (1, [0, 1, 2], 2)
        assert (found.shadow, found.cohorts, found.weights) == (False, {}, {})
        assert inner(found, 2) == 200

        found = routed(supervisor, step(store, rollout, "shadow"))
        assert (found.shadow, found.cohorts, found.weights) == (True, {}, {})
        revisions = [found.revision]
        for place, share in enumerate(STEPS):
            found = routed(supervisor, step(store, rollout, "canary", place))
            assert (found.live, found.candidate, found.shadow) == (1, 2, True)
            assert (found.cohorts["salt"], found.cohorts["share"]) == (rollout.salt, share)
            assert found.weights[2] == share * sum(found.weights.values())
            revisions.append(found.revision)
        paused = routed(supervisor, step(store, rollout, "paused"))
        assert (paused.cohorts, paused.weights, paused.shadow) == (found.cohorts, found.weights, True)
        resumed = routed(supervisor, step(store, rollout, "canary"))
        assert (resumed.cohorts, resumed.weights) == (found.cohorts, found.weights)
        revisions += [paused.revision, resumed.revision]
        assert revisions == sorted(set(revisions))
        wait_until(lambda: (s := state(with_gateway).rollout) is not None and s.revision == resumed.rollout_revision)
        served = state(with_gateway).rollout
        assert served is not None
        assert (served.state, served.step, served.share, served.candidate, served.routed) == ("canary", 2, 0.5, 2, True)
        wait_until(lambda: {s.version: s.configured for s in state(with_gateway).shares} == {1: 0.5, 2: 0.5})

        old, new = pid(with_gateway, "model 1"), pid(with_gateway, "model 2")
        step(store, rollout, "promoted", live=2)
        wait_until(lambda: table(supervisor).live == 2)
        found = table(supervisor)
        assert sorted(found.variants) == [0, 2]
        assert without_rollout(found)
        assert inner(found, 1) == 200, "who read of the old routes is still answered"
        assert runs(old)
        wait_until(lambda: not runs(old))
        assert pid(with_gateway, "model 2") == new, "its server is not started anew"
        assert (state(with_gateway).rollout, state(with_gateway).problem) == (None, "")


def test_what_is_rolled_back_leaves_the_routes_and_ends_after_the_grace(with_gateway: Settings, store: Store) -> None:
    version(store, "d1", live=True)
    rollout = opened(store, version(store, "d2"))
    with Tiny(with_gateway, "arrivals") as supervisor:
        supervisor.wait_ready(20)
        routed(supervisor, step(store, rollout, "canary", 1))
        candidate = pid(with_gateway, "model 2")
        step(store, rollout, "rolled_back")
        wait_until(lambda: table(supervisor).candidate is None)
        found = table(supervisor)
        assert (found.live, sorted(found.variants)) == (1, [0, 1])
        assert without_rollout(found)
        assert (inner(found, 2), runs(candidate)) == (200, True)
        wait_until(lambda: not runs(candidate))
        wait_until(lambda: inner(found, 2) == 404)


def test_when_one_rollout_ends_the_one_that_waits_is_served(configuration: Settings, store: Store) -> None:
    version(store, "d1", live=True)
    first = opened(store, version(store, "d2"))
    step(store, first, "shadow")
    second = opened(store, version(store, "d3"))
    with Tiny(configuration, "arrivals", model_only=True) as supervisor:
        supervisor.wait_ready(20)
        wait_until(lambda: table(supervisor).candidate == 2)
        assert {p.name for p in state(configuration).processes} == {"model 0", "model 1", "model 2"}
        step(store, first, "rolled_back")
        assert routed(supervisor, second).candidate == 3


def test_a_rollout_whose_incumbent_is_not_live_moves_nothing(configuration: Settings, store: Store) -> None:
    version(store, "d1", live=True)
    rollout = opened(store, version(store, "d2"))
    step(store, rollout, "canary", 2)
    with Tiny(configuration, "arrivals", model_only=True) as supervisor:
        supervisor.wait_ready(20)
        wait_until(lambda: table(supervisor).candidate == 2)
        version(store, "d3", live=True)
        wait_until(lambda: table(supervisor).live == 3)
        assert without_rollout(table(supervisor))
        wait_until(lambda: (s := state(configuration).rollout) is not None and not s.routed)
        row = rollout_row(state(configuration), "")
        assert row is not None
        assert row.problem == "version 1, which it was opened against, is not the one that answers"


def test_a_candidate_that_does_not_start_keeps_nobody_from_serving(configuration: Settings, store: Store) -> None:
    version(store, "d1", live=True)
    rollout = opened(store, version(store, "d2"))
    step(store, rollout, "shadow")
    supervisor = Tiny(configuration, "arrivals", model_only=True)
    supervisor.specs.broken = frozenset({"model 2"})
    with supervisor:
        supervisor.wait_ready(20)
        assert (table(supervisor).live, sorted(table(supervisor).variants)) == (1, [0, 1])
        assert without_rollout(table(supervisor))
        wait_until(lambda: any(p.state == "crash loop" for p in state(configuration).processes))
        row = rollout_row(state(configuration), "")
        assert row is not None
        assert row.problem == "the server of version 2 is not ready"
        assert row.lines()[0] == f"Rollout {rollout.rollout_id}: version 2 against 1, shadow (revision 2)"


@pytest.mark.parametrize(
    "damage",
    [
        "policy = '{broken'",
        "policy = '{\"steps\": 5}'",
        "policy = '{\"steps\": [0.5, 0.1]}'",
        "salt = ''",
        "step = 7",
        "opened_at_us = 'noon'",
    ],
)
def test_a_damaged_rollout_is_told_and_the_live_version_goes_on(
    configuration: Settings, store: Store, damage: str
) -> None:
    version(store, "d1", live=True)
    rollout = opened(store, version(store, "d2"))
    rollout = step(store, rollout, "canary", 1)
    with Tiny(configuration, "arrivals", model_only=True) as supervisor:
        supervisor.wait_ready(20)
        before = routed(supervisor, rollout)
        with store.engine.begin() as connection:
            kept = connection.exec_driver_sql("SELECT policy, salt, step, opened_at_us FROM rollouts").one()
            connection.exec_driver_sql(f"UPDATE rollouts SET {damage}")
        wait_until(lambda: table(supervisor).candidate is None)
        assert without_rollout(table(supervisor))
        assert (table(supervisor).live, sorted(table(supervisor).variants)) == (1, [0, 1])
        wait_until(lambda: "The open rollout of arrivals can't be read" in state(configuration).problem)
        with store.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE rollouts SET policy = ?, salt = ?, step = ?, opened_at_us = ?", tuple(kept)
            )
        again = routed(supervisor, rollout)
        assert (again.cohorts, again.weights, again.live) == (before.cohorts, before.weights, 1)
        wait_until(lambda: state(configuration).problem == "")


def test_a_candidate_that_is_retired_is_not_run_and_it_is_told(configuration: Settings, store: Store) -> None:
    version(store, "d1", live=True)
    opened(store, version(store, "d2"))
    store.set_state("arrivals", 2, "retired")
    with Tiny(configuration, "arrivals", model_only=True) as supervisor:
        supervisor.wait_ready(20)
        assert {p.name for p in state(configuration).processes} == {"model 0", "model 1"}
        assert state(configuration).problem.startswith("Version 2, which the open rollout tries, is retired")


def test_while_the_store_is_away_the_last_routes_stay(configuration: Settings, store: Store) -> None:
    version(store, "d1", live=True)
    rollout = step(store, opened(store, version(store, "d2")), "canary", 1)
    with Tiny(configuration, "arrivals", model_only=True) as supervisor:
        supervisor.wait_ready(20)
        before = routed(supervisor, rollout)
        for name in ("rollouts", "models"):
            with store.engine.begin() as connection:
                connection.exec_driver_sql(f"ALTER TABLE {name} RENAME TO gone")
            wait_until(lambda name=name: f"no such table: {name}" in state(configuration).problem)  # type: ignore[misc]
            assert table(supervisor) == before
            with store.engine.begin() as connection:
                connection.exec_driver_sql(f"ALTER TABLE gone RENAME TO {name}")
            wait_until(lambda: state(configuration).problem == "")
        assert table(supervisor) == before
        assert {p.name for p in state(configuration).processes} == {"model 0", "model 1", "model 2"}


def test_what_the_front_end_still_reads_of_is_not_ended(
    configuration: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desired, "GRACE_SECONDS", 0.1)
    version(store, "d1", live=True)
    with Tiny(configuration, "arrivals", model_only=True) as supervisor:
        supervisor.wait_ready(20)
        old = pid(configuration, "model 1")

        def full(*_: object) -> None:
            raise OSError("no space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("serving.supervisor.publisher.write_routes", full)
            version(store, "d2", live=True)
            wait_until(lambda: "can't be written: no space left" in state(configuration).problem)
            # The supervisor has had time to end what left the routes long ago.
            with pytest.raises(AssertionError):
                wait_until(lambda: not runs(old), 1.0)
            assert table(supervisor).live == 1
        wait_until(lambda: table(supervisor).live == 2)
        wait_until(lambda: not runs(old))


@asynccontextmanager
async def through_the_front_end_s_listener(supervisor: Supervisor) -> AsyncIterator[Counter[int | str]]:
    """Asks as front ends do: each goes by a table that it read some time ago, and asks for what that names."""
    seen: Counter[int | str] = Counter()
    ending = asyncio.Event()

    async def ask(lag: float) -> None:
        async with httpx.AsyncClient(timeout=5) as client:
            while not ending.is_set():
                found, read = table(supervisor), time.monotonic()
                assert found.gateway is not None
                versions = itertools.cycle({found.live, found.candidate} - {None})
                while not ending.is_set() and time.monotonic() - read < lag:
                    asked = next(versions)
                    assert asked is not None
                    try:
                        headers = found.gateway.headers(asked, "live")
                        answer = await client.post(f"{found.gateway.url}{PREDICT}", headers=headers)
                        seen[answer.status_code] += 1
                        seen[answer.json().get("by", "")] += 1
                    except httpx.TransportError as error:
                        seen[type(error).__name__] += 1
                    await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(ask(lag)) for lag in (0.02, 0.25, 0.5)]
    try:
        yield seen
    finally:
        ending.set()
        await asyncio.gather(*tasks)


async def test_a_hundred_changes_of_routes_fail_no_request(
    with_gateway: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Far longer than any of those who ask goes by a table that it has read.
    monkeypatch.setattr(desired, "GRACE_SECONDS", 5.0)
    version(store, "d1", live=True)
    live, changes = 1, 0
    with Tiny(with_gateway, "arrivals") as supervisor:
        await asyncio.to_thread(supervisor.wait_ready, 20)
        async with load(supervisor.gateway) as direct, through_the_front_end_s_listener(supervisor) as inside:
            while changes < 100:
                candidate = version(store, f"d{live + 1}-{changes}")
                rollout = opened(store, candidate, live)
                await asyncio.to_thread(routed, supervisor, rollout)
                places = [number % len(STEPS) for number in range(20)]
                for name, place in [("shadow", 0), *(("canary", place) for place in places)]:
                    rollout = step(store, rollout, name, place)
                    await asyncio.to_thread(routed, supervisor, rollout)
                    changes += 1
                if changes % 2:
                    step(store, rollout, "promoted", live=candidate)
                    live = candidate
                else:
                    step(store, rollout, "rolled_back")
                await asyncio.to_thread(wait_until, lambda: without_rollout(table(supervisor)))
                assert table(supervisor).live == live
                changes += 2
    assert live > 1
    assert direct.failed == {}
    assert {what: count for what, count in inside.items() if what != 200 and not str(what).startswith("v")} == {}
    assert min(inside["v1"], inside["v2"], direct.by["v1"], direct.by["v2"]) > 0


async def test_a_candidate_killed_under_load_comes_back_and_fails_no_request(
    with_gateway: Settings, store: Store
) -> None:
    version(store, "d1", live=True)
    rollout = step(store, opened(store, version(store, "d2")), "canary", 2)
    with Tiny(with_gateway, "arrivals") as supervisor:
        supervisor.wait_ready(20)
        before = routed(supervisor, rollout)
        wait_until(lambda: any(p.name == "model 2" and p.state == "ready" for p in state(with_gateway).processes))
        async with load(supervisor.gateway) as seen:
            for killed in range(3):
                asked = seen.by["v2"]
                await asyncio.to_thread(wait_until, lambda asked=asked: seen.by["v2"] > asked + 20)  # type: ignore[misc]
                os.kill(pid(with_gateway, "model 2"), signal.SIGKILL)

                def back(killed: int = killed) -> bool:
                    return any(
                        (p.name, p.restarts, p.state) == ("model 2", killed + 1, "ready")
                        for p in state(with_gateway).processes
                    )

                await asyncio.to_thread(wait_until, back)
            asked = seen.by["v2"]
            await asyncio.to_thread(wait_until, lambda: seen.by["v2"] > asked + 20)
        assert table(supervisor) == before, "it stays in the routes: what it fails to answer is its guardrails' to see"
    assert seen.failed == {}


@pytest.fixture
def process(with_gateway: Settings, tmp_path: Path) -> Iterator[Any]:
    """Starts a supervisor in a process of its own."""
    program = str(Path(__file__).with_name("tiny_supervisor.py"))
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "supervisor.log").open("ab") as output:
            environment = {**os.environ, **settings_environment(with_gateway)}
            started.append(
                subprocess.Popen([sys.executable, program], env=environment, stdout=output, stderr=output)
            )  # fmt: skip
        return started[-1]

    yield start
    for one in started:
        with contextlib.suppress(ProcessLookupError):
            one.terminate()
        one.wait(30)


def test_a_supervisor_killed_in_mid_canary_comes_back_to_the_same_shares(
    with_gateway: Settings, store: Store, process: Any
) -> None:
    version(store, "d1", live=True)
    rollout = step(store, opened(store, version(store, "d2")), "canary", 1)
    looking = Tiny(with_gateway, "arrivals")
    first = process()
    wait_until(looking.routes.exists, 30)
    before = routed(looking, rollout)
    wait_until(lambda: state(with_gateway).ready, 30)
    first.kill()
    first.wait()
    process()
    wait_until(lambda: table(looking).revision > before.revision, 30)
    after = routed(looking, rollout)
    assert (after.cohorts, after.weights, after.live, after.candidate) == (before.cohorts, before.weights, 1, 2)
    assert after.revision > before.revision

    def answers() -> bool:
        try:
            return inner(after, 2) == 200
        except httpx.ConnectError:
            # The new gateway's process may be a moment later than its files.
            return False

    wait_until(answers, 30)


def test_what_was_decided_while_it_was_away_is_what_it_comes_back_to(with_gateway: Settings, store: Store) -> None:
    version(store, "d1", live=True)
    rollout = step(store, opened(store, version(store, "d2")), "canary", 1)
    with Tiny(with_gateway, "arrivals") as supervisor:
        supervisor.wait_ready(20)
        before = routed(supervisor, rollout)
    step(store, rollout, "promoted", live=2)
    with Tiny(with_gateway, "arrivals") as supervisor:
        supervisor.wait_ready(20)
        after = table(supervisor)
    assert (after.live, sorted(after.variants), after.revision > before.revision) == (2, [0, 2], True)
    assert without_rollout(after)
