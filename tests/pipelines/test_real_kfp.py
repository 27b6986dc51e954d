"""On a real Kubeflow Pipelines, which KF_PIPELINES_ENDPOINT names: what is submitted and what recurs is what it has."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from ninefold.cli import app
from ninefold.errors import NotFound
from pipelines.kfp_server import KfpServer, address
from pipelines.recurring import found, prefix, remove, rows_of

HOST = os.environ.get("KF_PIPELINES_ENDPOINT", "")
IMAGE = "registry.example/ninefold/pipeline@sha256:" + "1" * 64
ROWS = rows_of("churn")
NAMES = sorted(f"{prefix('churn')}{row.pipeline}" for row in ROWS)

pytestmark = [
    pytest.mark.skipif(not HOST, reason="no Kubeflow Pipelines: KF_PIPELINES_ENDPOINT is not set"),
    pytest.mark.filterwarnings("ignore"),  # KFP's client's own.
]


@pytest.fixture
def server() -> Iterator[KfpServer]:
    opened = KfpServer(address(HOST))
    remove(opened, "churn")
    yield opened
    remove(opened, "churn")


def _ninefold(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_recurring_runs_are_created_kept_recreated_and_removed(server: KfpServer) -> None:
    apply = ("recurring", "apply", "churn", "--image")
    assert _ninefold(*apply, IMAGE).output.count("created") == len(ROWS)
    first = found(server.recurring_runs(), "churn")
    assert [one.name for one in first] == NAMES
    assert all(one.enabled for one in first)
    assert {one.name: one.cron for one in first} == {f"{prefix('churn')}{row.pipeline}": row.cron for row in ROWS}
    assert _ninefold(*apply, IMAGE).output.count("kept") == len(ROWS)
    assert found(server.recurring_runs(), "churn") == first
    assert _ninefold(*apply, IMAGE.replace("1", "2")).output.count("recreated") == len(ROWS)
    second = found(server.recurring_runs(), "churn")
    assert [one.name for one in second] == NAMES
    assert not {one.run_id for one in first} & {one.run_id for one in second}
    assert _ninefold("recurring", "list", "churn").output.count("enabled") == len(ROWS)
    assert _ninefold("recurring", "remove", "churn").output.count("removed") == len(ROWS)
    assert found(server.recurring_runs(), "churn") == []
    assert _ninefold("recurring", "list", "churn").output.count("missing") == len(ROWS)


def test_they_neither_overlap_nor_catch_up(server: KfpServer) -> None:
    _ninefold("recurring", "apply", "churn", "--image", IMAGE)
    runs = [run for run in server.recurring_runs() if run.display_name in NAMES]
    assert len(runs) == len(ROWS)
    for run in runs:
        assert (run.max_concurrency, run.no_catchup, run.service_account) == ("1", True, "ninefold-pipeline")
        assert run.runtime_config.parameters["image"] == IMAGE


def test_a_run_is_accepted_with_its_parameters_and_its_place(server: KfpServer) -> None:
    ended = _ninefold(
        "submit", "materialization", "churn", "--image", IMAGE, "--node-selector", "pool=training",
        "--toleration", "dedicated=training:NoSchedule",
    )  # fmt: skip
    assert ended.exit_code == 0, ended.output
    run_id = ended.output.split("/details/")[1].split()[0]
    run = server.run(run_id)
    parameters = run.runtime_config.parameters
    assert ended.output.startswith(f"Run {run.display_name}: ")
    assert parameters["run_id"] == run.display_name
    assert parameters["node_selector"] == {"pool": "training"}
    assert parameters["tolerations"] == [
        {"key": "dedicated", "operator": "Equal", "value": "training", "effect": "NoSchedule"}
    ]
    assert run.service_account == "ninefold-pipeline"


def test_an_experiment_that_does_not_exist_is_named(server: KfpServer) -> None:
    ended = _ninefold("submit", "retention", "churn", "--experiment", "no-such-experiment")
    assert isinstance(ended.exception, NotFound)
    assert "no-such-experiment" in str(ended.exception)
    with pytest.raises(NotFound):
        server.run("00000000-0000-0000-0000-000000000000")
