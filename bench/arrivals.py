"""Arrivals on real flights: trained January to May, chosen on June, tested on July; then July live, by the minute."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.model_server import free_port
from ninefold.clock import WallClock
from ninefold.loading import load_use_case
from ninefold.settings import Ports, Settings
from ninefold.store import open_store
from pipelines.launch import execute_run, request_run
from pipelines.live_check import check_live, wait_for_predictions
from pipelines.replay_run import replay_here
from serving.supervisor.supervisor import Supervisor

SEARCH_SECONDS = 120.0
SINCE, UNTIL = datetime(2013, 7, 1, tzinfo=UTC), datetime(2013, 8, 1, tzinfo=UTC)


def main() -> list[dict[str, Any]]:
    """Trains, serves, replays July, and compares."""
    use_case = load_use_case("arrivals")
    with tempfile.TemporaryDirectory() as folder:
        ports = Ports(
            front_end=free_port(), collector=free_port(), models_from=free_port(), gateway=free_port(),
            gateway_inner=free_port(),
        )  # fmt: skip
        here = Settings(home=Path(folder), clock="event", ports=ports)
        os.environ["NINEFOLD_HOME"] = folder
        store = open_store(here.store_url)
        parameters = {"until": UNTIL.date().isoformat(), "max_training_time": SEARCH_SECONDS}
        asked = request_run("training", "arrivals", parameters, store=store, clock=WallClock())
        ended = execute_run(asked, store=store, settings=here)
        if ended is None:
            raise RuntimeError("another process took the run")
        # Its rollout is not what is measured here.
        store.set_state(use_case.name, ended[1]["version"], "live", actor="bench", reason="measured at once")
        values = {row["name"]: row["value"] for row in ended[1]["rows"]}
        with Supervisor(here, "arrivals") as supervisor:
            supervisor.wait_ready()
            replayed = replay_here(use_case, SINCE, UNTIL, settings=here, console=Console(quiet=True))
            wait_for_predictions(store, use_case.name, replayed.requests)
        check = check_live(use_case, store, here, SINCE, UNTIL)
        store.close()
    baseline, model = values["baseline"], values["candidate"]
    skew = abs(check.live.value.value - check.offline.value.value)
    differing = sum(check.parity.different.values())
    rate = replayed.requests / replayed.seconds
    return [
        _row("arrivals: baseline MAE, July", baseline, "15.25 ± 0.05", "min", abs(baseline - 15.25) <= 0.05),
        _row("arrivals: model MAE, July, 120 s search", model, "≤ 13.65", "min", model <= 13.65),
        _row("arrivals: model MAE, July live", check.live.value.value, None, "min", None),
        _row("arrivals: July live less offline", skew, "≤ 0.05", "min", skew <= 0.05),
        _row("arrivals: logged values compared", check.parity.values, None, "", None),
        _row("arrivals: logged values that differ", differing, "0", "", check.parity.equal),
        _row("arrivals: answered by the fallback", sum(check.fallbacks.values()), None, "", None),
        _row("replay: flights a second, with parity", rate, "≥ 400", "/s", rate >= 400 and check.parity.equal),
    ]


def _row(name: str, value: float, bound: str | None, unit: str, ok: bool | None) -> dict[str, Any]:
    return {"name": name, "value": value, "bound": bound, "unit": unit, "ok": ok}
