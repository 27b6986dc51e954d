"""The whole front end over HTTP: a real process, real online rows, a real store, a model server that can misbehave."""

import json
import time
from collections.abc import Iterator

import httpx
import pytest
from parcel_house import INSTANCE, House, Running, ToyModel, body, running, shared_house

from ninefold.clock import parse_instant
from ninefold.store import open_store

PREDICT = "/v1/models/parcels:predict"
GOOD = 100 + 20 + 10 * 3 + 7
BASELINE = 10 + 20 + 3


@pytest.fixture(scope="module")
def front_end(shared_model: ToyModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Running]]:
    """One front end for all tests that leave it as they found it."""
    with shared_house(tmp_path_factory.mktemp("shared")) as house:
        house.route(shared_model.url)
        with running(house, NINEFOLD_SERVING__MODEL_TIMEOUT_SECONDS="0.3", NINEFOLD_SERVING__MAX_INSTANCES="100") as up:
            yield house, up


@pytest.fixture
def up(front_end: tuple[House, Running], model: ToyModel) -> Running:
    return front_end[1]


def only(document):
    (prediction,) = document["predictions"]
    return prediction


def kept(house: House, prediction_id: str, seconds: float = 20.0):
    deadline = time.monotonic() + seconds
    store = open_store(house.settings.store_url)
    try:
        while (found := store.prediction(prediction_id)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return found
    finally:
        store.close()


def test_an_answer_says_what_was_predicted_by_whom_and_what_follows(up):
    answer = only(up.predict(INSTANCE))
    assert len(answer.pop("prediction_id")) == 32
    assert answer == {
        "prediction": GOOD,
        "decision": {"promise": "tomorrow", "zone": "north"},
        "version": 3,
        "cohort": "live",
        "fallback": None,
        "flags": [],
    }


def test_what_was_answered_is_in_the_store_with_all_that_it_rested_on(front_end, up):
    answer = only(up.predict(INSTANCE, x_request_id="order-17"))
    found = kept(front_end[0], answer["prediction_id"])
    assert found is not None
    assert (found.use_case, found.key, found.request_id) == ("parcels", "P1", "order-17#0")
    assert (found.value, found.version, found.cohort, found.fallback, found.flags) == (GOOD, 3, "live", None, ())
    assert found.decided_at == parse_instant(INSTANCE["ordered_at"])
    assert found.features == {
        "shop__minutes": 3.0, "shop__kind": "media", "zone_speed__mean": 4.0, "zone_speed__count": 12.0,
    }  # fmt: skip
    assert dict(found.request) == INSTANCE
    assert 0 < found.latency_ms < 1000


def test_a_retry_with_the_same_request_id_is_the_same_prediction(front_end, up):
    first = up.predict(INSTANCE, INSTANCE, {**INSTANCE, "parcel": "P2"}, x_request_id="again")["predictions"]
    second = up.predict(INSTANCE, INSTANCE, {**INSTANCE, "parcel": "P2"}, x_request_id="again")["predictions"]
    assert [p["prediction_id"] for p in first] == [p["prediction_id"] for p in second]
    assert len({p["prediction_id"] for p in first}) == 3
    assert only(up.predict(INSTANCE))["prediction_id"] != only(up.predict(INSTANCE))["prediction_id"]
    assert kept(front_end[0], second[2]["prediction_id"]).key == "P2"


def test_ids_go_through_to_the_model_server_and_back(up, model):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    response = up.client.post(PREDICT, content=body(INSTANCE), headers={"X-Request-ID": "r-1", "traceparent": trace})
    assert (response.headers["x-request-id"], response.headers["traceparent"]) == ("r-1", trace)
    headers, rows = model.mode("good")
    assert (headers["x-request-id"], headers["traceparent"], rows) == ("r-1", trace, 1)
    assert "authorization" not in headers


@pytest.mark.parametrize(
    "media", ["application/json; charset=utf-8", "application/x-www-form-urlencoded", "text/plain"]
)
def test_the_content_type_does_not_matter(up, media):
    response = up.client.post(PREDICT, content=body(INSTANCE), headers={"Content-Type": media})
    assert response.json()["predictions"][0]["prediction"] == GOOD


def test_a_bearer_key_is_as_good(up, front_end):
    headers = {"Authorization": f"Bearer {front_end[0].key}"}
    assert httpx.post(up.url + PREDICT, content=body(INSTANCE), headers=headers).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"X-ApiKey": "nf_wrong"}, {"Authorization": "Basic abc"}, {"X-ApiKey": ""}])
@pytest.mark.parametrize("path", [PREDICT, "/v1/models/parcels:explain", "/v1/features", "/v1/models"])
def test_without_a_good_key_nobody_is_told_anything(up, headers, path):
    method = "GET" if path == "/v1/models" else "POST"
    response = httpx.request(method, up.url + path, content=body(INSTANCE), headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert "error" in response.json()


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"colour": 1}, "instances[1].colour", "not a field of parcels"),
        ({"shop": None}, "instances[1].shop", "is missing"),
        ({"distance": "far"}, "instances[1].distance", "'far' is not a number"),
        ({"distance": True}, "instances[1].distance", "not a number"),
        ({"items": 1.5}, "instances[1].items", "not whole"),
        ({"express": "yes"}, "instances[1].express", "not a boolean"),
        ({"zone": "west"}, "instances[1].zone", "not one of its values"),
        ({"parcel": "7"}, "instances[1].parcel", "does not match"),
        ({"ordered_at": "noon"}, "instances[1].ordered_at", "not a time"),
        ({"ordered_at": 1}, "instances[1].ordered_at", "not a time"),
        ({"shop": "x" * 300}, "instances[1].shop", "300 characters"),
        ({"note": ["a"]}, "instances[1].note", "not a string"),
        ({"note": "a\0b"}, "instances[1].note", "NUL"),
        ({"shop": "a\0b"}, "instances[1].shop", "NUL"),
    ],
)
@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_a_wrong_field_is_named_with_its_place(up, changes, field, words, verb):
    response = up.client.post(f"/v1/models/parcels:{verb}", content=body(INSTANCE, {**INSTANCE, **changes}))
    assert response.status_code == 400
    assert response.json()["field"] == field
    assert words in response.json()["error"]


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"{", 400, "not JSON"),
        (b'{"instances": [{"distance": NaN}]}', 400, "instances[0].distance: is NaN or infinite"),
        (b'{"instances": [{"distance": Infinity}]}', 400, "instances[0].distance: is NaN or infinite"),
        (b'{"instances": [{"distance": 1e999}]}', 400, "instances[0].distance: is NaN or infinite"),
        (b'{"instances": []}', 400, "instances: is empty"),
        (b'{"instances": 3}', 400, "instances: is a JSON number"),
        (b"{}", 400, "instances: is missing"),
        (b'{"instances": [' + b",".join([b"{}"] * 100_000) + b"]}", 413, "100,000 are over the bound of 100"),
        (b" " * (50 * 2**20), 413, "over 10,485,760 bytes"),
    ],
    ids=["broken", "nan", "infinity", "beyond", "empty", "no list", "missing", "100,000", "50 MB"],
)
def test_a_wrong_body_has_its_code_and_the_front_end_goes_on(up, content, code, words):
    response = up.client.post(PREDICT, content=content)
    assert response.status_code == code
    assert words in response.json()["error"]
    assert only(up.predict(INSTANCE))["prediction"] == GOOD


def test_an_endless_body_is_given_up_at_the_bound(up):
    def chunks():
        for _ in range(30):
            yield b" " * 2**20

    assert up.client.post(PREDICT, content=chunks()).status_code == 413
    assert only(up.predict(INSTANCE))["prediction"] == GOOD


@pytest.mark.parametrize(
    ("method", "path", "code", "words"),
    [
        ("POST", "/v1/models/flights:predict", 404, "flights does not exist"),
        ("POST", "/v1/models/parcels:guess", 404, "parcels has no 'guess'"),
        ("GET", "/v1/models/flights", 404, "flights does not exist"),
        ("GET", "/nothing", 404, "nothing at /nothing"),
        ("GET", PREDICT, 405, "not allowed"),
        ("POST", "/v1/models", 405, "not allowed"),
    ],
)
def test_what_is_not_there_has_its_code(up, method, path, code, words):
    response = up.client.request(method, path, content=body(INSTANCE) if method == "POST" else None)
    assert response.status_code == code
    assert words in response.json()["error"]


def test_an_overlong_request_id_is_refused_by_name(up):
    response = up.client.post(PREDICT, content=body(INSTANCE), headers={"X-Request-ID": "x" * 129})
    assert (response.status_code, response.json()["field"]) == (400, "x-request-id")


def test_the_other_pages_answer(up):
    assert up.client.get("/v1/models").json() == {"models": ["parcels"]}
    described = up.client.get("/v1/models/parcels").json()
    assert (described["ready"], described["version"], described["problem"]) == (True, 3, None)
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert httpx.get(up.url + path).status_code == 200
    assert httpx.get(up.url + "/readyz").json() == {"status": "ready", "problem": None}


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("slow", "model_slow"),
        ("error", "model_error"),
        ("short", "model_error"),
        ("text", "model_error"),
        ("html", "model_error"),
    ],
)
def test_when_the_model_fails_the_baseline_answers_and_says_so(up, model, mode, reason):
    before = up.metric(f'ninefold_front_end_fallbacks_total{{cohort="live",reason="{reason}"')
    model.mode(mode)
    answer = only(up.predict(INSTANCE))
    assert (answer["prediction"], answer["version"], answer["fallback"]) == (BASELINE, 0, reason)
    after = up.metric(f'ninefold_front_end_fallbacks_total{{cohort="live",reason="{reason}"')
    assert after == before + 1


def test_only_the_row_without_a_number_falls_back(up, model):
    model.mode("second_null")
    answers = up.predict(INSTANCE, INSTANCE, INSTANCE)["predictions"]
    assert [a["fallback"] for a in answers] == [None, "model_error", None]
    assert [a["prediction"] for a in answers] == [GOOD, BASELINE, GOOD]


def test_in_a_mixed_batch_only_affected_rows_fall_back_and_only_the_others_are_asked(up, model):
    answers = up.predict(
        INSTANCE,
        {**INSTANCE, "distance": 101.0},
        {**INSTANCE, "shop": "nobody"},
        {**INSTANCE, "vehicle": "rocket"},
        {**INSTANCE, "shop": "dusty"},
        {**INSTANCE, "distance": 60.0, "zone": "south"},
    )["predictions"]
    assert [(a["fallback"], a["version"], a["flags"]) for a in answers] == [
        (None, 3, []),
        ("out_of_range", 0, ["out_of_range:distance", "range:distance"]),
        ("feature_missing", 0, ["missing:shop"]),
        ("unseen_category", 0, ["unseen:vehicle"]),
        ("feature_stale", 0, ["stale:shop"]),
        (None, 3, ["missing:zone_speed", "range:distance"]),
    ]
    assert [a["prediction"] for a in answers] == [GOOD, 114, 30, BASELINE, 30, 100 + 60 + 30 + 7]
    assert model.mode("good")[1] == 2


def test_a_prediction_out_of_bounds_is_clipped_and_flagged(up, model):
    model.mode("low")
    answer = only(up.predict(INSTANCE))
    assert (answer["prediction"], answer["flags"], answer["fallback"]) == (0.0, ["clipped"], None)


def test_explanations_sum_to_the_prediction_less_the_reference_in_one_call(up, model):
    response = up.client.post("/v1/models/parcels:explain", content=body(INSTANCE, {**INSTANCE, "express": False}))
    document = response.json()
    assert model.mode("good")[1] == 2 * 2**4
    first, second = document["explanations"]
    amounts = {c["group"]: c["contribution"] for c in first["contributions"]}
    # The toy is additive: distance 20 against 10, shop 3 against 2 minutes, express against not.
    assert amounts == pytest.approx({"way": 10, "shop": 10, "zone": 0, "express": 7})
    assert first["reference"] == pytest.approx(100 + 10 + 20)
    assert first["reference"] + sum(amounts.values()) == pytest.approx(document["predictions"][0]["prediction"])
    assert {c["group"]: c["words"] for c in second["contributions"]}["way"] == "the way to go"
    assert document["predictions"][0]["prediction_id"] is None
    assert document["predictions"][1]["prediction"] == GOOD - 7
    assert first["unit"] == "min"


def test_when_the_model_fails_the_baseline_is_explained(up, model):
    model.mode("error")
    document = up.client.post("/v1/models/parcels:explain", content=body(INSTANCE)).json()
    assert document["predictions"][0]["fallback"] == "model_error"
    amounts = {c["group"]: c["contribution"] for c in document["explanations"][0]["contributions"]}
    assert amounts == pytest.approx({"way": 10, "shop": 1, "zone": 0, "express": 0})


def test_too_many_to_explain_at_once_are_refused(up):
    response = up.client.post("/v1/models/parcels:explain", content=body(*[INSTANCE] * 7))
    assert response.status_code == 413
    assert "bound of 6" in response.json()["error"]


def test_features_are_read_by_id_with_their_ages_and_watermarks(up):
    asked = {"shop": "books", "zone": "south", "ordered_at": INSTANCE["ordered_at"]}
    document = up.client.post("/v1/features", content=body(asked, {"zone": "north"})).json()
    first, second = document["features"]
    assert first["values"]["shop__minutes"] == 3.0
    assert first["values"]["zone_speed__mean"] is None
    assert first["views"]["shop"] == {
        "key": "books", "state": "fresh", "known_at": "2026-03-01T06:00:00Z", "age_seconds": 21600.0,
        "features": ["shop__minutes", "shop__kind"],
    }  # fmt: skip
    assert first["views"]["zone_speed_1h"]["state"] == "missing"
    assert set(second["views"]) == {"zone_speed_1h"}
    assert second["values"] == {"zone_speed__mean": 4.0, "zone_speed__count": 12.0}
    assert document["watermarks"]["zone_speed_1h"] == "2026-03-01T12:00:00Z"
    response = up.client.post("/v1/features", content=body({"parcel": "P1"}))
    assert (response.status_code, response.json()["field"]) == (400, "instances[0]")


def test_the_openapi_document_names_every_path_field_and_reason(up):
    document = httpx.get(up.url + "/openapi.json").json()
    assert set(document["components"]["schemas"]["Instance"]["properties"]) == set(INSTANCE)
    text = json.dumps(document)
    for name in ("/v1/models/parcels:predict", "/v1/models/parcels:explain", "/v1/features", "no_model", "model_slow"):
        assert name in text
