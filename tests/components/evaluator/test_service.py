"""The evaluator's service: metrics of predictions, and nothing from which truths could be read."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import httpx
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from components.evaluator.disclosure import MOST_EVALUATIONS, secret_coin, step_above, step_of, to_step
from components.evaluator.service import app
from components.evaluator.testset import register_test_set
from ninefold.clock import EventClock
from ninefold.dataset import write_dataset
from ninefold.keys import Keys, create_key
from ninefold.metrics import compute
from ninefold.settings import settings


class House:
    """The service over two registered test sets, and two callers."""

    def __init__(self, samples, folder) -> None:
        self.samples = samples
        self.frame = samples.rides(days=20, rows_a_day=50)
        write_dataset(str(folder / "rides.parquet"), self.frame, samples.card(samples.RIDES, "evaluator_samples:RIDES"))
        register_test_set(settings(), "rides", "july", str(folder / "rides.parquet"))
        keys_file = folder / "keys.json"
        self.ann, self.bob = create_key(keys_file, "ann"), create_key(keys_file, "bob")
        self.app = app(
            keys=Keys.from_file(keys_file), clock=EventClock(datetime(2013, 8, 1, tzinfo=UTC)), settings=settings()
        )

    def predictions(self, shift: float = 0.0, rows: int = 1000) -> list[dict[str, object]]:
        values = (self.frame["baseline"].to_numpy() + shift).tolist()
        return [{"key": k, "prediction": v} for k, v in zip(self.frame["key"].to_list(), values, strict=True)][:rows]

    async def post(self, body: object, key: str | None = None) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self._send("POST", "/v1/evaluations", key, content)

    async def get(self, path: str, key: str | None = None) -> httpx.Response:
        return await self._send("GET", path, key, b"")

    async def _send(self, method: str, path: str, key: str | None, content: bytes) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://evaluator") as client:
            headers = {"X-ApiKey": self.ann if key is None else key}
            return await client.request(method, path, content=content, headers=headers)


@pytest.fixture
def house(samples, tmp_path) -> House:
    return House(samples, tmp_path)


async def test_predictions_are_answered_with_metrics(house: House) -> None:
    response = await house.post(
        {"use_case": "rides", "test_set": "july", "version": 3, "predictions": house.predictions()}
    )
    assert response.status_code == 201, response.text
    answer = response.json()
    error = house.frame["baseline"].to_numpy() - house.frame["truth"].to_numpy()
    assert answer["value"] == pytest.approx(np.abs(error).mean(), abs=0.1)
    assert answer["interval"][0] < answer["value"] < answer["interval"][1]
    assert (answer["rows"], answer["coverage"], answer["blocks"], answer["version"]) == (1000, 1.0, 20, 3)
    assert set(answer["metrics"]) == {"mae", "rmse", "bias", "r2"}
    assert set(answer["application"]) == {"promises_kept"}
    assert answer["evaluations_left"] == MOST_EVALUATIONS - 1
    again = await house.get(response.headers["location"])
    assert again.json() == answer


async def test_the_answer_holds_no_truth_and_no_error_of_a_row(house: House) -> None:
    answer = (await house.post({"use_case": "rides", "predictions": house.predictions()})).json()
    assert set(answer) == {
        "evaluation_id", "test_set", "evaluated_at", "use_case", "version", "metric", "direction", "unit", "value",
        "interval", "rows", "coverage", "blocks", "metrics", "application", "slices", "evaluations_left",
    }  # fmt: skip
    assert "median_ae" not in answer["metrics"]
    assert all(set(one) == {"field", "value", "rows", "metric"} for one in answer["slices"])


async def test_a_small_slice_is_named_and_not_told(house: House) -> None:
    answer = (await house.post({"use_case": "rides", "predictions": house.predictions()})).json()
    zones = {s["value"]: s for s in answer["slices"] if s["field"] == "zone"}
    assert zones["tiny"] == {"field": "zone", "value": "tiny", "rows": None, "metric": None}
    assert zones["north"]["metric"] is not None


@pytest.mark.parametrize("guess", [0.0, 200.0, 1e6])
async def test_an_answer_changes_by_a_step_at_most_when_one_truth_is_another(
    house: House, samples, tmp_path, guess: float
) -> None:
    """The attack that the rules are for: put one prediction far off, and read its truth from the change."""
    predictions = house.predictions()
    predictions[70]["prediction"] = guess
    answers = []
    for name, truth in (("low", 5.0), ("high", 60.0)):
        frame = house.frame.with_columns(truth=pl.when(pl.int_range(pl.len()) == 70).then(truth).otherwise("truth"))
        write_dataset(str(tmp_path / "other.parquet"), frame, samples.card(samples.RIDES, "evaluator_samples:RIDES"))
        register_test_set(settings(), "rides", name, str(tmp_path / "other.parquet"))
        answers.append((await house.post({"use_case": "rides", "test_set": name, "predictions": predictions})).json())
    values = np.array([p["prediction"] for p in predictions])
    truth = house.frame["truth"].to_numpy()
    for name, told in answers[0]["metrics"].items():
        step = step_of(name, truth, values, (truth.min(), truth.max()))
        assert abs(told - answers[1]["metrics"][name]) <= 1.001 * step, name
    mae, step = answers[0]["metrics"]["mae"], step_of("mae", truth, values, (truth.min(), truth.max()))
    assert mae == pytest.approx(round(mae / step) * step)


@settings_of_hypothesis(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 1000),
    row=st.integers(0, 119),
    truth_there=st.floats(-50, 400),
    far=st.sampled_from([0.0, 1e3, -1e5]),
)
def test_no_truth_moves_a_metric_of_numbers_by_more_than_its_step(seed, row, truth_there, far) -> None:
    random = np.random.default_rng(seed)
    truth = np.clip(random.exponential(60, 120) - 20, -50, 400)
    prediction = truth + random.normal(0, 20, 120)
    prediction[row] += far
    other = truth.copy()
    other[row] = truth_there
    for name in ("mae", "bias", "mse", "rmse", "r2"):
        moved = abs(compute(name, other, prediction) - compute(name, truth, prediction))
        assert moved <= 1.05 * step_of(name, truth, prediction, (-50.0, 400.0)), name


@settings_of_hypothesis(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1000), row=st.integers(0, 119), sure=st.sampled_from([None, 0.0, 1.0]))
def test_no_truth_moves_a_metric_of_classes_by_more_than_its_step(seed, row, sure) -> None:
    random = np.random.default_rng(seed)
    truth = (random.random(120) < 0.3).astype(float)
    prediction = np.clip(0.3 + 0.3 * truth + 0.2 * random.normal(size=120), 0, 1)
    prediction[row] = prediction[row] if sure is None else sure
    other = truth.copy()
    other[row] = 1 - truth[row]
    for name in ("auc", "log_loss", "brier", "accuracy", "precision", "recall"):
        moved = abs(compute(name, other, prediction) - compute(name, truth, prediction))
        assert moved <= step_of(name, truth, prediction, (0.0, 1.0)) * 1.0001, name


def test_numbers_are_rounded_to_steps() -> None:
    assert [step_above(x) for x in (0.03, 0.2, 0.21, 7.0, 100.0)] == [0.05, 0.2, 0.5, 10.0, 100.0]
    assert [to_step(13.6512, 0.5, up) for up in (0.0, 0.6, 0.7, 0.99)] == [13.5, 13.5, 14.0, 14.0]
    assert to_step(13.6512, 0.02, 0.5) == 13.66
    assert to_step(1234.0, 50.0, 0.5) == 1250.0
    assert to_step(float("nan"), 0.1, 0.5) is None
    assert to_step(1.0, step_above(float("nan")), 0.5) is None


def test_rounding_is_drawn_in_proportion_and_the_same_for_the_same_predictions() -> None:
    told = [to_step(0.3, 1.0, secret_coin(b"secret", f"predictions {i}")("mae")) for i in range(2000)]
    assert np.mean(told) == pytest.approx(0.3, abs=0.05)
    assert secret_coin(b"secret", "a")("mae") == secret_coin(b"secret", "a")("mae")
    assert len({secret_coin(*of)(n) for of in ((b"s", "a"), (b"t", "a"), (b"s", "b")) for n in ("mae", "bias")}) == 6


async def test_too_few_predictions_are_refused(house: House) -> None:
    response = await house.post({"use_case": "rides", "predictions": house.predictions(rows=899)})
    assert response.status_code == 400
    assert response.json()["field"] == "predictions"
    assert "at least 900" in response.json()["error"]
    answer = (await house.post({"use_case": "rides", "predictions": house.predictions(rows=900)})).json()
    assert answer["coverage"] == 0.9


async def test_a_caller_has_so_many_evaluations_and_the_same_predictions_are_the_same_one(house: House) -> None:
    for shift in range(MOST_EVALUATIONS):
        response = await house.post({"use_case": "rides", "predictions": house.predictions(float(shift))})
        assert response.status_code == 201
    assert response.json()["evaluations_left"] == 0
    spent = await house.post({"use_case": "rides", "predictions": house.predictions(99.0)})
    assert spent.status_code == 429
    assert "all 50 evaluations" in spent.json()["error"]
    known = await house.post({"use_case": "rides", "predictions": house.predictions(3.0)[::-1]})
    assert known.status_code == 200
    others = await house.post({"use_case": "rides", "predictions": house.predictions(99.0)}, house.bob)
    assert others.status_code == 201


async def test_an_evaluation_is_told_to_its_caller_alone(house: House) -> None:
    location = (await house.post({"use_case": "rides", "predictions": house.predictions()})).headers["location"]
    assert (await house.get(location)).status_code == 200
    assert (await house.get(location, house.bob)).status_code == 404
    assert (await house.get("/v1/evaluations/" + "0" * 32)).status_code == 404
    assert (await house.get("/v1/evaluations/..%2F..%2Fkeys")).status_code == 404


async def test_a_key_is_needed(house: House) -> None:
    body = {"use_case": "rides", "predictions": house.predictions()}
    assert (await house.post(body, "")).status_code == 401
    assert (await house.post(body, "nf_wrong")).status_code == 401
    assert (await house.get("/v1/evaluations/" + "0" * 32, "")).status_code == 401


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"more": 1}, 400, "more"),
        ({"use_case": "../data"}, 400, "use_case"),
        ({"use_case": "os:path"}, 400, "use_case"),
        ({"use_case": "unknown"}, 404, None),
        ({"test_set": "august"}, 404, None),
        ({"test_set": "../july"}, 400, "test_set"),
        ({"test_set": 3}, 400, "test_set"),
        ({"version": -1}, 400, "version"),
        ({"version": True}, 400, "version"),
        ({"predictions": None}, 400, "predictions"),
        ({"predictions": []}, 400, "predictions"),
        ({"predictions": [1]}, 400, "predictions[0]"),
        ({"predictions": [{"key": "r0"}]}, 400, "predictions[0]"),
        ({"predictions": [{"key": 1, "prediction": 1}]}, 400, "predictions[0].key"),
        ({"predictions": [{"key": "x", "prediction": 1}]}, 400, "predictions[0].key"),
        ({"predictions": [{"key": "r0", "prediction": 1}] * 2}, 400, "predictions[1].key"),
        ({"predictions": [{"key": "r0", "prediction": "1"}]}, 400, "predictions[0].prediction"),
        ({"predictions": [{"key": "r0", "prediction": None}]}, 400, "predictions[0].prediction"),
    ],
)
async def test_bad_input_is_refused_and_its_field_named(house: House, change, status: int, field: str | None) -> None:
    response = await house.post({"use_case": "rides", "predictions": house.predictions(), **change})
    assert response.status_code == status, response.text
    assert response.json().get("field") == field


async def test_a_body_that_is_no_json_or_too_long_is_refused(house: House) -> None:
    assert (await house.post(b"{")).status_code == 400
    assert (await house.post(b'{"predictions": [{"key": "r0", "prediction": NaN}]}')).status_code == 400
    assert (await house.post(b"[]")).json()["field"] == "body"
    assert (await house.post(b" " * (settings().serving.max_body_bytes + 1))).status_code == 413


async def test_a_sure_guess_at_one_class_tells_nothing_of_it(samples, tmp_path) -> None:
    """All rows alike but one: whatever that one's class is, the answer is the same, and so for several rows."""
    random = np.random.default_rng(0)
    rows = 400
    truth = (random.random(rows) < 0.4).astype(float)
    keys = [f"c{i}" for i in range(rows)]
    frame = pl.DataFrame(
        {
            "key": keys, "decided_at": pl.Series([None] * rows, dtype=pl.Datetime("us", "UTC")),
            "block": keys, "truth": truth, "baseline": np.full(rows, 0.4), "weight": np.ones(rows),
            "request.customer": keys, "request.senior": random.random(rows) < 0.5,
            "input.tenure": random.normal(size=rows),
        }
    )  # fmt: skip
    house = House(samples, tmp_path)
    write_dataset(str(tmp_path / "c.parquet"), frame, samples.card(samples.CHURN, "evaluator_samples:CHURN"))
    register_test_set(settings(), "churners", "once", str(tmp_path / "c.parquet"))

    async def guess(row: int, chance: float, test_set: str = "once") -> httpx.Response:
        predictions = [{"key": k, "prediction": chance if i == row else 0.4} for i, k in enumerate(keys)]
        return await house.post({"use_case": "churners", "test_set": test_set, "predictions": predictions})

    assert (await guess(0, 1.5)).json()["field"] == "predictions[0].prediction"
    # The same guesses where that one truth is the other class: the coin falls alike, and the answers are alike.
    same = 0
    for row in range(20):
        told = (await guess(row, 1.0)).json()["metrics"]
        other = frame.with_columns(truth=pl.when(pl.int_range(pl.len()) == row).then(1 - truth[row]).otherwise("truth"))
        write_dataset(str(tmp_path / "o.parquet"), other, samples.card(samples.CHURN, "evaluator_samples:CHURN"))
        register_test_set(settings(), "churners", f"other{row}", str(tmp_path / "o.parquet"))
        same += (await guess(row, 1.0, f"other{row}")).json()["metrics"]["auc"] == told["auc"]
    assert same >= 15


async def test_the_service_says_what_it_is(house: House) -> None:
    assert (await house.get("/healthz")).status_code == 200
    assert (await house.get("/readyz")).status_code == 200
    document = (await house.get("/openapi.json")).json()
    assert set(document["paths"]) == {"/v1/evaluations", "/v1/evaluations/{evaluation_id}"}
