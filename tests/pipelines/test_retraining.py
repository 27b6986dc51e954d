"""The loop closes: answers become worse, an alert asks for a run, it passes its gate, and its model opens a rollout."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ninefold.clock import format_instant
from ninefold.dataset import columns_of
from ninefold.package import load_predictor
from ninefold.records import Prediction, Truth
from ninefold.settings import Settings, settings
from ninefold.store import Store, open_store

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

HERE = Path(__file__).parent
NAME = "market:USE_CASE"
SUMMER_FROM, DAYS = 12, 24


@pytest.fixture
def market(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.syspath_prepend(str(HERE))
    import market

    return market


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store(settings().store_url) as opened:
        yield opened


def _run(*arguments: str, code: int = 0) -> str:
    found = subprocess.run(
        [sys.executable, "-m", "ninefold", *arguments], capture_output=True, text=True, timeout=400, check=False
    )
    assert found.returncode == code, found.stdout + found.stderr
    return found.stdout + found.stderr


def _produce(market: ModuleType, store: Store) -> None:
    """Days of production: the live model answers, and after some days it is summer."""
    import polars as pl

    live = store.live_version("market")
    assert live is not None
    assert live.version == 1
    predictor = load_predictor(live.uri, live.digest)
    rows = market.rows(market.BEGAN, DAYS, summer_from=SUMMER_FROM, seed=2)
    frame = pl.DataFrame([{f"request.{k}": v for k, v in row.items() if k != "truth"} for row in rows])
    values = predictor.predict_columns(market.USE_CASE.inputs_of(columns_of(frame, "request.")))
    predictions = [
        _prediction(number, row, value) for number, (row, value) in enumerate(zip(rows, values, strict=True))
    ]
    store.write_predictions(predictions)
    store.write_truths(
        Truth(
            truth_id=f"t{number}", use_case="market", key=one.key, value=row["truth"],
            known_at=one.decided_at + timedelta(hours=3), received_at=one.decided_at + timedelta(hours=3),
        )
        for number, (one, row) in enumerate(zip(predictions, rows, strict=True))
    )  # fmt: skip


def _prediction(number: int, row: dict[str, Any], value: float) -> Prediction:
    at = row["at"]
    return Prediction(
        prediction_id=f"p{number:06d}", use_case="market", request_id=None,
        key=f"{row['stall']}|{format_instant(at)}", decided_at=at, received_at=at, version=1, cohort="live",
        request={**{name: row[name] for name in ("stall", "season", "visits")}, "at": format_instant(at)},
        features={}, value=float(value), fallback=None, latency_ms=3.0,
    )  # fmt: skip


def _orchestrate(store: Store, run_id: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "ninefold", "orchestrator", "--port", str(port)])
    try:
        deadline = time.monotonic() + 400
        while (run := store.run(run_id)) is None or run.state in ("requested", "running"):
            assert time.monotonic() < deadline, run
            assert process.poll() is None
            time.sleep(0.3)
        assert run.state == "succeeded", run.error
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


def _result(here: Settings, run_id: str, name: str = "result") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((here.home / "reports" / "market" / run_id / f"{name}.json").read_text())
    return found


def test_a_loss_leads_to_a_rollout_and_after_a_promotion_the_new_model_is_to_be_beaten(
    market: ModuleType, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NINEFOLD_MONITORING__MAX_TRAINING_TIME", "4")
    settings.cache_clear()
    here = settings()
    shown = _run("run", "training", NAME, "--until", format_instant(market.BEGAN), "--max-training-time", "4")
    assert "Version 1 of market is live." in shown

    _produce(market, store)
    period = [format_instant(market.BEGAN + timedelta(days=day)) for day in (8, DAYS)]
    seen = _run("monitor", "run", NAME, "--from", period[0], "--to", period[1], "--no-reports", code=3)
    (asked,) = store.runs(NAME, state="requested")
    assert f"Asked for the training run {asked.run_id}: ninefold orchestrator takes it" in seen
    assert (asked.parameters["until"], asked.parameters["max_training_time"]) == (period[1], 4.0)
    assert {(a.check, a.subject) for a in store.alerts("market", standing=True)} >= {("loss", "version 1")}

    _orchestrate(store, asked.run_id)
    result = _result(here, asked.run_id)
    checks = {check["name"]: check for check in result["reasons"]}
    assert result["action"] == "release", result["summary"]
    assert [row["name"] for row in result["rows"]] == ["baseline", "incumbent (version 1)", "candidate"]
    # The same rows: the six days of summer that nobody trained on, but for the last hours, whose truths came later.
    (count,) = {row["count"] for row in result["rows"]}
    assert 5.5 * market.PER_DAY < count < 6 * market.PER_DAY
    assert checks["no_worse_than_incumbent"]["outcome"] == "passed"
    assert checks["no_worse_than_incumbent"]["number"] > 0.2
    rollout = store.rollout("market")
    assert rollout is not None
    assert (rollout.incumbent, rollout.candidate, rollout.state) == (1, 2, "pending")
    assert (result["rollout"]["id"], result["rollout"]["state"]) == (rollout.rollout_id, "pending")
    assert result["then"][0].startswith("Version 2 of market opened a rollout: it is asked beside version 1")
    live = store.live_version("market")
    assert live is not None
    assert live.version == 1

    store.record_step(rollout.rollout_id, revision=1, actor="test", action="promote", state="promoted", live=2)
    _run("run", "training", NAME, "--until", period[1], "--max-training-time", "4", "--seed", "7")
    newest = store.runs(NAME, pipeline="training")[0]
    evidence = _result(here, newest.run_id, "evidence")
    assert evidence["incumbent_version"] == 2
    again = _result(here, newest.run_id)
    assert again["rows"][1]["name"] == "incumbent (version 2)"
    # The incumbent is predicted anew on the same rows, and comes to what it came to as the candidate.
    assert again["rows"][1]["value"] == pytest.approx(result["rows"][2]["value"], abs=1e-9)
    compared = {check["name"]: check for check in again["reasons"]}["no_worse_than_incumbent"]
    assert "against the incumbent's" in compared["words"]
