"""Compiled pipelines are current, strict, install nothing, and mean the same to YAML 1.1 and 1.2."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions

from manifests.check.definitions import Definitions
from manifests.check.validate import validate
from ninefold.errors import DataError
from ninefold.loading import load_object
from pipelines.compile import COMPILED, MANIFESTS, PIPELINES, check_strictly, compile_to, differences
from pipelines.platform import SERVICE_ACCOUNT
from pipelines.resources import resources
from pipelines.yaml_readers import read_both

ALL = pytest.mark.parametrize("name", PIPELINES)


def _documents(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return check_strictly(COMPILED / f"{name}.yaml")


def _tasks(name: str) -> dict[str, Any]:
    spec, _ = _documents(name)
    dags = [component["dag"] for component in spec["components"].values() if "dag" in component]
    tasks = {key: task for dag in [spec["root"]["dag"], *dags] for key, task in dag["tasks"].items()}
    return {
        key: task for key, task in tasks.items() if "iteratorPolicy" not in task and "parameterIterator" not in task
    }


def _executors(name: str) -> dict[str, Any]:
    found: dict[str, Any] = _documents(name)[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return found


def test_the_checked_in_files_are_what_the_sources_compile_to() -> None:
    assert differences() == []
    assert {file.stem for file in COMPILED.glob("*.yaml")} == set(PIPELINES)


@ALL
def test_every_step_takes_its_image_from_the_run_and_installs_nothing(name: str) -> None:
    executors = _documents(name)[0]["deploymentSpec"]["executors"]
    assert executors
    for executor in executors.values():
        assert executor["container"]["image"] == "{{$.inputs.parameters['pipelinechannel--image']}}"
    assert "pip install" not in (COMPILED / f"{name}.yaml").read_text()


def test_what_reads_production_and_what_releases_is_never_cached() -> None:
    uncached = {
        name: {key for key, task in _tasks(name).items() if not task["cachingOptions"].get("enableCache")}
        for name in PIPELINES
    }
    assert uncached == {
        "training": {"look-up", "release"},
        "tuning": {"look-up", "release", "record-tuning"},
        "monitoring": {"monitor"},
        "labelling": {"collect-labels", "send-tasks"},
        "materialization": {"materialize"},
        "retention": {"prune"},
    }


def test_baseline_and_build_run_in_parallel() -> None:
    tasks = _tasks("training")
    assert "evaluate-baseline" not in tasks["build"].get("dependentTasks", [])
    assert "build" not in tasks["evaluate-baseline"].get("dependentTasks", [])


@ALL
def test_every_step_says_what_it_needs_of_a_cluster(name: str) -> None:
    """Rights, size, retries, a bound, secrets by name and no secret itself, and a store that must be there."""
    executors, containers = _executors(name), _documents(name)[0]["deploymentSpec"]["executors"]
    assert set(executors) == set(containers)
    for key, config in executors.items():
        assert config["securityContext"] == {"runAsUser": "65532", "runAsGroup": "65532", "runAsNonRoot": True}
        assert int(config["activeDeadlineSeconds"]) > 0
        assert config["imagePullPolicy"] == "IfNotPresent"
        assert [mount["mountPath"] for mount in config["emptyDirMounts"]] == ["/var/lib/ninefold", "/tmp"]
        secrets = {key["envVar"]: one for one in config["secretAsEnv"] for key in one["keyToEnv"]}
        for variable, secret, optional in (
            ("NINEFOLD_STORE_URL", "ninefold-store", False),
            ("NINEFOLD_ONLINE_URL", "ninefold-online", False),
            ("AWS_SECRET_ACCESS_KEY", "ninefold-s3", True),
        ):
            assert (secrets[variable]["secretName"], secrets[variable]["optional"]) == (secret, optional)
        resources = containers[key]["container"]["resources"]
        assert set(resources) >= {
            f"resource{what}{kind}" for what in ("Cpu", "Memory") for kind in ("Limit", "Request")
        }
    for task in _tasks(name).values():
        policy = task["retryPolicy"]
        assert policy["maxRetryCount"] >= 1
        assert (policy["backoffDuration"], policy["backoffFactor"]) == ("30s", 2)
        # Argo counts the bound from the begin of the first attempt: a step that fails late has to have its others, too.
        seconds = int(executors[task["componentRef"]["name"].replace("comp-", "exec-", 1)]["activeDeadlineSeconds"])
        assert int(policy["backoffMaxDuration"].removesuffix("s")) > (policy["maxRetryCount"] + 1) * seconds


def test_only_steps_of_labelling_say_that_they_need_label_studio() -> None:
    said = {
        name: {"ninefold.dev/labelling" in config["podMetadata"]["labels"] for config in _executors(name).values()}
        for name in PIPELINES
    }
    assert said == {name: {name == "labelling"} for name in PIPELINES}


def test_a_step_in_a_loop_has_its_place_from_the_run_too() -> None:
    config = _executors("tuning")["exec-search-branch"]
    assert config["nodeSelector"]["nodeSelectorJson"]["componentInputParameter"] == "pipelinechannel--node_selector"
    assert _executors("tuning")["exec-split"]["tolerations"][0]["tolerationJson"] == {
        "componentInputParameter": "tolerations"
    }


@ALL
def test_the_resources_are_those_that_kfp_itself_makes(name: str, tmp_path: Path) -> None:
    pipeline, version = yaml.safe_load_all((MANIFESTS / f"{name}.yaml").read_text())
    options = KubernetesManifestOptions(
        pipeline_name=name, pipeline_version_name=version["metadata"]["name"], include_pipeline_manifest=True,
        pipeline_version_display_name=version["metadata"]["name"],
    )  # fmt: skip
    compiler.Compiler().compile(
        load_object(PIPELINES[name], what="pipeline"), str(tmp_path / "kfp.yaml"),
        kubernetes_manifest_options=options, kubernetes_manifest_format=True,
    )  # fmt: skip
    assert [pipeline, version] == list(yaml.safe_load_all((tmp_path / "kfp.yaml").read_text()))


def test_a_pipeline_that_changed_is_a_new_version() -> None:
    """The API server refuses to change one that is there."""
    spec, platform = _documents("retention")
    changed = {**spec, "sdkVersion": "kfp-2.17.1"}

    def named(of: dict[str, Any]) -> str:
        return str(list(yaml.safe_load_all(resources("retention", "", of, platform)))[1]["metadata"]["name"])

    assert named(spec) == named(dict(spec))
    assert named(spec) != named(changed)


@pytest.mark.skipif(not Definitions.found().known, reason="no schemas of KFP's resources: set CRDS or KUBECONFIG")
@ALL
def test_the_schemas_accept_the_resources(name: str) -> None:
    found = validate(read_both((MANIFESTS / f"{name}.yaml").read_text(), name), Definitions.found())
    assert (found.findings, found.unvalidated) == ([], set())


def test_the_kustomization_holds_every_pipeline_and_the_account_that_runs_name() -> None:
    resources = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())["resources"]
    assert set(resources) == {"service-account.yaml", "role.yaml", *(f"{name}.yaml" for name in PIPELINES)}
    account = yaml.safe_load((MANIFESTS / "service-account.yaml").read_text())
    assert account["metadata"]["name"] == SERVICE_ACCOUNT


def test_an_unknown_field_is_an_error(tmp_path: Path) -> None:
    file = compile_to(tmp_path)[0]
    file.write_text(file.read_text().replace("pipelineInfo:", "pipelineInof:", 1))
    with pytest.raises(DataError, match="pipelineInof"):
        check_strictly(file)


def test_an_unknown_setting_of_kubernetes_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "retention.yaml"
    text = (COMPILED / "retention.yaml").read_text()
    file.write_text(text.replace("imagePullPolicy:", "imagePullPloicy:", 1))
    with pytest.raises(DataError, match="imagePullPloicy"):
        check_strictly(file)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("parameters:\n  n: {parameterType: STRING}", "keys of /0/parameters"),
        ("name: y", "/0/name"),
        ("a: [1, off]", "/0/a/1"),
        ("a: 012", "/0/a"),
        ("a: 2013-07-01", "/0/a"),
        ("a: 1_000", "/0/a"),
        ("a: 1e3", "/0/a"),
    ],
)
def test_what_means_two_things_is_an_error(text: str, where: str) -> None:
    with pytest.raises(DataError, match=f"different things.*{where}"):
        read_both(text, "The file")


def test_what_means_one_thing_is_read() -> None:
    text = "a: {'n': 1, b: 'y', c: 1.5, d: true, e: null, f: -3, g: 'off', h: '2013-07-01', i: .5}\n--- [x]"
    first, second = read_both(text, "The file")
    assert first == {"a": {
        "n": 1, "b": "y", "c": 1.5, "d": True, "e": None, "f": -3, "g": "off", "h": "2013-07-01", "i": 0.5
    }}  # fmt: skip
    assert second == ["x"]
