"""Truths: every one is kept, the newest known counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ninefold.clock import format_instant
from ninefold.fields import digest
from ninefold.loading import load_use_case
from ninefold.records import Prediction

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)


def truth(value: Any = 20.0, ride: Any = 1, **more: Any) -> dict[str, Any]:
    return {"key": {"ride": ride, "city": "Rome"}, "value": value, **more}


def known(minutes: int) -> dict[str, str]:
    return {"known_at": format_instant(NOON + timedelta(minutes=minutes))}


def prediction(prediction_id: str = "p1", ride: int = 1) -> Prediction:
    return Prediction(
        prediction_id=prediction_id,
        use_case="rides",
        request_id=None,
        key=f"{ride}|Rome",
        decided_at=NOON,
        received_at=NOON,
        version=0,
        cohort="live",
        request={"ride": ride, "city": "Rome"},
        features={},
        value=15.0,
    )


def values(running: Any, key: str = "1|Rome") -> list[float]:
    return [t.value for t in running.store.truth_history("rides", key)]


async def test_a_truth_joins_its_prediction_and_one_without_is_kept_and_counted(collector: Any) -> None:
    async with collector(clock="event") as running:
        running.store.write_predictions([prediction()])
        body = {"truths": [truth(**known(5)), truth(ride=2, **known(5))]}
        answer = await running.post("/v1/truths", body)
        assert (answer["accepted"], answer["new"], answer["unmatched"]) == (2, 2, 1)
        (joined,) = running.store.joined("rides")
        assert joined.truth.value == 20.0
        running.store.write_predictions([prediction("p2", ride=2)])
        assert [j.truth.value for j in running.store.joined("rides")] == [20.0, 20.0]


async def test_late_repeated_corrected_and_out_of_order_truths_end_in_the_newest_known(collector: Any) -> None:
    async with collector(clock="event") as running:
        for value, minutes in ((30, 3), (10, 1), (20, 2), (10, 1)):
            await running.post("/v1/truths", truth(value, **known(minutes)))
        assert values(running) == [30.0, 20.0, 10.0]
        answer = await running.post("/v1/truths", truth(30, **known(3)))
        assert (answer["new"], answer["repeated"], answer["conflicting"]) == (0, 1, 0)


async def test_without_times_the_order_of_arrival_decides_also_back_to_an_old_value(collector: Any) -> None:
    async with collector(clock="wall") as running:
        body = {"truths": [truth(10), truth(20), truth(20), truth(10)]}
        answer = await running.post("/v1/truths", body)
        assert (answer["new"], answer["repeated"]) == (3, 1)
        assert values(running) == [10.0, 20.0, 10.0]
        answer = await running.post("/v1/truths", truth(10))
        assert (answer["new"], answer["repeated"]) == (0, 1)
        await running.post("/v1/truths", truth(20))
        await running.post("/v1/truths", truth(10))
        assert values(running) == [10.0, 20.0, 10.0, 20.0, 10.0]


async def test_an_id_makes_a_retry_harmless_and_a_contradiction_visible(collector: Any) -> None:
    async with collector(clock="wall") as running:
        await running.post("/v1/truths", truth(10, id="t1"))
        answer = await running.post("/v1/truths", truth(10, id="t1"))
        assert (answer["new"], answer["repeated"], answer["conflicting"]) == (0, 1, 0)
        answer = await running.post("/v1/truths", truth(11, id="t1"))
        assert (answer["new"], answer["repeated"], answer["conflicting"]) == (0, 1, 1)
        assert values(running) == [10.0]
        assert [c.record_id for c in running.store.conflicts()] == ["t1"]


async def test_an_empty_batch_is_no_error(collector: Any) -> None:
    async with collector() as running:
        for kind in ("truths", "events", "feedback"):
            answer = await running.post(f"/v1/{kind}", {kind: []})
            assert answer["accepted"] == 0


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"value": None}, "value"),
    ({"value": "20"}, "value"),
    ({"value": True}, "value"),
    ({"value": -1}, "value"),
    ({"value": 601}, "value"),
    ({"key": None}, "key"),
    ({"key": "1|Rome"}, "key"),
    ({"key": {"ride": 1}}, "key.city"),
    ({"key": {"ride": 1.5, "city": "Rome"}}, "key.ride"),
    ({"key": {"ride": 1, "city": "Rome", "day": 1}}, "key.day"),
    ({"known_at": None}, "known_at"),
    ({"known_at": "yesterday"}, "known_at"),
    ({"known_at": "2" * 100_000}, "known_at"),
    ({"source": "rumour"}, "source"),
    ({"note": "x" * 20_000}, "note"),
    ({"annotator": 3}, "annotator"),
    ({"sure": True}, "sure"),
]


async def test_what_is_wrong_is_named_and_nothing_of_the_batch_is_kept(collector: Any) -> None:
    async with collector(clock="event") as running:
        for change, field in WRONG:
            body = {"truths": [truth(**known(1)), {**truth(**known(1)), **change}]}
            answer = await running.post("/v1/truths", body, status=400)
            assert answer["field"] == f"truths[1].{field}"
            assert len(answer["error"]) < 300
        answer = await running.post("/v1/truths", {"truths": [truth("x", **known(1))] * 50}, status=400)
        assert (answer["wrong"], len(answer["errors"])) == (50, 20)
        assert answer["errors"][7]["field"] == "truths[7].value"
        assert running.store.counts()["truths"] == 0


async def test_a_truth_may_come_with_the_text_that_its_key_is_the_digest_of(collector: Any) -> None:
    reviews = load_use_case("reviews")
    async with collector(use_case=reviews) as running:
        items = [
            {"key": {"input": "Great tea!"}, "value": 1},
            {"key": {"review_id": digest("Great tea!")}, "value": 0},
            {"key": {"review_id": "r1", "input": "Great tea!"}, "value": 1},
        ]
        assert (await running.post("/v1/truths", {"truths": items}))["new"] == 3
        assert [len(running.store.truth_history("reviews", key)) for key in (digest("Great tea!"), "r1")] == [2, 1]
        # A class that is none of the declared ones.
        answer = await running.post("/v1/truths", {"key": {"review_id": "r1"}, "value": 2}, status=400)
        assert answer["error"].startswith("value: 2 is no class")
        for wrong, field in (({}, "key.review_id"), ({"input": 5}, "key.input"), ({"text": "tea"}, "key.text")):
            answer = await running.post("/v1/truths", {"key": wrong, "value": 1}, status=400)
            assert answer["error"].startswith(field)
        key = (await running.http.get("/openapi.json")).json()["components"]["schemas"]["Truth"]["properties"]["key"]
        assert (set(key["properties"]), key["required"]) == ({"review_id", "input"}, [])
