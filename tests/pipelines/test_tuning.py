"""Tuning through Kubeflow Pipelines' local runner: the better lengths are found, judged, released, and alone known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ninefold.errors import InvalidInput, UsageError
from ninefold.loading import load_use_case
from ninefold.settings import settings
from ninefold.store import open_store
from pipelines.branches import branches_words
from pipelines.compile import COMPILED
from pipelines.parameters import check_parameters

HERE = Path(__file__).parents[1] / "components" / "tuner"
NAME = "harbour:USE_CASE"


def test_a_tuning_run_takes_its_own_parameters_and_no_window() -> None:
    checked = check_parameters("tuning", "arrivals", {"until": "2013-07-01", "branches": 3}).to_json()
    assert checked == {"until": "2013-07-01T00:00:00Z", "max_training_time": 240.0, "branches": 3, "seed": 0}
    assert check_parameters("tuning", "arrivals", checked).to_json() == checked
    given: dict[str, Any]
    for given, words in (
        ({"max_training_time": 39}, "max_training_time: 39 is not a time"),
        ({"branches": 1}, "branches: 1 does not do"),
        ({"windows": {"origin_gain": "5h"}}, "windows: is no parameter of tuning"),
    ):
        with pytest.raises(InvalidInput, match=words):
            check_parameters("tuning", "arrivals", {"until": "2013-07-01", **given})


def test_where_no_window_has_a_choice_there_is_nothing_to_tune_jointly() -> None:
    with pytest.raises(UsageError, match=r"nothing to tune jointly\. .* ninefold run training churn"):
        check_parameters("tuning", "churn", {})


def test_branches_are_a_loop_over_what_a_step_planned_and_are_collected() -> None:
    document: dict[str, Any] = next(yaml.safe_load_all((COMPILED / "tuning.yaml").read_text()))
    tasks = document["root"]["dag"]["tasks"]
    (loop,) = (task for task in tasks.values() if "parameterIterator" in task)
    assert loop["dependentTasks"].count("plan-branches") == 1
    for name in ("choose-lengths", "search-further"):
        assert document["components"][f"comp-{name}"]["inputDefinitions"]["artifacts"]["found"]["isArtifactList"]
    steps = {name: task for name, task in tasks.items() if "cachingOptions" in task}
    uncached = {name for name, task in steps.items() if not task["cachingOptions"].get("enableCache", False)}
    assert uncached == {"look-up", "release", "record-tuning"}
    for executor in document["deploymentSpec"]["executors"].values():
        assert executor["container"]["image"] == "{{$.inputs.parameters['pipelinechannel--image']}}"


def test_what_failed_and_how_much_was_optimism_is_said() -> None:
    one = {"lengths": {"wind": "3h"}, "error": "it rained."}
    result = {
        "rows": [{"name": "baseline", "value": 10.0}, {"name": "candidate", "value": 9.0}],
        "tuning": {
            "metric": "mae", "branches": [one], "last": {**one, "error": None},
            "winner": {"value": 6.0, "baseline": 8.0},
        },
    }  # fmt: skip
    failed, optimism = branches_words(result)
    assert failed == "Failed: wind 3h: it rained."
    assert "-25.0% on the validation set" in optimism
    assert "-10.0% on the test set" in optimism


def _run() -> str:
    found = subprocess.run(
        [sys.executable, "-m", "ninefold", "run", "tuning", NAME, "--until", "2024-03-30", "--max-training-time", "60",
         "--branches", "3"],
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_the_better_lengths_are_released_and_the_others_are_known_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.syspath_prepend(str(HERE))
    said = _run()
    assert "Branches, by the validation set" in said
    (path,) = (settings().home / "reports" / "harbour").glob("*/result.json")
    result = json.loads(path.read_text())
    tuning = result["tuning"]
    assert [one["lengths"]["wind"] for one in tuning["branches"]] == ["1h", "3h", "12h"]
    assert tuning["winner"]["lengths"] == {"wind": "3h", "calm": "6h"}
    assert tuning["failed"] == 0
    assert tuning["winner"]["value"] == min(one["value"] for one in (*tuning["branches"], tuning["last"]))
    assert result["action"] == "release", result["reasons"]
    with open_store(settings().store_url) as store:
        versions = {version.version: version for version in store.versions("harbour")}
    assert versions[1].lengths == {"wind": "3h", "calm": "6h"}
    assert versions[0].lengths == {"wind": "1h", "calm": "2h"}
    from feature_repo.definitions import feature_store

    views = feature_store(load_use_case(NAME), settings()).list_feature_views()
    assert {view.name for view in views} == {"wind_1h", "calm_2h", "wind_3h", "calm_6h"}
    # What is live has other lengths now, so the winner's features are made anew, and its search with them.
    again = {line.split()[1] for line in _run().splitlines() if line.split()[2:3] == ["cached"]}
    assert again >= {"plan-branches", "featurize-lengths", "search-branch", "choose-lengths"}
