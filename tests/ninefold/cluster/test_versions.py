"""A version on a cluster as documents: what it is, whether it is ready and why not, and when nobody needs it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from manifests.check.build import ROOT
from ninefold.cluster.inference_service import digest_of, inference_service, server_name, server_url, version_of
from ninefold.cluster.readiness import is_ready, readiness
from ninefold.cluster.retirement import to_retire
from ninefold.records import ModelVersion
from ninefold.settings import Settings
from ninefold.store.rollout_rows import StoredRollout
from ninefold.store.versions import VersionChange

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DIGEST = "d" * 64
_REFUSED = (
    'pods "arrivals-v7-predictor-6589f8b75c" is forbidden: violates PodSecurity "restricted:latest": seccompProfile '
    '(pod or container "storage-initializer" must set securityContext.seccompProfile.type to "RuntimeDefault")'
)


def version(number: int, state: Any = "registered", digest: str = DIGEST) -> ModelVersion:
    return ModelVersion(
        use_case="arrivals", version=number, digest=digest, uri=f"s3://b/models/{digest}", state=state, created_at=NOW
    )


class TestTheDocument:
    def test_says_what_is_loaded_by_what_and_with_which_digest(self) -> None:
        document = inference_service("arrivals", version(7), Settings())
        assert document == {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                "name": "arrivals-v7",
                "namespace": "ninefold",
                "labels": {
                    "app.kubernetes.io/part-of": "ninefold",
                    "app.kubernetes.io/managed-by": "ninefold",
                    "ninefold.dev/use-case": "arrivals",
                    "ninefold.dev/version": "7",
                    "networking.kserve.io/visibility": "cluster-local",
                },
                "annotations": {"serving.kserve.io/deploymentMode": "Standard", "ninefold.dev/digest": DIGEST},
            },
            "spec": {
                "predictor": {
                    "serviceAccountName": "ninefold-models",
                    "model": {
                        "modelFormat": {"name": "ninefold-onnx"},
                        "runtime": "ninefold-onnx",
                        "storageUri": f"s3://b/models/{DIGEST}",
                        "env": [
                            {"name": "NINEFOLD_MODEL_NAME", "value": "arrivals"},
                            {"name": "NINEFOLD_MODEL_DIGEST", "value": DIGEST},
                        ],
                    },
                }
            },
        }
        assert (version_of(document), digest_of(document)) == (7, DIGEST)

    def test_the_baseline_is_version_0_of_its_own_format(self) -> None:
        model = inference_service("arrivals", version(0), Settings())["spec"]["predictor"]["model"]
        assert (model["modelFormat"]["name"], model["runtime"]) == ("ninefold-baseline", "ninefold-baseline")

    @pytest.mark.parametrize("name", ["pmml", "skops"])
    def test_a_package_that_needs_more_than_onnx_runtime_runs_on_the_image_that_has_it(self, name: str) -> None:
        other = replace(version(7), format=name)
        model = inference_service("arrivals", other, Settings())["spec"]["predictor"]["model"]
        assert (model["modelFormat"]["name"], model["runtime"]) == (f"ninefold-{name}", "ninefold-formats")
        runtime = yaml.safe_load((ROOT / "components" / "model-formats" / "runtime.yaml").read_text())
        assert runtime["metadata"]["name"] == model["runtime"]
        assert model["modelFormat"]["name"] in {one["name"] for one in runtime["spec"]["supportedModelFormats"]}

    def test_names_are_fit_for_addresses(self) -> None:
        assert server_name("late_flights", 12) == "late-flights-v12"
        assert server_url("late_flights", 12, "ns") == "http://late-flights-v12-predictor.ns.svc.cluster.local"

    @pytest.mark.parametrize("label", ["", "x", "-1", "07", "1.5", "99999999999"])
    def test_a_label_that_is_no_version(self, label: str) -> None:
        assert version_of({"metadata": {"labels": {"ninefold.dev/version": label}}}) is None
        assert version_of({"metadata": {}}) is None


def service(*conditions: dict[str, Any], mode: str = "Standard", **status: Any) -> dict[str, Any]:
    document = inference_service("arrivals", version(7), Settings())
    if conditions or status:
        document["status"] = {"deploymentMode": mode, "conditions": list(conditions), **status}
    return document


def condition(kind: str, status: str, reason: str = "", message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


READY = condition("Ready", "True")
NOT_YET = condition("Ready", "Unknown")


def deployed(digest: str = DIGEST, updated: int = 1, *conditions: dict[str, Any]) -> dict[str, Any]:
    variable = {"name": "NINEFOLD_MODEL_DIGEST", "value": digest}
    return {
        "metadata": {"name": "arrivals-v7-predictor", "generation": 2},
        "spec": {
            "replicas": 1,
            "template": {"spec": {"containers": [{"name": "kserve-container", "env": [variable]}]}},
        },
        "status": {
            "observedGeneration": 2,
            "updatedReplicas": updated,
            "availableReplicas": 1,
            "conditions": list(conditions),
        },
    }


def pod(container: dict[str, Any], *, initial: bool = False, digest: str = DIGEST) -> dict[str, Any]:
    key = "initContainerStatuses" if initial else "containerStatuses"
    variable = {"name": "NINEFOLD_MODEL_DIGEST", "value": digest}
    return {
        "metadata": {"name": "arrivals-v7-predictor-x"},
        "spec": {"containers": [{"name": "kserve-container", "env": [variable]}]},
        "status": {key: [container]},
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"name": "kserve-container", "image": "ninefold/serving:9", "state": state}


def ended(code: int, message: str = "", **more: Any) -> dict[str, Any]:
    last = {"terminated": {"exitCode": code, "message": message, **more}}
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    return {"name": "kserve-container", "ready": False, "state": state, "lastState": last}


class TestReadiness:
    def look(self, found: Any, deployment: Any = None, *pods: Any) -> Any:
        return readiness(found, name="arrivals-v7", digest=DIGEST, deployment=deployment, pods=pods)

    def test_ready_is_ready_for_the_digest_and_on_every_pod(self) -> None:
        assert self.look(service(READY)).ready
        assert self.look(service(READY), deployed()).ready
        # The pods of a baseline before this one answer still.
        assert not self.look(service(READY), deployed(digest="e" * 64)).ready
        assert not self.look(service(READY), deployed(updated=0)).ready
        other = service(READY)
        other["metadata"]["annotations"]["ninefold.dev/digest"] = "e" * 64
        assert not self.look(other).ready
        assert self.look(service(READY, mode="RawDeployment")).ready

    def test_the_mode_is_wrong_whatever_else_is_said(self) -> None:
        found = self.look(service(READY, mode="Knative"))
        assert (found.ready, found.hopeless) == (False, True)
        assert "InferenceService arrivals-v7 runs in KServe's mode Knative" in found.condition
        assert "NINEFOLD_CLUSTER__ROUTES=knative" in found.remedy
        assert not is_ready(service(READY, mode="Serverless"))
        unset = service()
        unset["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] = "Serverless"
        assert self.look(unset).hopeless

    @pytest.mark.parametrize(
        ("found", "deployment", "pods", "condition_", "remedy", "hopeless"),
        [
            (None, None, [], "InferenceService arrivals-v7 was deleted", "release the version again", True),
            (service(), None, [], "arrivals-v7 has no status: KServe's controller", "--namespace kserve", False),
            (service(NOT_YET), deployed(updated=0), [], "is not ready yet", "kubectl describe", False),
            (
                service(NOT_YET), deployed(), [pod(waiting("ImagePullBackOff", "not found"))],
                "Pod arrivals-v7-predictor-x can't pull the image ninefold/serving:9: ImagePullBackOff: not found.",
                "Push or load the image", False,
            ),
            (
                service(NOT_YET), None, [pod(waiting("InvalidImageName", "bad"))], "can't pull the image",
                "correct its name", True,
            ),
            (
                service(NOT_YET), None, [pod(waiting("CreateContainerConfigError", 'no secret "ninefold-keys"'))],
                'no secret "ninefold-keys"', "Make the Secret", False,
            ),
            (
                service(NOT_YET), None, [pod(ended(1, "model.onnx is not the file that its digest names"))],
                "ended with exit code 1: model.onnx is not the file", "kubectl logs arrivals-v7-predictor-x -c", False,
            ),
            (
                service(NOT_YET), None,
                [pod({**ended(1, "no such bucket"), "name": "storage-initializer"}, initial=True)],
                "Container storage-initializer of pod arrivals-v7-predictor-x ended", "check the Secret ninefold-s3",
                False,
            ),
            (
                service(NOT_YET), None, [pod(ended(137, reason="OOMKilled"))], "needs more memory", "memory", False,
            ),
            (
                service(NOT_YET),
                deployed(DIGEST, 0, condition("ReplicaFailure", "True", "FailedCreate", "exceeded quota: q, pods=2")),
                [], "Deployment arrivals-v7-predictor can't make pods: FailedCreate: exceeded quota: q, pods=2.",
                "raise the ResourceQuota", False,
            ),
            (
                service(NOT_YET),
                deployed(DIGEST, 0, condition("ReplicaFailure", "True", "FailedCreate", _REFUSED)),
                [], "violates PodSecurity", "kubectl patch clusterstoragecontainer default", False,
            ),
            (
                service(NOT_YET),
                deployed(DIGEST, 0, condition("Progressing", "False", "ProgressDeadlineExceeded", "late")),
                [], "makes no progress: ProgressDeadlineExceeded: late", "kubectl describe deployment", False,
            ),
            (
                service(NOT_YET, modelStatus={"lastFailureInfo": {"reason": "RuntimeNotRecognized", "message": "x"}}),
                None, [], "names a ServingRuntime that can't be used", "kubectl apply -k manifests/base/models", True,
            ),
            (
                service(NOT_YET, modelStatus={"lastFailureInfo": {"reason": "ModelLoadFailed", "message": "why"}}),
                None, [], "ModelLoadFailed: why", "kubectl describe", False,
            ),
            (
                service(NOT_YET, condition("IngressReady", "False", "NoGateway", "gateway x not found")),
                None, [], "IngressReady is False: NoGateway: gateway x not found", "inferenceservice-config", False,
            ),
            (
                service(NOT_YET, condition("PredictorReady", "False", "Why", "because")),
                None, [], "PredictorReady is False: Why: because", "kubectl describe", False,
            ),
        ],
    )  # fmt: skip
    def test_what_is_wrong_names_resource_condition_and_remedy(
        self, found: Any, deployment: Any, pods: Any, condition_: str, remedy: str, hopeless: bool
    ) -> None:
        said = self.look(found, deployment, *pods)
        assert not said.ready
        assert condition_ in said.condition
        assert remedy in said.remedy
        assert said.hopeless is hopeless

    def test_a_pod_without_a_node(self) -> None:
        unscheduled = pod({"name": "kserve-container", "state": {}})
        unscheduled["status"]["conditions"] = [condition("PodScheduled", "False", "Unschedulable", "0/1 nodes: cpu")]
        assert "has no node: Unschedulable: 0/1 nodes: cpu" in self.look(service(NOT_YET), None, unscheduled).condition

    def test_pods_of_a_package_before_are_not_blamed(self) -> None:
        old = pod(ended(1, "old"), digest="e" * 64)
        assert "is not ready yet" in self.look(service(NOT_YET), deployed(updated=0), old).condition

    def test_what_is_being_deleted_is_not_ready(self) -> None:
        going = service(READY)
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        assert not is_ready(going)
        assert self.look(going).hopeless


def rollout(candidate: int, incumbent: int, state: Any, ended_at: datetime | None = None) -> StoredRollout:
    return StoredRollout(
        rollout_id=f"{incumbent}-{candidate}", use_case="arrivals", incumbent=incumbent, candidate=candidate,
        state=state, step=0, salt="s", revision=1, opened_at=NOW, updated_at=NOW, ended_at=ended_at,
    )  # fmt: skip


def change(number: int, before: Any, after: Any, at: datetime) -> VersionChange:
    return VersionChange(
        use_case="arrivals", version=number, from_state=before, to_state=after, at=at, actor="", reason=""
    )


LONG_AGO = NOW - timedelta(days=1)


class TestRetirement:
    def test_the_last_good_one_stays_warm_and_older_ones_go(self) -> None:
        versions = [version(0), version(1, "retired"), version(2, "retired"), version(3, "live")]
        changes = [change(1, "live", "retired", LONG_AGO), change(2, "live", "retired", LONG_AGO)]
        ended_ = [rollout(2, 1, "promoted", LONG_AGO), rollout(3, 2, "promoted", LONG_AGO)]
        assert to_retire(versions, ended_, changes, now=NOW) == [1]
        assert to_retire(versions, ended_, changes, now=NOW, warm=0) == [1, 2]
        assert to_retire(versions, ended_, changes, now=NOW, warm=2) == []

    def test_the_last_good_one_is_the_one_that_was_live_not_the_highest(self) -> None:
        versions = [version(0), version(1, "retired"), version(2, "live"), version(3, "retired")]
        changes = [
            change(2, "live", "retired", LONG_AGO - timedelta(hours=3)),
            change(3, "live", "retired", LONG_AGO - timedelta(hours=2)),
            change(1, "live", "retired", LONG_AGO),
        ]
        assert to_retire(versions, [], changes, now=NOW) == [3]

    def test_a_candidate_that_lost_goes_after_a_grace(self) -> None:
        versions = [version(0), version(1, "live"), version(2)]
        lost = [rollout(2, 1, "rolled_back", NOW - timedelta(seconds=30))]
        assert to_retire(versions, lost, [], now=NOW) == []
        assert to_retire(versions, lost, [], now=NOW + timedelta(minutes=5)) == [2]

    def test_what_is_being_released_or_tried_stays(self) -> None:
        versions = [version(0), version(1, "live"), version(2), version(3)]
        assert to_retire(versions, [rollout(2, 1, "pending")], [], now=NOW) == []
        again = [rollout(2, 1, "rolled_back", LONG_AGO), replace(rollout(2, 1, "shadow"), rollout_id="again")]
        assert to_retire(versions, again, [], now=NOW) == []

    @given(
        states=st.lists(st.sampled_from(["registered", "live", "retired"]), min_size=1, max_size=8),
        tried=st.lists(
            st.tuples(st.integers(0, 7), st.integers(0, 7), st.sampled_from(["shadow", "promoted"])), max_size=6
        ),
        warm=st.integers(0, 3),
    )
    def test_never_the_baseline_a_live_one_or_a_side_of_an_open_rollout(
        self, states: list[Any], tried: list[tuple[int, int, Any]], warm: int
    ) -> None:
        versions = [version(number, state) for number, state in enumerate(states)]
        rollouts = [rollout(a, b, state, None if state == "shadow" else LONG_AGO) for a, b, state in tried]
        gone = set(to_retire(versions, rollouts, [], now=NOW, warm=warm))
        assert 0 not in gone
        assert not gone & {v.version for v in versions if v.state == "live"}
        assert not gone & {side for r in rollouts if r.state == "shadow" for side in (r.candidate, r.incumbent)}
        assert gone <= {v.version for v in versions}
