"""The loop on a cluster: applied, trained, asked, split, hurt, rolled back. The tests go on from one another."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import client
import pytest
from house import NAMESPACE, House, apply_overlay
from kubectl import kubectl, read, read_all, wait_rolled_out, wait_until
from training import has_kfp, run_as_job, run_script

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

WITHIN = ("--namespace", NAMESPACE)
PREDICT = "/v1/models/arrivals:predict"
SEARCH_SECONDS = 20


def flight() -> dict[str, Any]:
    """A flight that departs now: what is judged was decided lately."""
    at = datetime.now(UTC).replace(microsecond=0)
    return {
        "date": at.date().isoformat(),
        "carrier": "UA",
        "flight": 1,
        "origin": "EWR",
        "destination": "IAH",
        "tail_number": "N14228",
        "scheduled_departure": at.isoformat(),
        "scheduled_arrival": (at + timedelta(hours=3)).isoformat(),
        "departed_at": at.isoformat(),
    }


def ask(house: House, **more: Any) -> dict[str, Any]:
    return client.ask(f"{house.applications}{PREDICT}", flight(), headers=house.headers, **more)


def in_house(script: str, *arguments: str) -> Any:
    """What a script that stands in the controller's pod prints, as JSON; it finds ``store`` open."""
    opened = "import json, sys\nfrom ninefold.settings import settings\nfrom ninefold.store import open_store\n"
    opened += "store = open_store(settings().store_url)\n"
    printed = kubectl(*WITHIN, "exec", "deployment/rollout", "--", "python", "-c", opened + script, *arguments)
    return json.loads(printed) if printed.strip() else None


def route(name: str) -> dict[str, Any]:
    found: dict[str, Any] = read(*WITHIN, "httproute", name)
    return found


def weights() -> dict[str, int]:
    backends = route("arrivals")["spec"]["rules"][0]["backendRefs"]
    return {backend["name"]: backend["weight"] for backend in backends}


def open_rollout(candidate: int) -> str:
    rollout: str = in_house(
        "from ninefold.loading import load_use_case\n"
        "policy = load_use_case('arrivals').rollout.to_json()\n"
        "opened = store.open_rollout('arrivals', incumbent=1, candidate=int(sys.argv[1]), policy=policy, actor='e2e')\n"
        "print(json.dumps(opened.rollout_id))",
        str(candidate),
    )
    return rollout


def registered(name: str, script: str) -> int:
    """The version that a script registers; it prints its number last."""
    return int(run_script(name, script, NAMESPACE).split()[-1])


def state_of(rollout: str) -> str:
    state: str = in_house("print(json.dumps(store.find_rollout(sys.argv[1]).state))", rollout)
    return state


def test_the_overlay_comes_up(house: House) -> None:
    for gateway in ("models", "models-inner"):
        wait_until(f"Gateway {gateway} is programmed", lambda name=gateway: _condition("gateway", name, "Programmed"))
    wait_rolled_out("deployment/collector", "deployment/featurizer", "deployment/rollout", namespace=NAMESPACE)


def test_training_releases_the_first_version(house: House) -> None:
    if has_kfp():
        pytest.skip("Kubeflow Pipelines train: see test_pipelines.py")
    arguments = ["run", "training", "arrivals", "--until", "2013-07-01", "--max-training-time", str(SEARCH_SECONDS)]
    log = run_as_job("e2e-training", ["-m", "ninefold", *arguments], NAMESPACE)
    assert "version 1" in log.lower(), log[-2000:]
    opened = in_house("found = store.rollout('arrivals')\nprint(json.dumps([found.incumbent, found.candidate]))")
    assert opened == [0, 1], "the baseline answers, and the first model is tried beside it"
    for version in (0, 1):
        assert _condition("inferenceservice", f"arrivals-v{version}", "Ready")


def test_the_baseline_answers_and_the_model_is_promoted_by_hand(house: House) -> None:
    wait_rolled_out("deployment/front-end", namespace=NAMESPACE)
    url = f"{house.applications}{PREDICT}"
    wait_until("version 0 answers", lambda: client.wait_answers(url, flight(), house.headers)["seen"].get("version 0"))
    wait_until("version 1 is in shadow", lambda: _newest()["state"] == "shadow", 120)
    kubectl(*WITHIN, "exec", "deployment/rollout", "--", "python", "-m", "ninefold", "rollout", "promote", "arrivals",
            "--reason", "It passed its gate.")  # fmt: skip
    assert _newest()["state"] == "promoted"


def test_predicts_through_the_gateway(house: House) -> None:
    url = f"{house.applications}{PREDICT}"
    wait_until(
        "version 1 answers",
        lambda: client.wait_answers(url, flight(), house.headers)["seen"].get("version 1"),
    )
    found = ask(house, requests=200)
    assert found["errors"] == {}
    assert found["seen"]["version 1"] == found["seen"]["fallback None"] == 200
    refused = client.ask(url, flight(), headers={"x-apikey": "wrong"}, requests=1)
    assert [words[:3] for words in refused["errors"]] == ["401"]


def test_every_prediction_is_in_the_store(house: House) -> None:
    before = _predictions()
    assert ask(house, requests=100)["seen"]["answered"] == 100
    wait_until("100 more predictions are in the store", lambda: _predictions() == before + 100, 60)


def test_nobody_but_the_front_end_is_admitted_inside(house: House) -> None:
    script = (
        "import httpx, json\n"
        f"url = 'http://models-inner.envoy-gateway-system.svc.cluster.local{PREDICT}'\n"
        "try:\n"
        "    print(httpx.post(url, json={}, headers={'x-ninefold-version': '1'}, timeout=5).status_code)\n"
        "except httpx.TransportError:\n"
        "    print('no connection')"
    )
    # Where network policies are enforced not even a connection is made.
    assert client.run(script).strip() in ("401", "403", "no connection")


def test_a_canary_splits_as_it_says(house: House) -> None:
    house.candidate = registered("e2e-twin", _TWIN)
    rollout = open_rollout(house.candidate)
    wait_until("the controller takes the candidate into shadow", lambda: state_of(rollout) == "shadow", 300, pause=2)
    in_house(
        "found = store.find_rollout(sys.argv[1])\n"
        "store.record_step(found.rollout_id, revision=found.revision, actor='e2e', action='advance', state='canary',"
        " step=1, reasons=('Moved by hand.',))",
        rollout,
    )
    wait_until("the route carries 20 %", lambda: _share(house.candidate) == 0.2, 60)
    wait_until("the front end goes by it", lambda: ask(house, requests=60)["seen"].get("cohort candidate"), 60)

    found = ask(house, requests=2000)
    assert found["errors"] == {}
    assert all(len(cohorts) == 1 for cohorts in found["sides"].values()), "who is drawn stays drawn"
    drawn = sum(cohorts == ["candidate"] for cohorts in found["sides"].values())
    assert 0.15 < drawn / len(found["sides"]) < 0.25

    instance = in_house(
        "from ninefold.package import verify_package\nfound = store.version('arrivals', 1)\n"
        "inputs = verify_package(found.uri, found.digest).signature.inputs\n"
        "print(json.dumps({i.name: 1.0 if i.kind == 'number' else None for i in inputs}))"
    )
    direct = client.ask(
        f"{house.clients}{PREDICT}", instance, headers={"x-apikey": house.keys["model"]},
        requests=2000, vary="",
    )  # fmt: skip
    assert direct["errors"] == {}
    by = [direct["seen"].get(f"by {version}", 0) for version in (1, house.candidate)]
    assert sum(by) == 2000
    # χ² of one degree of freedom at p = 1e-4.
    assert (by[1] - 400) ** 2 / 400 + (by[0] - 1600) ** 2 / 1600 < 15.1, by


def test_what_describes_the_route_agrees_with_status(house: House) -> None:
    shown = json.loads(
        kubectl(*WITHIN, "exec", "deployment/rollout", "--", "python", "-m", "ninefold", "rollout", "status",
                "arrivals", "--json")
    )  # fmt: skip
    annotations = route("arrivals")["metadata"]["annotations"]
    assert annotations["ninefold.dev/rollout"] == shown["rollout"]["rollout_id"]
    assert annotations["ninefold.dev/state"] == shown["rollout"]["state"] == "canary"
    assert annotations["ninefold.dev/share"] == "20.00%"


def test_applying_the_overlay_in_mid_canary_changes_no_weight(house: House, tmp_path: Path) -> None:
    before = route("arrivals")
    apply_overlay(tmp_path, house)
    after = route("arrivals")
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


def test_deaths_under_load_fail_no_request(house: House) -> None:
    wait_rolled_out("deployment/front-end", namespace=NAMESPACE)
    victims = {
        "a front end": "app.kubernetes.io/name=front-end",
        "the live version's server": "serving.kserve.io/inferenceservice=arrivals-v1",
        "the candidate's server": f"serving.kserve.io/inferenceservice=arrivals-v{house.candidate}",
        "the controller": "app.kubernetes.io/name=rollout",
        "the collector": "app.kubernetes.io/name=collector",
    }
    for what, selector in victims.items():
        pod = read_all(*WITHIN, "pods", f"--selector={selector}")[0]["metadata"]["name"]
        found = _ask_while(house, 20, lambda name=pod: kubectl(*WITHIN, "delete", "pod", name, "--wait=false"))
        assert found["errors"] == {}, f"{what} was deleted"
        assert found["seen"]["answered"] > 100
        wait_rolled_out("deployment/front-end", "deployment/rollout", "deployment/collector", namespace=NAMESPACE)


def test_a_version_that_answers_nonsense_is_rolled_back(house: House) -> None:
    current = in_house("print(json.dumps(store.rollout('arrivals').rollout_id))")
    in_house(
        "found = store.find_rollout(sys.argv[1])\n"
        "store.record_step(found.rollout_id, revision=found.revision, actor='e2e', action='abort',"
        " state='rolled_back', reasons=('Ended by hand.',))",
        current,
    )
    house.candidate = registered("e2e-nonsense", _NONSENSE)
    rollout = open_rollout(house.candidate)
    wait_until("the candidate is in shadow", lambda: state_of(rollout) == "shadow", 300, pause=2)

    def rolled_back() -> bool:
        found = ask(house, seconds=5, pause=0.02)
        assert found["errors"] == {}
        assert f"version {house.candidate}" not in found["seen"], "nobody got its answer"
        return state_of(rollout) == "rolled_back"

    wait_until("the candidate is rolled back", rolled_back, 240)
    reasons = in_house("print(json.dumps(store.steps(sys.argv[1])[-1].reasons))", rollout)
    assert any("failed" in reason for reason in reasons), reasons
    wait_until("its routes are gone", lambda: list(weights()) == ["arrivals-v1-predictor"], 60)


def test_a_hand_on_the_route_is_reported(house: House) -> None:
    patch = [{"op": "replace", "path": "/spec/rules/0/timeouts/request", "value": "9s"}]
    kubectl(*WITHIN, "patch", "httproute", "arrivals", "--type=json", f"--patch={json.dumps(patch)}",
            "--field-manager=somebody")  # fmt: skip

    def reported() -> bool:
        log = kubectl(*WITHIN, "logs", "--selector=app.kubernetes.io/name=rollout", "--tail=200", check=False)
        return "somebody" in log

    # It is looked at when something has to change.
    open_rollout(registered("e2e-twin", _TWIN))
    wait_until("the conflict is told", reported, 120)
    assert route("arrivals")["spec"]["rules"][0]["timeouts"]["request"] == "9s", "and not fought over"
    kubectl(*WITHIN, "delete", "httproute", "arrivals")
    wait_until("the route is made again", lambda: read(*WITHIN, "httproute", "arrivals"), 60)


_VERSION_1 = """
import uuid
from dataclasses import replace
import onnx
from onnx import TensorProto, helper
from ninefold.package import read_package, write_package
from ninefold.settings import settings
from ninefold.store import open_store

store = open_store(settings().store_url)
found = store.version("arrivals", 1)
manifest, files = read_package(found.uri, found.digest)
manifest = replace(manifest, training={**manifest.training, "again": uuid.uuid4().hex})
"""

_TWIN = f"""{_VERSION_1}
digest, uri = write_package(settings().models_url, manifest, files)
print(store.register_version("arrivals", digest, uri).version)
"""
"""Registers a version that answers as version 1 does."""

_NONSENSE = f"""{_VERSION_1}
graph = onnx.load_from_string(files["model.onnx"])
output = graph.graph.output[0]
for node in graph.graph.node:
    for place, name in enumerate(node.output):
        if name == output.name:
            node.output[place] = "sane"
nothing = helper.make_tensor("nothing", TensorProto.FLOAT, [1], [float("nan")])
graph.graph.initializer.append(nothing)
graph.graph.node.append(helper.make_node("Mul", ["sane", "nothing"], [output.name]))
digest, uri = write_package(settings().models_url, manifest, {{**files, "model.onnx": graph.SerializeToString()}})
print(store.register_version("arrivals", digest, uri).version)
"""
"""Registers a version all of whose answers are no numbers."""


def _condition(kind: str, name: str, condition: str) -> bool:
    found = read(*WITHIN, kind, name) or {}
    conditions = found.get("status", {}).get("conditions") or []
    return any(c["type"] == condition and c["status"] == "True" for c in conditions)


def _newest() -> dict[str, Any]:
    found: dict[str, Any] = in_house(
        "found = store.rollouts('arrivals')[0]\nprint(json.dumps({'id': found.rollout_id, 'state': found.state}))"
    )
    return found


def _share(version: int) -> float:
    found = weights()
    return found.get(f"arrivals-v{version}-predictor", 0) / sum(found.values())


def _predictions() -> int:
    count: int = in_house(
        "import sqlalchemy as sa\nfrom ninefold.store import tables\n"
        "with store.reading() as connection:\n"
        "    print(json.dumps(connection.execute(sa.select(sa.func.count()).select_from(tables.predictions)"
        ".where(tables.predictions.c.cohort != 'shadow')).scalar()))"
    )
    return count


def _ask_while(house: House, seconds: float, act: Any) -> dict[str, Any]:
    """Asks for so long, and acts a few seconds after the beginning."""
    from concurrent.futures import ThreadPoolExecutor
    from time import sleep

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, house, seconds=seconds, pause=0.01)
        sleep(seconds / 5)
        act()
        return asked.result()
