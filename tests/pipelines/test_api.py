"""Runs by API: recorded before they begin, run in their turn, and refused with a named field when they are wrong."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from ninefold.clock import WallClock
from ninefold.keys import Keys, create_key
from ninefold.service import bound_socket
from ninefold.settings import settings
from ninefold.store import open_store
from pipelines import compile as compiled
from pipelines.api import runs_app


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[httpx.Client]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
    monkeypatch.setitem(compiled.PIPELINES, "training", "tiny_pipeline:tiny")
    key = create_key(tmp_path / "keys.json", "ci")
    here = settings()
    store = open_store(here.store_url)
    app = runs_app(store, here, Keys.from_file(tmp_path / "keys.json"), WallClock())
    with bound_socket("127.0.0.1", 0, name="orchestrator") as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=base, headers={"X-ApiKey": key}, timeout=30) as found:
            yield found
        server.should_exit = True
        thread.join()
    store.close()


def _wait(client: httpx.Client, location: str) -> dict[str, object]:
    for _ in range(300):
        run: dict[str, object] = client.get(location).json()
        if run["state"] in ("succeeded", "failed"):
            return run
        time.sleep(0.1)
    raise AssertionError(run)


def test_a_run_is_accepted_and_ends_with_its_result(client: httpx.Client) -> None:
    asked = {"pipeline": "training", "use_case": "arrivals", "parameters": {"until": "2013-07-01"}}
    answer = client.post("/v1/runs", json=asked)
    assert answer.status_code == 202
    assert answer.json()["parameters"]["until"] == "2013-07-01T00:00:00Z"
    run = _wait(client, answer.headers["Location"])
    assert (run["state"], run["result"]) == ("succeeded", {"word": "ARRIVALS"})
    assert run["ended_at"] is not None
    assert [r["run_id"] for r in client.get("/v1/runs").json()["runs"]] == [run["run_id"]]


def test_a_failed_run_says_why_and_the_next_one_still_runs(client: httpx.Client) -> None:
    parameters = {"until": "2013-07-01", "seed": 13}
    wrong = client.post("/v1/runs", json={"pipeline": "training", "use_case": "arrivals", "parameters": parameters})
    right = client.post(
        "/v1/runs", json={"pipeline": "training", "use_case": "arrivals", "parameters": {"until": "2013-07-01"}}
    )
    failed = _wait(client, wrong.headers["Location"])
    assert failed["state"] == "failed"
    assert "well is dry" in str(failed["error"])
    assert failed["step"] == "second"
    assert _wait(client, right.headers["Location"])["state"] == "succeeded"


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ([], 400, "body"),
        ({"pipeline": "training"}, 400, "use_case"),
        ({"pipeline": "trainign", "use_case": "arrivals"}, 400, "trainign"),
        ({"pipeline": "training", "use_case": "arivals"}, 404, "arivals"),
        ({"pipeline": "training", "use_case": "os:path"}, 400, "import path"),
        ({"pipeline": "training", "use_case": "arrivals"}, 400, "until"),
        ({"pipeline": "training", "use_case": "arrivals", "parameters": {"until": "July"}}, 400, "until"),
        ({"pipeline": "training", "use_case": "arrivals", "parameters": {"untl": "2013"}}, 400, "untl"),
        (
            {"pipeline": "training", "use_case": "arrivals", "parameters": {"until": "2013-07-01", "seed": "x"}},
            400,
            "seed",
        ),
        (
            {
                "pipeline": "training",
                "use_case": "arrivals",
                "parameters": {"until": "2013-07-01", "max_training_time": 0},
            },
            400,
            "max_training_time",
        ),
        ({"pipeline": "training", "use_case": "arrivals", "extra": 1}, 400, "extra"),
    ],
)
def test_a_wrong_request_names_what_is_wrong_and_starts_nothing(
    client: httpx.Client, body: object, status: int, word: str
) -> None:
    answer = client.post("/v1/runs", json=body)
    assert (answer.status_code, word in answer.json()["error"]) == (status, True)
    assert client.get("/v1/runs").json()["runs"] == []


def test_without_a_key_nothing_is_told(client: httpx.Client) -> None:
    assert client.get("/v1/runs", headers={"X-ApiKey": "nf_wrong"}).status_code == 401
    assert client.get("/v1/runs/x").status_code == 404
    assert client.get("/readyz").status_code == 200
