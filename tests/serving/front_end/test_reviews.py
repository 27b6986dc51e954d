"""A text is asked: the front end and a real model server with a real package, over HTTP."""

import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from review_house import ReviewHouse, review_house

from ninefold.fields import MAX_TEXT_LENGTH
from ninefold.store import open_store

PRAISE = "I love this series of teas. They are the best I have found, and the price is great!"
BLAME = "Awful. It arrived stale, tastes bad and I will not buy it again: what a waste of money."


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, reviews_package: Any) -> Iterator[ReviewHouse]:
    package = (reviews_package.digest, reviews_package.folder)
    with review_house(tmp_path_factory.mktemp("reviews"), package) as running:
        yield running


def kept(house: ReviewHouse, prediction_id: str, seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    with open_store(house.settings.store_url) as store:
        while (found := store.prediction(prediction_id)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return found


def test_a_text_alone_is_answered_with_a_class_and_a_probability(house: ReviewHouse) -> None:
    great, other = house.answer("predict", PRAISE, BLAME)["predictions"]
    assert great["decision"] == {"class": "great"}
    assert other["decision"] == {"class": "other"}
    assert 0.0 < other["prediction"] < 0.3 < 0.7 < great["prediction"] < 1.0
    assert (great["version"], great["fallback"], great["flags"]) == (1, None, [])


def test_what_is_kept_is_joined_by_the_texts_digest_and_equal_texts_share_it(house: ReviewHouse) -> None:
    first, again, other = house.answer("predict", PRAISE, PRAISE, PRAISE + " ")["predictions"]
    assert first["prediction_id"] != again["prediction_id"]
    found = [kept(house, answer["prediction_id"]) for answer in (first, again, other)]
    key = hashlib.sha256(PRAISE.encode()).hexdigest()[:32]
    assert [prediction.key == key for prediction in found] == [True, True, False]
    assert found[0].request == {"input": PRAISE, "review_id": key}


def test_an_id_that_is_sent_is_the_key(house: ReviewHouse) -> None:
    (answer,) = house.ask("predict", {"input": PRAISE, "review_id": "r|1"}).json()["predictions"]
    assert kept(house, answer["prediction_id"]).key == "r\\|1"


@pytest.mark.parametrize("text", ["", " \n ", "Отличный чай, очень вкусный", "这个茶真好喝", "🙂🙂", "!!! ... ?"])
def test_a_text_without_a_known_word_is_answered_by_the_base_rate_and_flagged(house: ReviewHouse, text: str) -> None:
    document = house.answer("explain", text)
    for answer in (house.answer("predict", text)["predictions"][0], document["predictions"][0]):
        assert answer["prediction"] == pytest.approx(0.6457, abs=1e-4)
        assert (answer["version"], answer["fallback"], answer["flags"]) == (0, "unseen_category", ["unseen:input"])
    assert document["explanations"][0]["sentence"] == "No training text holds any of its words."


def test_a_word_that_is_known_is_enough_whatever_stands_beside_it(house: ReviewHouse) -> None:
    mixed = house.answer("predict", "Отличный чай 🙂 delicious", "delicious")["predictions"]
    assert [answer["flags"] for answer in mixed] == [[], []]
    assert mixed[0]["prediction"] == pytest.approx(mixed[1]["prediction"], abs=1e-5)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (json.dumps({"input": "tea " * 250_000}), "instances[0].input: is 1,000,000 characters long"),
        (json.dumps({"input": "茶" * (MAX_TEXT_LENGTH + 1)}), "instances[0].input: is 100,001 characters long"),
        ('{"input": "tea \\ud83d"}', "instances[0].input: holds half of a surrogate pair"),
        ('{"input": "tea\\u0000"}', "instances[0].input: holds the character NUL"),
        ('{"input": 5}', "instances[0].input: 5 is not a string"),
        ('{"input": ["tea"]}', "instances[0].input: ['tea'] is not a string"),
        ('{"input": null}', "instances[0].input: is missing"),
        ('{"review_id": "r1"}', "instances[0].input: is missing"),
        ('{"text": "tea"}', "instances[0].text: is not a field of reviews"),
        ('{"input": "tea", "review_id": 7}', "instances[0].review_id: 7 is not a string"),
    ],
)
def test_what_is_no_text_is_refused_and_its_place_named(house: ReviewHouse, written: str, message: str) -> None:
    for verb in ("predict", "explain"):
        response = house.client.post(f"/v1/models/reviews:{verb}", content=f'{{"instances": [{written}]}}')
        assert response.status_code == 400
        assert response.json()["error"].startswith(message)
        assert message.startswith(response.json()["field"])


@pytest.mark.parametrize("piece", ["not great, but 茶 🙂 ", "x", "🙂 "])
def test_the_longest_text_is_answered_and_explained(house: ReviewHouse, piece: str) -> None:
    text = ("love " + piece * MAX_TEXT_LENGTH)[:MAX_TEXT_LENGTH]
    explained = house.answer("explain", text)
    assert [house.answer("predict", text)["predictions"][0]["fallback"], explained["predictions"][0]["fallback"]] == [
        None,
        None,
    ]


def test_an_explanation_names_the_words_that_moved_the_answer(house: ReviewHouse) -> None:
    document = house.answer("explain", PRAISE, BLAME)
    for answer, explanation, expected in zip(
        document["predictions"], document["explanations"], ({"love", "best", "great"}, {"not", "bad"}), strict=True
    ):
        (group,) = explanation["contributions"]
        assert (group["group"], group["words"]) == ("words", "the words of the review")
        amounts = {item["word"]: item["contribution"] for item in group["by_word"]}
        assert sorted(map(abs, amounts.values()), reverse=True) == [*map(abs, amounts.values())]
        # To the last digit that a float32 keeps, the words make up the answer.
        assert sum(amounts.values()) + group["other_words"] == pytest.approx(group["contribution"], abs=1e-9)
        assert explanation["reference"] + group["contribution"] == pytest.approx(answer["prediction"], abs=1e-6)
        up = answer["decision"]["class"] == "great"
        assert expected <= {word for word, amount in amounts.items() if (amount > 0) is up}
        assert expected & {*list(amounts)[:3]}
        assert explanation["sentence"].startswith("“")


def test_the_same_question_has_the_same_explanation(house: ReviewHouse) -> None:
    first, second = (house.answer("explain", PRAISE)["explanations"] for _ in range(2))
    assert first == second


def test_openapi_says_that_the_text_is_enough(house: ReviewHouse) -> None:
    schemas = house.client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["Instance"]["required"] == ["input"]
    assert "SHA-256 of input" in schemas["Instance"]["properties"]["review_id"]["description"]
    assert set(house.answer("explain", PRAISE)["explanations"][0]) <= set(schemas["Explanation"]["properties"])


def test_the_model_server_reads_texts_in_both_protocols_alike(house: ReviewHouse, reviews_package: Any) -> None:
    some = [text.replace("<br />", " ") for text in reviews_package.test["input"][:50]]
    # More of them than the graph takes at once.
    texts = [*some, "", "茶🙂"] * 6
    v1 = house.model.post("/v1/models/reviews:predict", json={"instances": [[text] for text in texts]}).json()
    assert v1["predictions"] == pytest.approx(v1["predictions"][: len(texts) // 6] * 6, abs=1e-6)
    v2 = house.model.post(
        "/v2/models/reviews/infer",
        json={"inputs": [{"name": "input", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]},
    )
    assert v2.json()["outputs"][0]["data"] == pytest.approx(v1["predictions"], abs=1e-6)
    asked = house.answer("predict", *some)["predictions"]
    assert [answer["prediction"] for answer in asked] == pytest.approx(v1["predictions"][:50], abs=1e-6)


@pytest.mark.parametrize("data", ["[5]", "[null]", '["\\ud800"]'])
def test_v2_refuses_what_is_no_text_and_names_the_input(house: ReviewHouse, data: str) -> None:
    answer = house.model.post(
        "/v2/models/reviews/infer",
        content=f'{{"inputs": [{{"name": "input", "datatype": "BYTES", "shape": [1], "data": {data}}}]}}',
    )
    assert answer.status_code == 400, answer.text


def test_without_its_model_server_the_lexicon_answers_and_is_explained(house: ReviewHouse) -> None:
    house.route("http://127.0.0.1:1")
    deadline = time.monotonic() + 10
    while house.client.get("/v1/models/reviews").json()["revision"] != house.revision:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    document = house.answer("explain", BLAME)
    assert document["predictions"][0]["fallback"] == "model_unreachable"
    amounts = {i["word"]: i["contribution"] for i in document["explanations"][0]["contributions"][0]["by_word"]}
    assert {word for word, amount in amounts.items() if amount} == {"not", "bad"}
    house.route(str(house.model.base_url))
