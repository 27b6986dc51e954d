"""Routes on a real cluster: its API server, Envoy Gateway, and versions that answer."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fault_proxy import Fault, FaultProxy
from on_cluster import Namespace, answered, environment, namespace, until, why_none

from ninefold.store import open_store
from serving.traffic.actuator import Actuator
from serving.traffic.carrier import FIELD_MANAGER, HttpRoutes
from serving.traffic.httproutes import API
from serving.traffic.mirror import REVISION
from serving.traffic.servers import RELEASE_MANAGER, Servers

ROLLOUTS = Path(__file__).parents[1] / "rollout"
if str(ROLLOUTS) not in sys.path:
    sys.path.insert(0, str(ROLLOUTS))

from rollout_house import POLICY, register  # noqa: E402

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Namespace]:
    if reason := why_none():
        pytest.skip(reason)
    with namespace() as made:
        made.gateways()
        made.answering(0, 1, 2)
        try:
            httpx.get(made.address("models"), timeout=10.0)
        except httpx.ConnectError:
            until(lambda: _connects(made.address("models")), 60, "the Gateway's address can't be reached from here")
        yield made


class House:
    """A store with versions of parcels, of which 0 and 1 are ready, and what steers their routes."""

    def __init__(self, cluster: Namespace, folder: Path) -> None:
        from ninefold.cluster.api import ClusterApi

        self.cluster, self.folder = cluster, folder
        self.url = f"sqlite:///{folder / 'store.db'}"
        self.store = open_store(self.url)
        for number in (0, 1, 2):
            register(self.store, folder, number + 10, version=number)
        self.store.set_state("parcels", 1, "live")
        for name in ("parcels", "parcels-inner"):
            cluster.api.delete(API, "HTTPRoute", name)
        cluster.api.delete("coordination.k8s.io/v1", "Lease", "ninefold-rollout-parcels")
        for service in cluster.api.list("serving.kserve.io/v1beta1", "InferenceService"):
            cluster.api.delete("serving.kserve.io/v1beta1", "InferenceService", service["metadata"]["name"])
        for number in (0, 1, 2):
            self.serve(number)
        self.api = ClusterApi(cluster.name, field_manager=FIELD_MANAGER, patience=3.0)
        routes = HttpRoutes(
            self.api, "parcels", namespace=cluster.name, timeout_seconds=2.0, monotonic=time.monotonic
        )  # fmt: skip
        servers = Servers(
            ClusterApi(cluster.name, field_manager=RELEASE_MANAGER, patience=3.0), "parcels", cluster.settings
        )
        self.actuator = Actuator("parcels", self.store, servers, routes, self.api)

    def serve(self, number: int, **more: Any) -> None:
        version = self.store.version("parcels", number)
        assert version is not None
        self.cluster.serve(version, **more)

    def open(self) -> None:
        self.store.open_rollout(
            "parcels", incumbent=1, candidate=2, policy=POLICY.to_json(), actor="release", reason="gate", salt="r"
        )  # fmt: skip

    def step(self, state: Any, step: int | None = None, why: str = "so") -> None:
        kept = self.store.rollouts("parcels", limit=1)[0]
        self.store.record_step(
            kept.rollout_id, revision=kept.revision, actor="ada", action="go", state=state, step=step, reasons=(why,),
            live=kept.candidate if state == "promoted" else None,
        )  # fmt: skip

    def settle(self) -> None:
        """Ticks until what the store wants is in force."""

        def in_force() -> bool:
            self.actuator.act()
            kept = self.store.rollout("parcels")
            table = self.actuator.table
            wanted = (None, None) if kept is None else (kept.rollout_id, kept.revision)
            here = (table.rollout, table.rollout_revision) == wanted and self.published is not None
            return here and not self.actuator.problem

        until(in_force, 60, self.actuator.problem)

    @property
    def published(self) -> Any:
        found = self.store.published_routes("parcels")
        return None if found is None else found.table

    @property
    def problem(self) -> str:
        found = self.store.published_routes("parcels")
        return "" if found is None else found.problem


@pytest.fixture
def house(cluster: Namespace, tmp_path: Path) -> Iterator[House]:
    made = House(cluster, tmp_path)
    yield made
    made.store.close()
    made.api.close()


def test_the_gateway_splits_clients_and_finds_the_version_that_the_front_end_asks_for(house: House) -> None:
    house.open()
    house.step("shadow")
    house.step("canary", 0, "It is better.")
    house.settle()
    clients, inner = house.cluster.address("models"), house.cluster.address("models-inner")
    until(lambda: _asked(clients) == 200 and _asked(inner, version="2") == 200)
    with httpx.Client() as client:
        got = Counter(client.post(f"{clients}/v1/models/parcels:predict").json()["by"] for _ in range(400))
    # 20 % by the policy.
    assert set(got) == {1, 2}
    assert 50 <= got[2] <= 110
    liar = answered(clients, **{"x-ninefold-version": "2", "x-ninefold-cohort": "candidate", "x-ninefold-inner": "no"})
    # What a client says of itself goes no further, and it is told who answered.
    assert {name for name in liar.headers if name.startswith("got-") and liar.headers[name] not in ("", "-")} == set()
    assert liar.headers["x-ninefold-version"] == str(liar.json()["by"])
    for version in (0, 1, 2):
        answer = answered(
            inner, **{"x-ninefold-version": str(version), "x-ninefold-cohort": "live", "x-ninefold-inner": "s"}
        )
        assert answer.json() == {"by": version}
        assert answer.headers["got-x-ninefold-cohort"] == "live"
        assert answer.headers.get("got-x-ninefold-inner") in ("", "-", None)
    assert answered(inner, **{"x-ninefold-version": "7"}).status_code == 404
    assert answered(inner).status_code == 404
    assert httpx.get(f"{clients}/v1/models/parcels").status_code == 200
    assert httpx.get(f"{clients}/v2/models/parcels/ready").status_code == 200
    assert httpx.get(f"{clients}/v1/models/other").status_code == 404


def test_status_and_describe_say_the_same(house: House) -> None:
    house.open()
    house.step("shadow")
    house.step("canary", 0, "It is better by 0.4 h.")
    house.settle()
    command = [sys.executable, "-m", "ninefold", "rollout", "status", "rollout_house:USE_CASE", "--json"]
    shown = json.loads(subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60,
        env={**os.environ, "NINEFOLD_STORE_URL": house.url, "NINEFOLD_HOME": str(house.folder),
             "PYTHONPATH": str(ROLLOUTS)},
    ).stdout)  # fmt: skip
    described = house.cluster.kubectl("describe", "httproute", "parcels")
    rollout = shown["rollout"]
    for name, said in {
        "rollout": rollout["rollout_id"], "state": rollout["state"], "share": rollout["recorded"]["share"],
        "reasons": rollout["recorded"]["reasons"], "revision": rollout["routes"]["revision"],
    }.items():  # fmt: skip
        assert f"ninefold.dev/{name}: {said}\n" in described
    assert rollout["recorded"] == {"share": "20.00%", "reasons": "It is better by 0.4 h."}
    assert rollout["share"]["configured"] == 0.2
    assert rollout["routes"]["problem"] == ""
    until(
        lambda: "is canary, 20.00%: It is better by 0.4 h." in house.cluster.kubectl("describe", "httproute", "parcels")
    )


def test_weights_change_under_load_and_no_request_fails(house: House) -> None:
    house.settle()
    clients, inner = house.cluster.address("models"), house.cluster.address("models-inner")
    until(lambda: _asked(clients) == 200 and _asked(inner, version="1") == 200)
    outcomes: Counter[tuple[str, int]] = Counter()
    ended = threading.Event()

    def load(url: str, version: str) -> None:
        headers = {"x-ninefold-version": version}
        with httpx.Client(timeout=10.0) as client:
            while not ended.is_set():
                try:
                    answer = client.post(f"{url}/v1/models/parcels:predict", headers=headers)
                    outcomes[url, answer.status_code] += 1
                except httpx.HTTPError:
                    outcomes[url, 0] += 1

    threads = [threading.Thread(target=load, args=pair) for pair in ((clients, "1"), (clients, "1"), (inner, "1"))]
    for thread in threads:
        thread.start()
    try:
        house.open()
        for state, step in (("shadow", None), ("canary", 0), ("canary", 1), ("promoted", None)):
            house.step(state, step)
            house.settle()
            time.sleep(0.5)
        assert house.cluster.weights() == {"parcels-v2-predictor": 1}
        until(lambda: answered(clients).json() == {"by": 2})
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert {status for _, status in outcomes} == {200}, outcomes
    assert sum(outcomes.values()) > 100


def test_a_hand_on_the_route_is_told_and_left(house: House) -> None:
    house.open()
    house.step("shadow")
    house.settle()
    change = [{"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 7}]
    house.cluster.kubectl("patch", "httproute", "parcels", "--type=json", "-p", json.dumps(change))
    house.step("canary", 0)
    house.actuator.act()
    assert "HTTPRoute parcels in namespace" in house.problem
    assert "was changed by hand: kubectl-patch set spec.rules" in house.problem
    assert house.cluster.weights() == {"parcels-v1-predictor": 7}
    # Nor would the API server let it be taken: our own write is refused in words.
    route = house.cluster.route()
    assert route is not None
    warned = house.cluster.kubectl("describe", "httproute", "parcels")
    assert "RoutesHeld" in warned
    house.cluster.api.delete(API, "HTTPRoute", "parcels")
    house.settle()
    assert house.cluster.weights() == {"parcels-v1-predictor": 8_000, "parcels-v2-predictor": 2_000}


def test_a_version_that_never_gets_ready_is_named_and_the_live_one_goes_on(house: House) -> None:
    house.settle()
    before = house.published
    house.serve(2, ready=False, why="0 of 1 pods are ready")
    house.open()
    house.actuator.act()
    assert "InferenceService parcels-v2: PredictorReady is False" in house.problem
    assert "0 of 1 pods are ready" in house.problem
    assert house.published == before


def test_a_missing_service_and_a_missing_gateway_are_named(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.traffic.carrier.PATIENCE_SECONDS", 0.0)
    register(house.store, house.folder, 30, version=3)
    house.settle()
    before = house.published
    # Ready by its InferenceService, and KServe's Service is gone.
    house.serve(3)
    house.store.open_rollout("parcels", incumbent=1, candidate=3, policy=POLICY.to_json(), actor="release")
    until(lambda: house.actuator.act() or "BackendNotFound" in house.problem, 30)
    assert "HTTPRoute parcels-inner in namespace" in house.problem
    assert house.published == before

    kept = house.cluster.api.get("gateway.networking.k8s.io/v1", "Gateway", "models-inner")
    assert kept is not None
    house.cluster.api.delete("gateway.networking.k8s.io/v1", "Gateway", "models-inner")
    try:
        for name in ("parcels", "parcels-inner"):
            house.cluster.api.delete(API, "HTTPRoute", name)
        house.actuator.act()
        until(lambda: house.actuator.act() or "There is no Gateway models-inner in namespace" in house.problem, 30)
        assert house.published == before
    finally:
        house.cluster.gateways()
        until(lambda: _connects(house.cluster.address("models-inner")), 90)


@pytest.mark.long
def test_two_controllers_behind_a_failing_api_server_one_acts_and_no_step_is_lost(house: House, tmp_path: Path) -> None:
    """Faults by a proxy: 409, 429, 500, lost requests and lost answers, to a third of all requests."""
    chance = random.Random(7)
    faults: list[Fault] = ["conflict", "busy", "broken", "lost", "carried out and lost"]

    def fault(method: str, path: str) -> Fault:
        return chance.choice(faults) if chance.random() < 0.33 else "none"

    kubeconfig = Path(os.environ["KUBECONFIG"])
    revisions: list[int] = []
    watching = threading.Event()

    def watch() -> None:
        while not watching.wait(0.1):
            if (route := house.cluster.route()) is not None:
                revisions.append(int(route["metadata"]["annotations"][REVISION]))

    watcher = threading.Thread(target=watch)
    with FaultProxy(kubeconfig, fault) as proxy:
        processes = [_controller(house, proxy, tmp_path / str(n)) for n in range(2)]
        watcher.start()
        try:
            until(lambda: house.published is not None, 90, "nothing is published")
            house.open()
            until(lambda: house.published.candidate == 2, 90, house.problem)
            for state, step, weight in (("shadow", None, 0), ("canary", 0, 2_000), ("canary", 1, 5_000)):
                house.step(state, step)
                wanted = house.store.rollouts("parcels", limit=1)[0].revision
                until(lambda wanted=wanted: house.published.rollout_revision == wanted, 90, house.problem)
                until(lambda weight=weight: house.cluster.weights().get("parcels-v2-predictor", 0) == weight, 90)
            lease = house.cluster.api.get("coordination.k8s.io/v1", "Lease", "ninefold-rollout-parcels")
            assert lease is not None
            leader = lease["spec"]["holderIdentity"]
            dying = next(p for p in processes if leader.endswith(f"_{p.pid}"))
            dying.send_signal(signal.SIGKILL)
            # Made live by hand while nobody leads: the controllers record that the rollout is over, once.
            house.store.set_state("parcels", 2, "live")
            until(lambda: house.cluster.weights() == {"parcels-v2-predictor": 1}, 120, house.problem)
            until(lambda: house.published.live == 2 and house.published.candidate is None, 90)
            ends = house.store.steps(house.store.rollouts("parcels")[0].rollout_id)
            assert [step.action for step in ends if step.to_state == "promoted"] == ["promote"]
            now = house.cluster.api.get("coordination.k8s.io/v1", "Lease", "ninefold-rollout-parcels")
            assert now is not None
            assert now["spec"]["holderIdentity"] not in ("", leader)
        finally:
            watching.set()
            watcher.join()
            for process in processes:
                process.kill()
                process.wait()
        injected = Counter(fault for _, _, fault in proxy.seen)
    assert set(injected) == {"none", *faults}
    assert revisions == sorted(revisions)
    route = house.cluster.route()
    assert route is not None
    assert int(route["metadata"]["annotations"][REVISION]) >= house.published.revision


def test_killed_between_the_route_and_the_store_the_next_one_goes_on(house: House, tmp_path: Path) -> None:
    house.settle()
    before = house.published.revision
    house.open()
    killed = threading.Event()
    processes: list[subprocess.Popen[str]] = []

    def after(method: str, path: str) -> None:
        if method == "PATCH" and "/httproutes/parcels-inner" in path and not killed.is_set():
            killed.set()
            processes[0].kill()

    with FaultProxy(Path(os.environ["KUBECONFIG"]), lambda *_: "none", after) as proxy:
        processes.append(_controller(house, proxy, tmp_path / "0"))
        try:
            assert killed.wait(60)
            processes[0].wait()
            written = house.cluster.route("parcels-inner")
            assert written is not None
            assert house.published.revision == before
            assert int(written["metadata"]["annotations"][REVISION]) > before
            processes.append(_controller(house, proxy, tmp_path / "1"))
            until(lambda: house.published.candidate == 2, 60, house.problem)
            assert house.published.revision > int(written["metadata"]["annotations"][REVISION])
            port = _port_of(processes[1])
            assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
            assert 'ninefold_routes_leads{use_case="parcels"} 1.0' in httpx.get(f"http://127.0.0.1:{port}/metrics").text
            processes[1].send_signal(signal.SIGTERM)
            assert processes[1].wait(30) == 0
            lease = house.cluster.api.get("coordination.k8s.io/v1", "Lease", "ninefold-rollout-parcels")
            assert lease is not None
            assert not lease["spec"].get("holderIdentity")
        finally:
            for process in processes:
                process.kill()
                process.wait()


_PORTS: dict[int, int] = {}


def _controller(house: House, proxy: FaultProxy, home: Path) -> subprocess.Popen[str]:
    home.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = environment(house.url, home, proxy.kubeconfig(home), house.cluster.name, port)
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.rollout", "--use-case", "rollout_house:USE_CASE"],
            env={**given, "PYTHONPATH": str(ROLLOUTS)}, stdout=log, stderr=subprocess.STDOUT, text=True,
            cwd=Path(__file__).parents[3],
        )  # fmt: skip
    _PORTS[process.pid] = port
    return process


def _port_of(process: subprocess.Popen[str]) -> int:
    return _PORTS[process.pid]


def _asked(url: str, version: str = "") -> int:
    try:
        return answered(url, **({"x-ninefold-version": version} if version else {})).status_code
    except httpx.HTTPError:
        return 0


def _connects(url: str) -> bool:
    try:
        httpx.get(url, timeout=5.0)
    except httpx.HTTPError:
        return False
    return True
