"""A release on a real API server and a real S3 server.

No controller of KServe runs there: where a version has to become ready, the test writes the status that one would.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.releaser.commands import app
from components.releaser.deploy import cluster_api, deploy, deployment
from components.releaser.release import Made, read_made, release_baseline, release_candidate
from ninefold.cluster.api import ClusterApi
from ninefold.cluster.inference_service import API_VERSION, KIND, NOT_READY_ANNOTATION, inference_service
from ninefold.errors import ClusterError, ConfigurationError, FieldConflict, Unavailable
from ninefold.fields import Input
from ninefold.package import verify_package, write_package
from ninefold.rollout.policy import RolloutPolicy
from ninefold.settings import Settings, settings
from ninefold.signature import InputStatistics, PackageManifest, Signature
from ninefold.store import Store, open_store
from tests.cluster import Cluster, namespace
from tests.http_proxy import Faults, proxy
from tests.ninefold.package.s3 import make_bucket, s3_server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with namespace(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as endpoint:
        make_bucket(endpoint, "ninefold")
        yield endpoint


@dataclass
class House:
    """A release's surroundings."""

    cluster: Cluster
    api: ClusterApi
    store: Store
    settings: Settings
    made: Path

    def package(self, mark: str) -> Made:
        signature = Signature(
            use_case="arrivals",
            problem="regression",
            inputs=(Input(name="x"),),
            views=(),
            derive_digest="d",
            target="y",
        )
        manifest = PackageManifest(
            format="onnx", signature=signature, statistics={"x": InputStatistics(null_share=0.0)}, training={"m": mark}
        )
        digest, _ = write_package(str(self.made), manifest, {"model.onnx": mark.encode()})
        return read_made(str(self.made), digest)

    def release(self, mark: str) -> Any:
        made = deployment("arrivals", self.settings, self.made / "rendered")
        return release_candidate(
            "arrivals", self.package(mark), metrics={}, policy=RolloutPolicy(), compared_with=0, reason="passed",
            store=self.store, models_url=self.settings.models_url, deploy=made,
        )  # fmt: skip

    def states(self) -> dict[int, str]:
        return {version.version: version.state for version in self.store.versions("arrivals")}

    def service(self, number: int) -> Any:
        return self.api.get(API_VERSION, KIND, f"arrivals-v{number}")

    def say(self, number: int, **status: Any) -> None:
        """Writes the status that KServe's controller would."""
        document = {"status": {"deploymentMode": "Standard", **status}}
        self.cluster.kubectl(
            "patch", "inferenceservice", f"arrivals-v{number}", "--subresource=status", "--type=merge", "-p",
            json.dumps(document), check=False,
        )  # fmt: skip


READY = {"conditions": [{"type": "Ready", "status": "True"}]}


@pytest.fixture
def house(cluster: Cluster, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    for name, value in {
        "KUBECONFIG": str(cluster.kubeconfig),
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "NINEFOLD_MODELS_URL": f"s3://ninefold/{tmp_path.name}",
        "NINEFOLD_CLUSTER__NAMESPACE": cluster.namespace,
        "NINEFOLD_CLUSTER__ROUTES": "httproute",
        "NINEFOLD_CLUSTER__READY_SECONDS": "5",
    }.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    monkeypatch.setattr("components.releaser.deploy.LOOK_SECONDS", 0.1)
    api = cluster_api(settings())
    with open_store(settings().store_url) as store:
        yield House(cluster, api, store, settings(), tmp_path / "made")
    for service in api.list(API_VERSION, KIND):
        api.delete(API_VERSION, KIND, service["metadata"]["name"])
    api.close()


@pytest.fixture
def controller(house: House) -> Iterator[dict[int, dict[str, Any]]]:
    """Gives every InferenceService a status, as a controller would: version → status, without one it is ready."""
    stop, special = threading.Event(), dict[int, dict[str, Any]]()

    def run() -> None:
        while not stop.wait(0.05):
            for service in house.api.list(API_VERSION, KIND):
                number = int(service["metadata"]["labels"]["ninefold.dev/version"])
                wanted = special.get(number, READY)
                if (service.get("status") or {}).get("conditions") != wanted["conditions"]:
                    house.say(number, **wanted)

    thread = threading.Thread(target=run)
    thread.start()
    yield special
    stop.set()
    thread.join()


def test_the_cluster_accepts_what_is_rendered(house: House) -> None:
    version = house.store.register_version("arrivals", digest="d" * 64, uri=f"s3://ninefold/models/{'d' * 64}")
    baseline = house.store.register_version("arrivals", digest="e" * 64, uri="s3://ninefold/models/e", version=0)
    for one in (version, baseline):
        found = house.api.apply(inference_service("arrivals", one, house.settings), dry_run=True)
        assert found["spec"]["predictor"]["model"]["storageUri"] == one.uri
    assert house.service(1) is None


@pytest.mark.usefixtures("controller")
def test_a_release_is_ready_before_anything_depends_on_it(house: House) -> None:
    deployed = deployment("arrivals", house.settings, house.made)
    baseline = release_baseline(
        "arrivals", house.package("baseline"), store=house.store, models_url=house.settings.models_url, deploy=deployed
    )
    first, second = house.release("one"), house.release("two")
    assert (first.outcome, second.outcome) == ("live", "opened")
    assert house.states() == {0: "registered", 1: "live", 2: "registered"}
    for version in house.store.versions("arrivals"):
        service = house.service(version.version)
        assert service["spec"]["predictor"]["model"]["storageUri"] == version.uri
        assert service["metadata"]["annotations"]["ninefold.dev/digest"] == version.digest
        assert verify_package(version.uri, version.digest).format == "onnx"
    assert baseline.uri.startswith("s3://")
    # The same again changes nothing.
    before = house.service(2)["metadata"]["resourceVersion"]
    assert house.release("two").outcome == "known_open"
    assert house.service(2)["metadata"]["resourceVersion"] == before


def test_a_version_that_never_gets_ready_is_left_to_be_looked_at(house: House) -> None:
    with pytest.raises(ClusterError) as caught:
        house.release("one")
    words = str(caught.value)
    assert "Version 1 of arrivals is not ready after 5 seconds: InferenceService arrivals-v1 has no status" in words
    assert "ninefold release retire arrivals 1" in words
    assert house.states() == {1: "registered"}
    assert house.store.rollouts("arrivals") == []
    marked = house.service(1)
    assert "has no status" in marked["metadata"]["annotations"][NOT_READY_ANNOTATION]
    assert "has no status" in house.cluster.kubectl("describe", "inferenceservice", "arrivals-v1")
    events = [e for e in house.api.list("v1", "Event") if e["reason"] == "NotReady"]
    assert events[-1]["involvedObject"]["name"] == "arrivals-v1"
    # Once what was wrong is put right, the same release goes on where it was, and the mark goes.
    house.say(1, **READY)
    assert house.release("one").version == 1
    assert NOT_READY_ANNOTATION not in house.service(1)["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {"deploymentMode": "Knative", "conditions": [{"type": "Ready", "status": "True"}]},
            "runs in KServe's mode Knative",
        ),
        (
            {
                "conditions": [{"type": "Ready", "status": "False"}],
                "modelStatus": {
                    "transitionStatus": "InvalidSpec",
                    "lastFailureInfo": {"reason": "RuntimeNotRecognized", "message": "no runtime ninefold-onnx"},
                },
            },
            "names a ServingRuntime that can't be used",
        ),
        (
            {"conditions": [{"type": "IngressReady", "status": "False", "reason": "NoGateway", "message": "none"}]},
            "IngressReady is False: NoGateway",
        ),
    ],
)
def test_what_kserve_says_is_told_and_the_live_version_goes_on(
    house: House, controller: dict[int, dict[str, Any]], status: dict[str, Any], words: str
) -> None:
    controller[2] = status
    assert house.release("one").outcome == "live"
    with pytest.raises(ClusterError) as caught:
        house.release("two")
    assert words in str(caught.value)
    assert house.states() == {1: "live", 2: "registered"}
    assert house.store.rollouts("arrivals") == []


def test_an_image_that_nobody_has(house: House) -> None:
    """The kubelet's own words: the pod that KServe would make, with an image that can't be pulled."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "arrivals-v1-x", "labels": {"serving.kserve.io/inferenceservice": "arrivals-v1"}},
        "spec": {"containers": [{"name": "kserve-container", "image": "localhost/ninefold/none:9"}]},
    }
    house.cluster.kubectl("apply", "-f", "-", document=pod)
    version = house.store.register_version("arrivals", digest="d" * 64, uri="s3://ninefold/models/d")
    patient = replace_cluster(house.settings, ready_seconds=20.0)
    seen: list[float] = []
    with pytest.raises(
        ClusterError, match=r"Pod arrivals-v1-x can't pull the image localhost/ninefold/none:9: ErrImage"
    ):
        deploy("arrivals", version, house.api, patient, seconds=lambda: _until(house, seen))
    house.cluster.kubectl("delete", "pod", "arrivals-v1-x", "--wait=false", "--grace-period=0", "--force")


def _until(house: House, seen: list[float]) -> float:
    """A clock that reaches the end once the kubelet has tried."""
    seen.append(0.0)
    pods = house.api.list("v1", "Pod")
    waiting = [c["state"].get("waiting", {}) for p in pods for c in p.get("status", {}).get("containerStatuses", [])]
    tried = any(w.get("reason") == "ErrImagePull" for w in waiting)
    return 1_000.0 if len(seen) > 1 and (tried or len(seen) > 300) else 0.0


def replace_cluster(found: Settings, **changes: Any) -> Settings:
    return found.model_copy(update={"cluster": found.cluster.model_copy(update=changes)})


def test_a_quota_of_model_servers(house: House) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few"},
        "spec": {"hard": {"count/inferenceservices.serving.kserve.io": "0"}},
    }
    house.cluster.kubectl("apply", "-f", "-", document=quota)
    house.cluster.kubectl("wait", "--for=jsonpath={.status.hard}", "resourcequota/few", "--timeout=30s")
    try:
        with pytest.raises(ClusterError, match=r"InferenceService arrivals-v1 .*quota of the namespace is used up"):
            house.release("one")
    finally:
        house.cluster.kubectl("delete", "resourcequota", "few")
    assert house.store.live_version("arrivals") is None


def test_somebody_changed_it_by_hand(house: House) -> None:
    version = house.store.register_version("arrivals", digest="d" * 64, uri="s3://ninefold/models/d")
    house.api.apply(inference_service("arrivals", version, house.settings))
    edit = '{"spec": {"predictor": {"model": {"storageUri": "s3://elsewhere/x"}}}}'
    house.cluster.kubectl(
        "patch", "inferenceservice", "arrivals-v1", "--type=merge", "--field-manager=kubectl-edit", "-p", edit
    )
    with pytest.raises(FieldConflict, match=r"kubectl-edit owns \.spec\.predictor\.model\.storageUri"):
        deploy("arrivals", version, house.api, house.settings)
    assert house.service(1)["spec"]["predictor"]["model"]["storageUri"] == "s3://elsewhere/x"


def test_an_invalid_field_is_refused_before_anything_else(house: House) -> None:
    version = house.store.register_version("arrivals", digest="d" * 64, uri="s3://ninefold/models/d")
    document = inference_service("arrivals", version, house.settings)
    document["spec"]["predictor"]["modle"] = document["spec"]["predictor"].pop("model")
    with pytest.raises(ClusterError, match=r"it is not valid: .*modle"):
        house.api.apply(document)


@pytest.mark.usefixtures("controller")
def test_faults_of_the_api_server_lose_no_release(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    faults, number = Faults(), [0]

    def every_other(method: str, path: str) -> int | str | None:
        number[0] += 1
        return [None, 429, None, 500, None, "lost", None, 503, None, "cut"][number[0] % 10]

    faults.answer = every_other
    with proxy(house.cluster.server()[0], faults, house.cluster.server()[1]) as address:
        monkeypatch.setenv("KUBECONFIG", str(house.cluster.through(address)))
        assert house.release("one").outcome == "live"
        assert house.release("two").outcome == "opened"
    assert house.states() == {1: "live", 2: "registered"}
    assert [r.candidate for r in house.store.rollouts("arrivals")] == [2]


def test_a_server_out_of_reach_releases_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy("", Faults(answer=lambda method, path: 503)) as address:
        monkeypatch.setenv("KUBECONFIG", str(house.cluster.through(address)))
        api = ClusterApi(house.cluster.namespace, field_manager="ninefold-release", patience=0.5)
        version = house.store.register_version("arrivals", digest="d" * 64, uri="s3://ninefold/models/d")
        with pytest.raises(Unavailable, match="gave no answer"):
            deploy("arrivals", version, api, house.settings)
        api.close()


def test_where_pods_cannot_load_it_nothing_is_applied(house: House) -> None:
    version = house.store.register_version("arrivals", digest="d" * 64, uri="/home/me/models/d")
    with pytest.raises(ConfigurationError, match="which no pod can load"):
        deploy("arrivals", version, house.api, house.settings)
    assert house.service(1) is None


class TestCommands:
    def run(self, *arguments: str) -> str:
        result = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
        return result.output

    @pytest.mark.usefixtures("controller")
    def test_render_apply_status_retire(self, house: House, tmp_path: Path) -> None:
        rendered = replace_cluster(house.settings, release="render")
        made = deployment("arrivals", rendered, tmp_path / "beside-the-report")
        for mark in ("one", "two"):
            release_candidate(
                "arrivals", house.package(mark), metrics={}, policy=RolloutPolicy(), compared_with=0, reason="r",
                store=house.store, models_url=house.settings.models_url, deploy=made,
            )  # fmt: skip
        assert house.api.list(API_VERSION, KIND) == []
        assert {path.name for path in (tmp_path / "beside-the-report").iterdir()} == {
            "arrivals-v1.yaml",
            "arrivals-v2.yaml",
        }
        files = self.run("render", "arrivals", "--dir", str(tmp_path / "out")).splitlines()
        assert files == [str(tmp_path / "out" / f"arrivals-v{number}.yaml") for number in (1, 2)]
        # What GitOps would apply is what a release applies.
        house.cluster.kubectl("apply", "--server-side", "--field-manager=ninefold-release", "-f", files[0])
        before = house.service(1)["metadata"]["generation"]
        assert self.run("apply", "arrivals", "1") == "Version 1 of arrivals is ready.\n"
        assert house.service(1)["metadata"]["generation"] == before
        self.run("apply", "arrivals")
        shown = self.run("status", "arrivals")
        assert [line for line in shown.splitlines() if "ready" in line and "not ready" not in line]
        with pytest.raises(Exception, match="Version 1 of arrivals is live"):
            self.run("retire", "arrivals", "1")
        assert self.run("retire", "arrivals") == "No model server of arrivals goes.\n"
        rollout = house.store.rollout("arrivals")
        assert rollout is not None
        house.store.record_step(
            rollout.rollout_id,
            revision=rollout.revision,
            actor="x",
            action="abort",
            state="rolled_back",
            reasons=("no",),
        )
        assert self.run("retire", "arrivals", "2", "--dry-run") == "Version 2 of arrivals: its model server would go.\n"
        assert house.service(2) is not None
        assert self.run("retire", "arrivals", "2") == "Version 2 of arrivals: its model server goes.\n"
        assert house.service(2) is None

    def test_a_version_that_is_not_there(self, house: House) -> None:
        with pytest.raises(Exception, match="has no version yet"):
            self.run("render", "arrivals")
        house.store.register_version("arrivals", digest="d" * 64, uri="s3://ninefold/models/d")
        with pytest.raises(Exception, match=r"arrivals has no version 7\. There are 1"):
            self.run("render", "arrivals", "7")
