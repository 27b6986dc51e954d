"""Evidently makes every test that it is asked for, or the monitor is blind; its workspace keeps what it should."""

from __future__ import annotations

import importlib.util
import os
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from components.monitor import evidently_report
from components.monitor.commands import app
from components.monitor.evidently_report import Asked, asked, check_complete
from components.monitor.gauges import render
from components.monitor.run import watch
from components.monitor.workspace import Workspace, database, ui_command
from ninefold.clock import WallClock
from ninefold.errors import DataError
from ninefold.settings import settings
from ninefold.store import Store

ASKED = [Asked(metric="MissingValueCount", column="size", test=0.1, arguments={})]


def _result(column: str | None = "size", *, tested: bool = True) -> dict[str, Any]:
    config = {"type": "evidently:metric_v2:MissingValueCount", "column": column}
    return {"metrics": [{"config": config}], "tests": [{"metric_config": {"params": config}}] if tested else []}


def test_a_test_that_vanished_is_named() -> None:
    check_complete(ASKED, _result())
    with pytest.raises(DataError, match="no test for MissingValueCount of size"):
        check_complete(ASKED, _result(tested=False))
    with pytest.raises(DataError, match="no metric for MissingValueCount of size"):
        check_complete(ASKED, _result("other"))


def test_reports_dashboard_retention_and_gauges(
    stalls: ModuleType, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalls.produce(store, 22)
    monkeypatch.setenv("NINEFOLD_MONITORING__SNAPSHOTS", "2")
    settings.cache_clear()
    here = settings()

    def run(since: int, until: int) -> Any:
        begin, end = (stalls.BEGAN + timedelta(days=day) for day in (since, until))
        return watch("stalls:USE_CASE", store, here, begin, end, clock=WallClock())

    def windows() -> list[str]:
        with Workspace.open(here) as workspace:
            return [window[:10] for window in workspace.windows(stalls.USE_CASE)]

    watched = run(19, 21)
    assert {f.outcome for f in watched.findings if f.check == "report"} == {"within"}
    assert windows() == ["2024-03-20", "2024-03-21"]
    run(20, 22)
    assert windows() == ["2024-03-21", "2024-03-22"]
    with sa.create_engine(database(here)).connect() as connection:
        for table, count in (("blobs", 2), ("snapshots", 2)):
            assert connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar() == count
        kept = connection.execute(sa.text("SELECT count(DISTINCT snapshot_id) FROM points")).scalar()
        panels = connection.execute(sa.text("SELECT dashboard_json FROM projects")).scalar()
    assert kept == 2
    assert '"mae (kg), by window"' in str(panels).replace("'", '"')
    text = render(stalls.USE_CASE, watched).decode()
    assert 'ninefold_monitor_coverage{cohort="",use_case="stalls",version="0"} 1.0' in text
    assert 'ninefold_monitor_psi{column="input.visits",use_case="stalls"}' in text

    # Evidently swallows a test under a misspelt name: the monitor has to notice.
    monkeypatch.setitem(evidently_report.TESTS_ARE, "MissingValueCount", "shares_tests")
    blind = run(21, 22)
    assert {(f.check, f.outcome) for f in blind.findings if f.check == "report"} == {("report", "over")}
    (said,) = [a.message for a in blind.standing if a.check == "report"]
    assert "Evidently made no test for MissingValueCount of visits" in said
    assert blind.state == "alerts"


def test_what_is_asked_for_carries_the_monitors_limits() -> None:
    from components.monitor.reference import Limits

    bounds = Limits(psi={"input.size": 0.3}, nulls={"input.size": 0.05}, unseen={}, loss=float("nan"))
    metrics = {(a.metric, a.column): a for a in asked(["size", "new"], bounds, with_reference=True, judged=False)}
    assert metrics["ValueDrift", "size"].test == 0.3
    assert metrics["MissingValueCount", "size"].test == 0.05
    assert metrics["ValueDrift", "new"].test is None
    assert ("MeanValue", "loss") not in metrics


@pytest.mark.filterwarnings("ignore")
def test_the_ui_calls_nobody_and_reads_the_workspace(stalls: ModuleType) -> None:
    from evidently.ui.service.config import load_config_from_file
    from evidently.ui.service.local_service import LocalConfig

    here = settings()
    command, environment = ui_command(here, "127.0.0.1", 8088)
    assert environment["DO_NOT_TRACK"] == "1"
    assert importlib.util.find_spec(f"{command[command.index('-m') + 1]}.__main__") is not None
    config = load_config_from_file(LocalConfig, command[command.index("--conf-path") + 1])
    assert config.telemetry.enabled is False
    assert config.additional_components["database"].url == database(here)
    assert os.environ["DO_NOT_TRACK"]


def test_the_command_shows_a_table_and_its_exit_code_says_whether_alerts_stand(
    stalls: ModuleType, store: Store
) -> None:
    stalls.produce(store, 22, {21: lambda row, rng: None})
    run = ["run", "stalls:USE_CASE", "--from", "2024-03-20", "--to", "2024-03-22", "--no-reports"]
    quiet = CliRunner().invoke(app, run)
    assert quiet.exit_code == 0, quiet.output
    assert "288" in quiet.output
    loud = CliRunner().invoke(app, [*run[:4], "--to", "2024-03-23", "--no-reports"])
    assert loud.exit_code == 3
    assert "0 predictions" in loud.output
    listed = CliRunner().invoke(app, ["alerts", "stalls:USE_CASE"])
    assert "no_predictions" in listed.output
    assert (settings().home / "reports" / "stalls" / "monitor" / "metrics.prom").exists()
