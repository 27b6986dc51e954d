"""What the manifests say is true of the services: settings, ports, paths, metrics, versions; and secrets stay out."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml

from components.image import IMAGE
from manifests.check.__main__ import generated_secrets
from manifests.check.build import COMBINATIONS, ROOT, Combination, build, copied, kustomize, versions
from manifests.check.definitions import Definitions
from manifests.check.findings import name, of_kind, pods
from manifests.check.house import SECRETS
from manifests.check.policies import judge
from manifests.check.validate import validate
from manifests.kind_secrets import make_secrets
from ninefold import __version__
from ninefold.cluster.inference_service import inference_service
from ninefold.keys import Keys
from ninefold.records import ModelVersion
from ninefold.settings import Settings
from serving.collector import metrics as of_collector
from serving.featurizer import metrics as of_featurizer
from serving.front_end.metrics import Metrics
from serving.model_server.metrics import Counters
from serving.traffic.httproutes import CLIENTS_GATEWAY, CLIENTS_LISTENER, INNER_GATEWAY

Built = Callable[..., list[dict[str, Any]]]
OVERLAYS = ("kind", "production", "knative")
NO_SETTINGS = {"NINEFOLD_USE_CASE", "NINEFOLD_MODEL_NAME", "NINEFOLD_MODEL_DIGEST"}
"""Names that arguments and Feast's repository use, and services don't read."""

PORTS = {
    "front-end": "front_end",
    "collector": "collector",
    "featurizer": "featurizer",
    "rollout": "rollout",
}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_builds_and_keeps_schemas_and_rules(overlay: str, built: Built) -> None:
    documents = built(overlay)
    assert [str(found) for found in validate(documents, Definitions("nowhere")).findings] == []
    assert [str(found) for found in judge(documents, generated_secrets(ROOT / "overlays" / overlay))] == []


def test_the_durable_journal_is_a_claim_of_each_pod(built: Built) -> None:
    documents = built("kind", "durable-journal")
    (front_end,) = [found for found in of_kind(documents, "StatefulSet") if name(found) == "front-end"]
    pod = front_end["spec"]["template"]["spec"]
    (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "journal"]
    assert mount["mountPath"] == "/var/lib/ninefold/journal"
    assert [claim["metadata"]["name"] for claim in front_end["spec"]["volumeClaimTemplates"]] == ["journal"]
    assert {"name": "NINEFOLD_JOURNAL__FSYNC", "value": "true"} in pod["containers"][0]["env"]
    assert "front-end" not in map(name, of_kind(documents, "Deployment"))
    assert judge(documents, generated_secrets(ROOT / "overlays" / "kind")) == []


def test_a_pipeline_that_kubectl_applied_runs_in_the_image_that_the_nodes_have(built: Built) -> None:
    versions_of_pipelines = of_kind(built("kind"), "PipelineVersion")
    images = {
        found["spec"]["pipelineSpec"]["root"]["inputDefinitions"]["parameters"]["image"]["defaultValue"]
        for found in versions_of_pipelines
    }
    assert images == {f"localhost/{IMAGE}"}


def _set(documents: list[dict[str, Any]]) -> Iterator[tuple[str, str | None]]:
    for document in of_kind(documents, "ConfigMap"):
        yield from (document.get("data") or {}).items()
    for made in pods(documents):
        for container in made.containers:
            for entry in container.get("env") or ():
                yield entry["name"], entry.get("value")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_setting_in_an_overlay_is_one_that_services_know(
    overlay: str, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {key: value for key, value in _set(built(overlay)) if key.startswith("NINEFOLD_")}
    assert {"NINEFOLD_ENVIRONMENT", "NINEFOLD_STORE_URL", "NINEFOLD_CLUSTER__ROUTES"} <= set(given)
    for key in set(given) - NO_SETTINGS:
        group: Any = Settings
        for part in key.removeprefix("NINEFOLD_").lower().split("__"):
            assert part in group.model_fields, f"{key} is no setting"
            group = group.model_fields[part].annotation
        monkeypatch.setenv(key, given[key] or "sqlite:////tmp/x.db")
    assert Settings().environment == "cluster"


def test_a_services_ports_are_those_of_the_settings(built: Built) -> None:
    ports = Settings().ports
    for made in pods(built("kind")):
        if (app := name(made.owner)) in PORTS:
            assert made.containers[0]["ports"] == [{"name": "http", "containerPort": getattr(ports, PORTS[app])}]
        elif made.served:
            assert f"--port={made.containers[0]['ports'][0]['containerPort']}" in made.containers[0]["args"]
    (ui,) = [made for made in pods(built("kind")) if name(made.owner) == "evidently"]
    assert ui.containers[0]["ports"][0]["containerPort"] == Settings().monitoring.ui_port


def test_what_a_service_is_started_with_is_there(built: Built) -> None:
    for made in pods(built("kind")):
        for container in made.containers:
            arguments = container.get("args") or []
            if arguments[:1] == ["-m"] and "ninefold/" in container["image"]:
                module = Path(ROOT.parent, *arguments[1].split("."))
                assert (module / "__main__.py").exists(), arguments


def test_the_controllers_routes_find_their_gateways(built: Built) -> None:
    for overlay in ("kind", "production"):
        gateways = {name(found): found["spec"]["listeners"] for found in of_kind(built(overlay), "Gateway")}
        assert set(gateways) == {CLIENTS_GATEWAY, INNER_GATEWAY}
        assert CLIENTS_LISTENER in [listener["name"] for listener in gateways[CLIENTS_GATEWAY]]


def test_the_template_of_a_version_is_what_the_releaser_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    template = yaml.safe_load((ROOT / "base" / "models" / "version.template.yaml").read_text())
    digest = template["metadata"]["annotations"]["ninefold.dev/digest"]
    version = ModelVersion(
        use_case="arrivals", version=7, digest=digest, uri=f"s3://ninefold/models/{digest}", state="registered",
        created_at=datetime(2013, 7, 1, tzinfo=UTC),
    )  # fmt: skip
    assert template == inference_service("arrivals", version, Settings())


def _exported() -> set[str]:
    families = [*Metrics("arrivals").collect(), *Counters().collect()]
    ours = {of_collector.__name__, of_featurizer.__name__}
    assert ours
    families += [f for f in prometheus_client.REGISTRY.collect() if f.name.startswith("ninefold_")]
    suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    return {family.name + suffix for family in families for suffix in suffixes.get(family.type, ("",))}


def test_alerts_and_dashboard_ask_for_metrics_that_services_export(built: Built) -> None:
    documents = built("kind")
    rules = json.dumps(of_kind(documents, "PrometheusRule"))
    (board,) = [found["data"] for found in of_kind(documents, "ConfigMap") if name(found) == "ninefold-dashboard"]
    panels = json.loads(board["ninefold.json"])["panels"]
    asked = json.dumps([target["expr"] for panel in panels for target in panel["targets"]])
    for text in (rules, asked):
        found = set(re.findall(r"\bninefold_(?:front_end|model|collector|featurizer)_[a-z_]+", text))
        assert found
        # Words about a metric in an alert's text count as well.
        assert found - _exported() == set()


def test_what_is_scraped_has_the_port_that_is_named(built: Built) -> None:
    documents = built("kind")
    named = {
        name(made.owner) for made in pods(documents) for p in made.containers[0].get("ports", ()) if p["name"] == "http"
    }
    for monitor in of_kind(documents, "ServiceMonitor", "PodMonitor"):
        for expression in monitor["spec"]["selector"].get("matchExpressions", ()):
            assert set(expression.get("values", ())) <= named


def test_images_are_of_the_pinned_versions(built: Built) -> None:
    pinned = versions()
    assert pinned["NINEFOLD_VERSION"] == f"{__version__}-python3.11"
    wanted = {"postgres": "POSTGRES", "redis": "REDIS", "serving": "NINEFOLD", "pipeline": "NINEFOLD"}
    for overlay in OVERLAYS:
        for made in pods(built(overlay)):
            image, _, tag = made.containers[0]["image"].rpartition(":")
            assert tag == pinned[f"{wanted[image.rpartition('/')[2]]}_VERSION"]


def test_kinds_ports_are_those_that_the_gateway_takes(built: Built) -> None:
    config = yaml.safe_load((ROOT.parent / "kind-config.yaml").read_text())
    mapped = {m["hostPort"]: m["containerPort"] for m in config["nodes"][0]["extraPortMappings"]}
    (proxy,) = [found for found in of_kind(built("kind"), "EnvoyProxy") if name(found) == "models"]
    service = proxy["spec"]["provider"]["kubernetes"]["envoyService"]
    nodes = {port["port"]: port["nodePort"] for port in service["patch"]["value"]["spec"]["ports"]}
    (gateway,) = [found for found in of_kind(built("kind"), "Gateway") if name(found) == "models"]
    listeners = {listener["name"]: listener["port"] for listener in gateway["spec"]["listeners"]}
    ports = Settings().ports
    assert mapped == {ports.front_end: nodes[listeners["applications"]], ports.gateway: nodes[listeners["clients"]]}


def test_kinds_secrets_are_random_its_owners_alone_and_made_once(tmp_path: Path) -> None:
    assert len(make_secrets(tmp_path)) == 8
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert make_secrets(tmp_path) == []
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    keys = Keys.from_file(tmp_path / "keys.json")
    assert keys.name_of(before["model-key"].encode()) == "front-end"
    assert keys.name_of(before["client-key"].encode()) == "client"
    make_secrets(tmp_path / "other")
    for file in ("store.env", "online.env", "inner.env", "label-studio.env", "model-key"):
        assert (tmp_path / "other" / file).read_text() != before[file]


def test_a_lost_keys_file_takes_its_keys_along(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    old = (tmp_path / "model-key").read_text()
    (tmp_path / "keys.json").unlink()
    make_secrets(tmp_path)
    new = (tmp_path / "model-key").read_text()
    assert new != old
    assert Keys.from_file(tmp_path / "keys.json").name_of(new.encode()) == "front-end"


def test_secrets_are_in_no_repository() -> None:
    folder = ROOT / "overlays" / "kind" / "secrets"
    ignored = subprocess.run(["git", "check-ignore", "-q", str(folder / "store.env")], cwd=ROOT, check=False)
    assert ignored.returncode == 0
    for path in ROOT.rglob("*.yaml"):
        text = path.read_text()
        assert not re.search(r"^kind: Secret$", text, re.MULTILINE), path
        assert "literals:" not in text, path


def test_docs_name_every_combination_that_is_checked_and_every_secret_that_production_brings() -> None:
    page = (ROOT.parent / "docs" / "kubernetes.md").read_text()
    for combination in COMBINATIONS:
        for part in (f"`overlays/{combination.overlay}`", *(f"`{component}`" for component in combination.components)):
            assert part in page
    for secret in SECRETS:
        assert f"`{secret}`" in page


def test_scripts_are_clean_and_name_what_is_missing(tmp_path: Path) -> None:
    script = ROOT / "cluster" / "up.sh"
    found = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    empty = {"PATH": str(tmp_path), "HOME": os.environ.get("HOME", "/")}
    for tool in ("dirname", "bash"):
        (tmp_path / tool).symlink_to(Path("/usr/bin") / tool)
    found = subprocess.run(["/bin/bash", str(script)], env=empty, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr == "make cluster needs docker on the PATH.\n"


def test_an_overlay_of_ones_own_builds_as_the_docs_write_it(built: Built, tmp_path: Path) -> None:
    assert built("production")
    page = (ROOT.parent / "docs" / "kubernetes.md").read_text()
    (text,) = [part for part in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "github.com/you" in part]
    folder = copied(tmp_path)
    own = folder / "overlays" / "own"
    own.mkdir()
    (own / "kustomization.yaml").write_text(re.sub(r"\[github.com/you\S*\]", "[../production]", text))
    documents = build(folder, Combination("own"), kustomize())
    assert judge(documents) == []
    assert not re.search(r"(?<!@)example\.com", json.dumps([d for d in documents if d["kind"] != "ClusterRole"]))
