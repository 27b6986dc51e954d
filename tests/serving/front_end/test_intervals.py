"""An order is asked, from HTTP to the store: a real package, a real ``kserve.ModelServer``, the front end."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from parcel_house import free_port, start, wait_for

from ninefold.dataset import INPUT, columns_of
from ninefold.keys import local_key
from ninefold.package import load_predictor, predict_bounded
from ninefold.routes import RouteTable, Variant, write_routes
from ninefold.settings import Settings, settings
from ninefold.store import open_store
from usecases.deliveries import USE_CASE
from usecases.deliveries.contract import DISHES, MARGIN

ORDER: dict[str, Any] = {"order": 20_001, "hour": 18.5, "day": "Fri", "distance": 3.2, **dict.fromkeys(DISHES, 0)}
ORDER["item_04"] = 2
ROW: list[Any] = [18.5, "Fri", 3.2, *(ORDER[dish] for dish in DISHES), 2.0]
"""The same as a model's instance."""


@dataclass
class House:
    """A front end and the model server that it asks; the live version's answers have a shadow."""

    settings: Settings
    client: httpx.Client
    model: httpx.Client
    package: Any

    def ask(self, verb: str, *orders: dict[str, Any], wait: str = "") -> dict[str, Any]:
        response = self.client.post(f"/v1/models/deliveries:{verb}{wait}", json={"instances": list(orders)})
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    def kept(self, count: int, **wanted: Any) -> list[Any]:
        deadline = time.monotonic() + 20
        with open_store(self.settings.store_url) as store:
            while True:
                every = store.predictions("deliveries")
                found = [p for p in every if all(getattr(p, name) == value for name, value in wanted.items())]
                if len(found) >= count:
                    return found
                assert time.monotonic() < deadline, f"{len(found)} of {count} were kept"
                time.sleep(0.05)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, deliveries_package: Any) -> Iterator[House]:
    home: Path = tmp_path_factory.mktemp("deliveries")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NINEFOLD_HOME", str(home))
        settings.cache_clear()
        chosen = settings()
        key = local_key(chosen.home, chosen.keys_path)
        of = {"digest": deliveries_package.digest, "package": deliveries_package.folder}
        (home / "models.json").write_text(json.dumps({"deliveries": of}))
        port, model_port = free_port(), free_port()
        url = f"http://127.0.0.1:{model_port}"
        variants = {number: Variant(version=number, url=url, **of) for number in (1, 2)}
        table = RouteTable(
            use_case="deliveries", revision=1, live=1, variants=variants, candidate=2, rollout="r1",
            rollout_revision=1, shadow=True,
        )  # fmt: skip
        write_routes(home / "gateway" / "deliveries.json", table)
        model_server = subprocess.Popen(
            [sys.executable, "-m", "serving.model_server", "--models", str(home / "models.json"),
             "--port", str(model_port), "--keys", str(chosen.keys_path)],
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )  # fmt: skip
        front_end = start(port, use_case="deliveries", NINEFOLD_SERVING__MODEL_TIMEOUT_SECONDS="5")
        headers = {"X-ApiKey": key}
        try:
            # KServe's imports take seconds, and on a machine with other work many.
            wait_for(f"{url}/readyz", model_server, seconds=120.0)
            wait_for(f"http://127.0.0.1:{port}/healthz", front_end, seconds=60.0)
            with (
                httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) as client,
                httpx.Client(base_url=url, headers=headers, timeout=20) as model,
            ):
                yield House(chosen, client, model, deliveries_package)
        finally:
            for process in (front_end, model_server):
                process.kill()
                process.communicate()
    settings.cache_clear()


def test_v1_answers_an_object_of_three_numbers_an_instance(house: House) -> None:
    rows = [ROW, [None] * len(ROW)] * 60
    for sent in ([ROW], rows):
        document = house.model.post("/v1/models/deliveries:predict", json={"instances": sent}).json()
        assert set(document) == {"predictions"}
        assert len(document["predictions"]) == len(sent)
        for answer in document["predictions"]:
            assert list(answer) == ["prediction", "lower", "upper"]
            assert answer["lower"] <= answer["prediction"] <= answer["upper"]
    assert 20 < document["predictions"][0]["prediction"] < 50


def test_v2_answers_three_tensors_that_the_metadata_name(house: House) -> None:
    described = house.model.get("/v2/models/deliveries").json()
    assert [(o["name"], o["datatype"], o["shape"]) for o in described["outputs"]] == [
        ("prediction", "FP32", [-1]), ("lower", "FP32", [-1]), ("upper", "FP32", [-1]),
    ]  # fmt: skip
    tensors = [
        {
            "name": declared.name, "shape": [2], "datatype": "FP32" if declared.kind == "number" else "BYTES",
            "data": [value, value],
        }
        for declared, value in zip(USE_CASE.inputs, ROW, strict=True)
    ]  # fmt: skip
    answer = house.model.post("/v2/models/deliveries/infer", json={"inputs": tensors}).json()
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    of_v1 = house.model.post("/v1/models/deliveries:predict", json={"instances": [ROW]}).json()["predictions"][0]
    assert {name: data[0] for name, data in outputs.items()} == pytest.approx(of_v1)


def test_an_answer_has_its_interval_beside_it_and_the_promise_is_its_upper_bound(house: House) -> None:
    document = house.ask("predict", {**ORDER, "order": 1}, wait="?wait=shadow")
    (answer,) = document["predictions"]
    lower, upper = answer["interval"]
    assert lower <= answer["prediction"] <= upper
    assert answer["decision"] == {"from": math.floor(lower), "promise": math.ceil(upper)}
    live, shadow = sorted(house.kept(2, key="1"), key=lambda kept: kept.cohort)
    assert (live.cohort, shadow.cohort) == ("live", "shadow")
    # The candidate is the same package, so what it says in the shadow is the same.
    assert live.interval == shadow.interval == (lower, upper)
    assert live.value == answer["prediction"]


def test_the_baseline_has_none_and_promises_with_a_margin(house: House) -> None:
    far, near = house.ask("predict", {**ORDER, "order": 2, "distance": 31.0}, {**ORDER, "order": 3})["predictions"]
    assert (far["fallback"], far["interval"]) == ("out_of_range", None)
    assert far["decision"]["promise"] == math.ceil(far["prediction"] + MARGIN)
    assert near["interval"] is not None
    assert [kept.interval for kept in house.kept(1, key="2", cohort="live")] == [None]


def test_an_explanation_tells_the_interval_of_what_it_explains(house: House) -> None:
    document = house.ask("explain", {**ORDER, "order": 4}, {**ORDER, "order": 5, "distance": 31.0})
    (told,) = house.ask("predict", {**ORDER, "order": 4})["predictions"]
    explained, by_rule = document["predictions"]
    assert explained["interval"] == pytest.approx(told["interval"])
    assert explained["decision"] == told["decision"]
    assert by_rule["interval"] is None
    assert {part["group"] for part in document["explanations"][0]["contributions"]} == {"time", "way", "meal"}


def test_the_api_describes_the_interval(house: House) -> None:
    schemas = house.client.get("/openapi.json").json()["components"]["schemas"]
    assert "80% of the truths" in schemas["Prediction"]["properties"]["interval"]["description"]
    assert "interval" in schemas["Prediction"]["required"]


def test_what_is_served_holds_what_it_promises_on_orders_that_it_never_saw(house: House) -> None:
    new = house.package.new
    predictor = load_predictor(house.package.folder, house.package.digest)
    _, interval = predict_bounded(predictor, columns_of(new, INPUT))
    truth = new["truth"].to_numpy()
    assert interval is not None
    covered = ((interval[:, 0] <= truth) & (truth <= interval[:, 1])).mean()
    # Both the rows that it is calibrated by, 600, and those that it is judged by are drawn.
    assert abs(covered - 0.8) < 4 * math.sqrt(0.8 * 0.2 * (1 / 600 + 1 / len(truth)))
