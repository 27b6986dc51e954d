"""Requests of one moment, over HTTP: together in the model's eyes, and each for itself in its client's."""

import asyncio

import httpx
import pytest
from parcel_house import INSTANCE, body, running, shared_house

from serving.front_end.asking import Caller, header_lines

PREDICT = "/v1/models/parcels:predict"


@pytest.fixture(scope="module")
def up(shared_model, tmp_path_factory):
    with shared_house(tmp_path_factory.mktemp("together")) as house:
        house.route(shared_model.url)
        with running(house) as up:
            yield up


async def at_once(up, *requests):
    """Asks on as many connections as there are requests, all of them open before the first is used."""
    async with httpx.AsyncClient(base_url=up.url, headers=up.client.headers, timeout=10) as client:
        await asyncio.gather(*(client.get("/healthz") for _ in requests))
        return await asyncio.gather(
            *(client.post(PREDICT, content=body(*rows), headers=headers) for rows, headers in requests)
        )


async def test_many_requests_are_few_calls_and_each_has_its_own_answer(up, model):
    before = up.metric("ninefold_front_end_model_calls_total")
    requests = [([{**INSTANCE, "distance": float(n)}] * (1 + n % 3), {"X-Request-ID": f"r{n}"}) for n in range(20, 50)]
    # What shares a call is what comes while one is under way, and on a busy machine a client may be slower than that.
    for _ in range(5):
        responses = await at_once(up, *requests)
        for n, response in zip(range(20, 50), responses, strict=True):
            assert [p["prediction"] for p in response.json()["predictions"]] == [100 + n + 30 + 7] * (1 + n % 3)
            assert response.headers["x-request-id"] == f"r{n}"
    assert up.metric("ninefold_front_end_model_calls_total") - before < 150


async def test_a_row_that_breaks_the_call_breaks_no_other_request(up, model):
    for _ in range(3):
        requests = [([{**INSTANCE, "distance": 13.0 if n == 5 else 20.0}], {}) for n in range(16)]
        answers = [response.json()["predictions"][0] for response in await at_once(up, *requests)]
        assert [answer["fallback"] for answer in answers] == ["model_error" if n == 5 else None for n in range(16)]


async def test_a_wrong_request_leaves_the_others_alone(up, model):
    requests = [([{**INSTANCE, "distance": "far" if n == 2 else 20.0}], {}) for n in range(8)]
    assert [r.status_code for r in await at_once(up, *requests)] == [400 if n == 2 else 200 for n in range(8)]


async def test_a_request_that_is_followed_has_a_call_of_its_own(up, model):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    before = up.metric("ninefold_front_end_model_calls_total")
    responses = await at_once(up, *[([INSTANCE], {"traceparent": trace}) for _ in range(6)])
    assert {response.json()["predictions"][0]["prediction"] for response in responses} == {157}
    assert up.metric("ninefold_front_end_model_calls_total") - before == 6


def test_what_goes_through_is_the_ids_of_all_and_the_trace_of_one():
    first = Caller(name="a", request_id="r1", trace=b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-00")
    second = Caller(name="a", request_id="r2")
    assert header_lines([first, second, Caller(name="a")]) == b"x-request-id: r1,r2\r\n"
    assert header_lines([first]) == b"x-request-id: r1\r\ntraceparent: %b\r\n" % first.trace
    assert header_lines([Caller(name="a")]) == b""
    assert not first.followed
    assert Caller(name="a", trace=first.trace[:-1] + b"1").followed
    assert Caller(name="a", trace=b"of another form").followed
