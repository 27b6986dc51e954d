"""A real Envoy before real servers: who is routed where, and what is kept out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gateway_house import MAX_BODY, PREDICT, TIMEOUT, Running, Seen, converse, load, running, table, tiny_model

CHI2_AT_1E_4 = 15.14
"""Of one degree of freedom."""


async def test_direct_clients_are_split_by_weight_and_told_the_version(up: Running, models: dict[int, str]) -> None:
    assert up.gateway.publish(table(models, revision=2, weights={1: 90, 2: 10}))
    seen = Seen()
    await asyncio.gather(*(converse(up.client, seen, 500) for _ in range(8)))
    assert seen.failed == {}
    assert seen.by["v1"] + seen.by["v2"] == 4000
    assert sum((seen.by[name] - share) ** 2 / share for name, share in (("v1", 3600), ("v2", 400))) < CHI2_AT_1E_4
    assert seen.versions == {"1": seen.by["v1"], "2": seen.by["v2"]}
    shares = {share.version: share for share in up.gateway.shares()}
    assert {version: share.configured for version, share in shares.items()} == {1: 0.9, 2: 0.1}
    assert {version: share.requests for version, share in shares.items()} == {1: seen.by["v1"], 2: seen.by["v2"]}
    assert shares[2].observed == pytest.approx(seen.by["v2"] / 4000)

    assert up.gateway.publish(table(models, revision=3))
    assert [(share.version, share.configured, share.observed) for share in up.gateway.shares()] == [(1, 1.0, None)]


async def test_a_client_can_not_choose_its_version_nor_pass_for_the_front_end(
    up: Running, models: dict[int, str]
) -> None:
    assert up.gateway.publish(table(models))
    seen = Seen()
    forged = {
        "x-ninefold-cohort": "candidate", "X-Ninefold-Version": "2", "x-ninefold-inner": up.gateway.inner.secret,
        "x-envoy-max-retries": "9", "x-request-id": "mine",
    }  # fmt: skip
    await converse(up.client, seen, 20, headers=forged)
    assert seen.by == {"v1": 20}
    got = seen.last["headers"]
    assert not [name for name in got if name.startswith("x-ninefold")]
    assert "x-envoy-internal" not in got, "else its x-envoy-* headers would be obeyed"
    assert got["x-request-id"] == "mine"


def test_the_inner_listener_goes_by_the_version_exactly(up: Running, models: dict[int, str]) -> None:
    assert up.gateway.publish(table(models, weights={1: 1}, candidate=2))
    for version in models:
        answer = up.inner(x_ninefold_version=str(version), x_ninefold_cohort="candidate", x_request_id="a,b")
        assert (answer.status_code, answer.json()["by"], answer.json()["path"]) == (200, f"v{version}", PREDICT)
        got = answer.json()["headers"]
        assert (got["x-ninefold-cohort"], got["x-request-id"]) == ("candidate", "a,b")
        assert "x-ninefold-inner" not in got
    for wrong in ({}, {"x_ninefold_version": "3"}, {"x_ninefold_version": "11"}, {"x_ninefold_version": "01"}):
        assert up.inner(**wrong, x_ninefold_cohort="candidate").status_code == 404
    assert up.inner("/v1/models/churn:predict", x_ninefold_version="1").status_code == 404


@pytest.mark.parametrize("secret", [None, "", "wrong"])
@pytest.mark.parametrize("path", [PREDICT, "/stats", "/drain_listeners", "/"])
def test_the_inner_listener_admits_only_who_knows_its_secret(up: Running, secret: str | None, path: str) -> None:
    headers = {"x-ninefold-version": "1"} | ({} if secret is None else {"x-ninefold-inner": secret})
    answer = httpx.post(f"{up.gateway.inner.url}{path}", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/json")
    assert "error" in answer.json()


def test_a_version_that_left_the_table_answers_the_front_end_for_as_long_as_it_runs(
    up: Running, models: dict[int, str]
) -> None:
    assert up.gateway.publish(table(models))
    left = table({0: models[0], 2: models[2]}, live=2, revision=5)
    assert up.gateway.publish(left, also={1: table(models).variants[1]})
    assert up.inner(x_ninefold_version="1").json()["by"] == "v1"
    assert httpx.post(f"{up.client}{PREDICT}", json={}).json()["by"] == "v2"
    assert up.gateway.publish(left)
    assert up.inner(x_ninefold_version="1").status_code == 404
    assert up.inner(x_ninefold_version="2").json()["by"] == "v2"


def test_what_is_not_a_models_path_is_not_there(up: Running, models: dict[int, str]) -> None:
    assert up.gateway.publish(table(models))
    for path in ("/", "/v1/models", "/v1/models/churn:predict", "/v2/repository/index", "/stats", "/quitquitquit"):
        answer = httpx.post(f"{up.client}{path}")
        assert (answer.status_code, "error" in answer.json()) == (404, True)
    for path in (PREDICT, "/v1/models/arrivals", "/v2/models/arrivals/infer", "/v2/models/arrivals"):
        assert httpx.post(f"{up.client}{path}").json()["path"] == path
    assert "envoy_cluster_upstream_rq_completed" in httpx.get(f"{up.client}/metrics").text
    assert httpx.get(f"{up.client}/healthz").json() == {"status": "alive"}


def test_a_body_over_its_bound_is_refused(up: Running, models: dict[int, str]) -> None:
    assert up.gateway.publish(table(models))
    assert httpx.post(f"{up.client}{PREDICT}", content=b"x" * MAX_BODY).status_code == 200
    answer = httpx.post(f"{up.client}{PREDICT}", content=b"x" * (MAX_BODY + 1))
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/json")
    assert "error" in answer.json()


def test_before_the_first_release_direct_clients_are_told_so(up: Running, models: dict[int, str]) -> None:
    assert up.gateway.publish(table({}, live=None))
    answer = httpx.post(f"{up.client}{PREDICT}", json={})
    assert (answer.status_code, answer.json()) == (503, {"error": "No version of arrivals is live."})
    assert httpx.get(f"{up.client}/readyz").status_code == 200


async def test_a_hundred_changes_of_weights_under_load_fail_no_request(up: Running, models: dict[int, str]) -> None:
    assert up.gateway.publish(table(models))
    async with load(up.client, connections=8, pause=0.005) as seen:
        for change in range(100):
            weights = {1: 100 - change, 2: change + 1}
            assert await asyncio.to_thread(up.gateway.publish, table(models, revision=change, weights=weights))
        await asyncio.sleep(0.05)
    assert seen.failed == {}
    assert seen.statuses[200] > 500
    assert set(seen.by) == {"v1", "v2"}
    assert {share.version: share.configured for share in up.gateway.shares()} == {1: 1 / 101, 2: 100 / 101}


async def test_promotions_under_load_fail_no_request(up: Running, models: dict[int, str]) -> None:
    tables = [table({0: models[0], live: models[live]}, live=live, revision=live) for live in (1, 2)]
    assert up.gateway.publish(tables[0])
    async with load(up.client, connections=8, pause=0.002) as seen:
        for turn in range(1, 21):
            assert await asyncio.to_thread(up.gateway.publish, tables[turn % 2])
    assert seen.failed == {}
    assert set(seen.by) == {"v1", "v2"}


@pytest.mark.parametrize("killed", [1, 2])
async def test_a_version_killed_under_load_fails_no_request(
    models: dict[int, str], tmp_path: Path, killed: int
) -> None:
    with tiny_model(f"v{killed}") as (url, process):
        urls = {**models, killed: url}
        with running(tmp_path, table(urls, candidate=2, weights={1: 50, 2: 50})) as up:
            async with load(up.client, connections=8, pause=0.004) as seen:
                await asyncio.sleep(0.3)
                before = dict(seen.by)
                process.kill()
                await asyncio.sleep(1.2)
            chosen = sum(share.requests for share in up.gateway.shares())
    assert set(before) == {"v1", "v2"}
    assert (seen.failed, chosen) == ({}, seen.statuses[200])
    # The candidate's place is taken by the live version; nothing takes the live one's but the baseline.
    assert set(seen.by) == ({"v1", "v2"} if killed == 2 else {"v0", "v1", "v2"})
    assert seen.versions == {name.removeprefix("v"): count for name, count in seen.by.items()}


@pytest.mark.parametrize("fault", ["error", "slow"])
async def test_a_candidate_that_fails_or_hangs_costs_direct_clients_no_answer(
    models: dict[int, str], tmp_path: Path, fault: str
) -> None:
    with tiny_model("v2", fault) as (url, _), running(tmp_path, table({**models, 2: url}, weights={2: 1})) as up:
        seen = Seen()
        await asyncio.gather(*(converse(up.client, seen, 5) for _ in range(8)))
        assert (seen.failed, dict(seen.by)) == ({}, {"v1": 40})
        assert [(share.version, share.requests) for share in up.gateway.shares()] == [(2, 40)]
        started = time.monotonic()
        await converse(up.client, seen, 10)
        assert time.monotonic() - started < TIMEOUT, "one that was put aside is not waited for every time"
        assert up.inner(x_ninefold_version="2").status_code == (500 if fault == "error" else 504)


@pytest.fixture
def limited(models: dict[int, str], tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path, table(models), per_second=20) as started:
        yield started


async def test_a_key_that_asks_too_much_is_held_back_alone(limited: Running) -> None:
    greedy, bearer, modest = Seen(), Seen(), Seen()
    started = time.monotonic()
    await converse(limited.client, greedy, 200, headers={"X-ApiKey": "nf_greedy"})
    took = time.monotonic() - started
    await converse(limited.client, bearer, 200, headers={"Authorization": "Bearer nf_greedy"})
    await converse(limited.client, modest, 10, headers={"X-ApiKey": "nf_modest"})
    assert set(greedy.statuses) == set(bearer.statuses) == {200, 429}
    assert 20 <= greedy.statuses[200] <= 20 + 20 * took + 1
    assert modest.failed == {}
    # At once: a busy machine that asks one after the other asks too slowly to be refused.
    async with httpx.AsyncClient(base_url=limited.client, headers={"X-ApiKey": "nf_modest"}, timeout=30) as client:
        answers = await asyncio.gather(*(client.post(PREDICT) for _ in range(200)))
    refused = next((answer for answer in answers if answer.status_code == 429), None)
    assert refused is not None
    assert (refused.headers["retry-after"], "error" in refused.json()) == ("1", True)
