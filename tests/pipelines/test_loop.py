"""The loop as its users run it: commands, HTTP and real services, real data, from history to truths that come back."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from ninefold.loading import load_use_case
from ninefold.settings import Ports, Settings
from ninefold.store import open_store
from pipelines.live_check import check_live, wait_for_predictions
from pipelines.replay_run import replay_here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Home:
    """A home with ports of its own, and the command line in it."""

    def __init__(self, path: Path, clock: str) -> None:
        self.again = ""
        front_end, collector, models, gateway, inner = _free_ports(5)
        self.path = path
        self.environment = {
            **os.environ,
            "NINEFOLD_HOME": str(path),
            "NINEFOLD_CLOCK": clock,
            "NINEFOLD_PORTS__FRONT_END": str(front_end),
            "NINEFOLD_PORTS__COLLECTOR": str(collector),
            "NINEFOLD_PORTS__MODELS_FROM": str(models),
            "NINEFOLD_PORTS__GATEWAY": str(gateway),
            "NINEFOLD_PORTS__GATEWAY_INNER": str(inner),
        }
        ports = Ports(
            front_end=front_end, collector=collector, models_from=models, gateway=gateway, gateway_inner=inner
        )
        self.settings = Settings.model_validate({"home": path, "clock": clock, "ports": ports})
        self.front_end, self.collector = f"http://127.0.0.1:{front_end}", f"http://127.0.0.1:{collector}"

    def run(self, *arguments: str, code: int = 0) -> str:
        found = subprocess.run(
            [sys.executable, "-m", "ninefold", *arguments],
            env=self.environment, capture_output=True, text=True, timeout=400, check=False,
        )  # fmt: skip
        assert found.returncode == code, found.stdout + found.stderr
        return found.stdout + found.stderr

    @property
    def headers(self) -> dict[str, str]:
        return {"X-ApiKey": (self.path / "local.key").read_text().strip()}


@pytest.fixture(scope="module")
def churn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("churn"), "wall")
    home.run("run", "training", "churn", "--max-training-time", "15")
    home.again = home.run("run", "training", "churn", "--max-training-time", "15")
    home.run("up", "churn", "--detach")
    yield home
    home.run("down")


@pytest.fixture(scope="module")
def arrivals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("arrivals"), "event")
    # Up to the end of what is replayed: a release then brings rows online that the replayed requests must not see.
    home.run("run", "training", "arrivals", "--until", "2013-07-02", "--max-training-time", "15")
    # By its rules it would take weeks of flights.
    home.run("rollout", "promote", "arrivals", "--reason", "it would take weeks")
    home.run("up", "arrivals", "--detach")
    yield home
    home.run("down")


def test_churn_is_asked_by_an_id_alone_and_explained(churn: Home) -> None:
    body = {"instances": [{"customer_id": 17}, {"customer_id": 999_999}]}
    answer = httpx.post(f"{churn.front_end}/v1/models/churn:predict", json=body, headers=churn.headers, timeout=30)
    known, unknown = answer.json()["predictions"]
    assert 0 <= known["prediction"] <= 1
    assert (known["version"], known["fallback"]) == (1, None)
    assert known["decision"]["action"] in ("contact", "leave")
    assert (unknown["version"], unknown["fallback"]) == (0, "feature_missing")
    body = {"instances": [{"customer_id": 17}]}
    answer = httpx.post(f"{churn.front_end}/v1/models/churn:explain", json=body, headers=churn.headers, timeout=30)
    (explanation,) = answer.json()["explanations"]
    total = explanation["reference"] + sum(c["contribution"] for c in explanation["contributions"])
    assert total == pytest.approx(known["prediction"], abs=1e-5)


def test_feedback_on_a_prediction_becomes_a_truth_that_the_next_run_learns_from(churn: Home) -> None:
    body = {"instances": [{"customer_id": 18}]}
    answer = httpx.post(f"{churn.front_end}/v1/models/churn:predict", json=body, headers=churn.headers, timeout=30)
    identity = answer.json()["predictions"][0]["prediction_id"]
    with open_store(churn.settings.store_url) as store:
        wait_for_predictions(store, "churn", 1)
        feedback = {"prediction_id": identity, "value": 1, "text": "has left"}
        answer = httpx.post(f"{churn.collector}/v1/feedback", json=feedback, headers=churn.headers, timeout=30)
        assert answer.status_code == 200, answer.text
        (joined,) = [j for j in store.joined("churn") if j.prediction.prediction_id == identity]
    assert joined.truth is not None
    assert (joined.truth.value, joined.truth.source, joined.truth.note) == (1.0, "user", "has left")


def test_what_runs_is_shown_and_a_second_start_is_refused(churn: Home) -> None:
    status = json.loads(churn.run("status", "--json"))
    assert (status["use_case"], status["live"]) == ("churn", 1)
    assert all(process["ready"] for process in status["processes"])
    churn.run("up", "churn", "--detach", code=2)


def test_a_second_run_computes_nothing_that_the_first_one_has(churn: Home) -> None:
    cached = {line.split()[1] for line in churn.again.splitlines() if line.split()[2:3] == ["cached"]}
    assert cached == {"extract", "split", "featurize", "prepare", "evaluate-baseline", "build"}


def test_predictions_of_a_version_are_scored_against_truths_that_stay_where_they_are(churn: Home) -> None:
    shown = churn.run("evaluate", "churn", "--version", "1")
    assert "auc" in shown.lower()


def test_july_live_has_the_features_and_the_answers_of_july_offline(arrivals: Home) -> None:
    use_case, here = load_use_case("arrivals"), arrivals.settings
    since, until = datetime(2013, 7, 1, tzinfo=UTC), datetime(2013, 7, 2, tzinfo=UTC)
    replayed = replay_here(use_case, since, until, settings=here, console=Console(quiet=True))
    with open_store(here.store_url) as store:
        wait_for_predictions(store, "arrivals", replayed.requests)
        check = check_live(use_case, store, here, since, until)
    assert check.predictions == replayed.requests > 800
    assert check.parity.equal, check.parity.examples
    assert check.parity.values == replayed.requests * 21
    assert check.live.coverage > 0.95
    assert check.live.value.value == pytest.approx(check.offline.value.value, abs=0.05)
    assert check.fallbacks == {}


def test_what_was_replayed_is_not_replayed_again_into_the_same_windows(arrivals: Home) -> None:
    shown = arrivals.run("replay", "arrivals", "--from", "2013-06-30", "--to", "2013-07-01", code=2)
    assert "can't go back" in shown


def test_a_run_leaves_its_report_and_its_reasons(arrivals: Home) -> None:
    (result,) = (arrivals.path / "reports" / "arrivals").glob("*/result.json")
    document: dict[str, Any] = json.loads(result.read_text())
    assert document["action"] == "release"
    assert {check["name"] for check in document["reasons"]} >= {"baseline_evaluated", "beats_baseline", "parity"}
    assert (result.parent / "report.html").read_text().count("data:image/svg+xml") >= 2
