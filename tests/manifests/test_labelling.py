"""The component labelling: the Label Studio that the labeller is tested with, silent, reached by its steps alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.labeller.connection import Credentials, webhook
from components.labeller.installation import LIST
from components.labeller.running import silent_environment
from manifests.check.__main__ import generated_secrets
from manifests.check.build import ROOT, versions
from manifests.check.findings import Document, labels, name, namespace, of_kind, pods, selects
from manifests.check.policies import judge
from manifests.check.workloads import containers
from manifests.kind_secrets import make_secrets
from ninefold.settings import Settings

Built = Callable[..., list[dict[str, Any]]]
OVERLAYS = pytest.mark.parametrize("overlay", ["kind", "production"])
WORKFLOW = {"workflows.argoproj.io/workflow": "run"}
SECRET = "ninefold-label-studio"


@dataclass(frozen=True)
class Peer:
    """Where something runs, and by which labels policies know it."""

    labels: Mapping[str, str]
    namespace: str = "ninefold"


def reaches(documents: Sequence[Document], source: Peer, target: Peer, port: int) -> bool:
    """Whether the policies of both ends let a connection through."""
    return _allowed(documents, "Egress", source, target, port) and _allowed(documents, "Ingress", target, source, port)


def _allowed(documents: Sequence[Document], way: str, of: Peer, other: Peer, port: int) -> bool:
    mine = [
        policy for policy in of_kind(documents, "NetworkPolicy")
        if namespace(policy) == of.namespace and way in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], of.labels)
    ]  # fmt: skip
    rules = [rule for policy in mine for rule in policy["spec"].get(way.lower()) or ()]
    side = {"Egress": "to", "Ingress": "from"}[way]
    return not mine or any(
        ("ports" not in rule or port in [entry["port"] for entry in rule["ports"]])
        and (side not in rule or any(_is(peer, of, other) for peer in rule[side]))
        for rule in rules
    )


def _is(selector: Mapping[str, Any], of: Peer, other: Peer) -> bool:
    if "namespaceSelector" in selector:
        there = selects(selector["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace})
    else:
        there = other.namespace == of.namespace
    return there and selects(selector.get("podSelector", {}), other.labels)


def _executors(pipeline: str) -> list[dict[str, Any]]:
    """What a pipeline's steps ask of a cluster, as it is compiled."""
    _, platform = yaml.safe_load_all((ROOT.parent / "pipelines" / "compiled" / f"{pipeline}.yaml").read_text())
    found = list(platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values())
    assert found
    return found


def _steps(pipeline: str) -> list[Peer]:
    """The pods of a pipeline's steps, here and beside Kubeflow Pipelines."""
    found = [{**WORKFLOW, **executor["podMetadata"]["labels"]} for executor in _executors(pipeline)]
    return [Peer(one, where) for one in found for where in ("ninefold", "kubeflow")]


def _apps(documents: Sequence[Document]) -> dict[str, Peer]:
    return {name(made.owner): Peer(made.labels) for made in pods(documents) if not made.served}


def _studio(documents: Sequence[Document]) -> dict[str, Any]:
    (found,) = [one for one in of_kind(documents, "Deployment") if name(one) == "label-studio"]
    return dict(found["spec"])


def _container(documents: Sequence[Document]) -> dict[str, Any]:
    return dict(_studio(documents)["template"]["spec"]["containers"][0])


@OVERLAYS
def test_it_keeps_the_rules_of_the_house(overlay: str, built: Built) -> None:
    found = judge(built(overlay, "labelling"), generated_secrets(ROOT / "overlays" / overlay))
    assert [str(one) for one in found] == []


@OVERLAYS
def test_the_image_is_of_the_version_that_the_labeller_is_tested_with(overlay: str, built: Built) -> None:
    locked = re.search(r"^label-studio==(\S+)", LIST.read_text(), re.MULTILINE)
    assert locked is not None
    assert _container(built(overlay, "labelling"))["image"] == f"heartexlabs/label-studio:{locked[1]}"
    assert versions()["LABEL_STUDIO_VERSION"] == locked[1]


@OVERLAYS
def test_steps_of_the_labelling_pipeline_reach_it_and_nobody_else_does(overlay: str, built: Built) -> None:
    documents = built(overlay, "labelling")
    apps = _apps(documents)
    studio = apps.pop("label-studio")
    assert all(reaches(documents, step, studio, 8080) for step in _steps("labelling"))
    assert not any(reaches(documents, step, studio, 8081) for step in _steps("labelling"))
    for pipeline in ("training", "tuning", "monitoring", "materialization", "retention"):
        assert not any(reaches(documents, step, studio, 8080) for step in _steps(pipeline))
    strangers = {**apps, "of no label": Peer({}), "of another namespace": Peer(_steps("labelling")[0].labels, "other")}
    assert len(strangers) >= 6
    assert [known for known, peer in strangers.items() if reaches(documents, peer, studio, 8080)] == []


@OVERLAYS
def test_it_reaches_the_collector_and_the_names_of_hosts_and_nobody_else(overlay: str, built: Built) -> None:
    documents = built(overlay, "labelling")
    apps = _apps(documents)
    studio, dns = apps.pop("label-studio"), Peer({"k8s-app": "kube-dns"}, "kube-system")
    everybody = {**apps, "dns": dns, "elsewhere": Peer({}, "elsewhere")}
    ports = (53, 80, 443, 5432, 6379, 8080, 8081, 8088)
    reached = {(known, port) for known, peer in everybody.items() for port in ports
               if reaches(documents, studio, peer, port)}  # fmt: skip
    assert reached == {("collector", 8081), ("dns", 53)}


def test_a_label_alone_lets_a_pod_out_to_it(built: Built) -> None:
    documents = built("kind", "labelling")
    assert reaches(documents, Peer({"ninefold.dev/labelling": "true"}), _apps(documents)["label-studio"], 8080)


def test_without_the_component_the_collector_hears_nobody_but_the_gateway(built: Built) -> None:
    documents = built("kind")
    stranger = Peer({"app.kubernetes.io/name": "label-studio"})
    assert not reaches(documents, stranger, _apps(documents)["collector"], 8081)


@OVERLAYS
def test_steps_and_webhook_find_the_services_that_are_there(
    overlay: str, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = built(overlay, "labelling")
    (settings,) = [one["data"] for one in of_kind(documents, "ConfigMap") if name(one) == "ninefold"]
    there = {
        f"http://{name(one)}.{namespace(one)}.svc.cluster.local:{one['spec']['ports'][0]['port']}": name(one)
        for one in of_kind(documents, "Service")
    }
    assert there[settings["NINEFOLD_LABELLING__URL"]] == "label-studio"
    assert there[settings["NINEFOLD_LABELLING__WEBHOOK_URL"]] == "collector"
    for key in ("ENVIRONMENT", "LABELLING__URL", "LABELLING__WEBHOOK_URL"):
        monkeypatch.setenv(f"NINEFOLD_{key}", settings[f"NINEFOLD_{key}"])
    monkeypatch.setenv("NINEFOLD_STORE_URL", "sqlite:////tmp/x.db")
    monkeypatch.setenv("NINEFOLD_LABELLING__WEBHOOK_SECRET", "s")
    made = webhook(Settings(), "reviews", 1)
    assert made is not None
    assert made["url"] == "http://collector.ninefold.svc.cluster.local:8081/v1/labels/reviews"


@OVERLAYS
def test_steps_collector_and_label_studio_know_each_other_by_one_secret(overlay: str, built: Built) -> None:
    documents = built(overlay, "labelling")
    (collector,) = [made for made in pods(documents) if name(made.owner) == "collector"]
    taken = {
        entry["name"]: entry["valueFrom"]["secretKeyRef"]
        for container in (collector.containers[0], _container(documents))
        for entry in container["env"]
        if "secretKeyRef" in entry.get("valueFrom", {})
    }
    assert taken["NINEFOLD_LABELLING__WEBHOOK_SECRET"] == {"name": SECRET, "key": "webhook-secret"}
    for what in ("username", "password"):
        assert taken[f"LABEL_STUDIO_{what.upper()}"] == {"name": SECRET, "key": what}
    assert taken["LABEL_STUDIO_USER_TOKEN"] == {"name": SECRET, "key": "token"}
    for executor in _executors("labelling"):
        (of_step,) = [one for one in executor["secretAsEnv"] if one["secretName"] == SECRET]
        assert {entry["envVar"]: entry["secretKey"] for entry in of_step["keyToEnv"]} == {
            "NINEFOLD_LABELLING__TOKEN": "token",
            "NINEFOLD_LABELLING__WEBHOOK_SECRET": "webhook-secret",
        }


def test_it_is_as_silent_as_the_one_on_a_laptop(built: Built, tmp_path: Path) -> None:
    env = {entry["name"]: entry.get("value") for entry in _container(built("kind", "labelling"))["env"]}
    wanted = silent_environment(tmp_path, Credentials("who", "password", "token"))
    # Whom it may reach and where its data lie differ from place to place; who administers it comes from a Secret.
    other = {
        "LABEL_STUDIO_BASE_DATA_DIR", "LABEL_STUDIO_USER_ADDITIONAL_BANNED_SUBNETS", "NO_PROXY", "no_proxy",
        "LABEL_STUDIO_USERNAME", "LABEL_STUDIO_PASSWORD", "LABEL_STUDIO_USER_TOKEN",
    }  # fmt: skip
    assert set(wanted) <= set(env)
    assert {key: env[key] for key in set(wanted) - other} == {key: wanted[key] for key in set(wanted) - other}


def test_one_pod_at_a_time_writes_to_the_claim_and_nowhere_else(built: Built) -> None:
    documents = built("kind", "labelling")
    spec, container = _studio(documents), _container(documents)
    (claim,) = of_kind(documents, "PersistentVolumeClaim")
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in spec["template"]["spec"]["volumes"]}
    env = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == name(claim)
    assert mounts == {"data": env["LABEL_STUDIO_BASE_DATA_DIR"], "tmp": env["HOME"]}
    # LABEL_STUDIO_PORT is Label Studio's own.
    assert spec["template"]["spec"]["enableServiceLinks"] is False


def test_kinds_secret_holds_what_label_studio_takes(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    lines = (tmp_path / "label-studio.env").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines)
    assert set(values) == {"username", "password", "token", "webhook-secret"}
    assert "@" in values["username"]
    # Label Studio cuts none off and takes no longer one.
    assert len(values["token"]) == 40
    assert len(set(values.values())) == 4


def test_the_pod_that_the_docs_show_has_its_ways_and_no_rights(built: Built) -> None:
    page = (ROOT.parent / "docs" / "labelling.md").read_text()
    (text,) = [part for part in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "kind: Pod\n" in part]
    pod = yaml.safe_load(text)
    documents = built("kind", "labelling")
    apps = _apps(documents)
    for target, port in (("label-studio", 8080), ("postgres", 5432)):
        assert reaches(documents, Peer(labels(pod)), apps[target], port)
    assert [found.rule for found in containers([pod]) if found.rule != "probes"] == []
    used = {entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in pod["spec"]["containers"][0]["env"]}
    assert used["NINEFOLD_LABELLING__TOKEN"] == {"name": SECRET, "key": "token"}
