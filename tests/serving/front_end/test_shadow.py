"""A candidate asked behind the live answer, over HTTP: what is kept of it, and that nobody has to know."""

import asyncio
import signal
import time
from collections import Counter
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta

import httpx
import parcels
import pytest
from parcel_house import INSTANCE, NOON, House, body, load, manifest, running, shared_house, toy_model

from ninefold.errors import StoreError
from ninefold.features import FeatureView
from ninefold.online import OnlineRow
from ninefold.settings import settings
from ninefold.signature import InputStatistics
from ninefold.store import open_store
from ninefold.store.journal import Journal
from serving.front_end.app import FrontEnd
from serving.front_end.assembly import assemble
from serving.front_end.feature_reader import FeatureReader
from serving.front_end.shadow import MAX_CALLS, MAX_WAITING, ROWS_A_CALL

PREDICT = "/v1/models/parcels:predict"
GOOD = 100 + 20 + 10 * 3 + 7
FAR = GOOD + 200
BASELINE = 10 + 20 + 3


@pytest.fixture(scope="module")
def standing(shared_model, tmp_path_factory):
    """A front end with a rollout in shadow, whose candidate answers 200 more; models may take a second."""
    with ExitStack() as stack:
        house = stack.enter_context(shared_house(tmp_path_factory.mktemp("shadow")))
        candidate = stack.enter_context(toy_model())
        house.route(shared_model.url)
        up = stack.enter_context(running(house, NINEFOLD_SERVING__MODEL_TIMEOUT_SECONDS="1"))
        yield house, up, candidate


@pytest.fixture
def rollout(request):
    """Id of a rollout of this test's own; ids are no longer than this."""
    return request.node.name[-64:]


@pytest.fixture
def trial(standing, model, rollout):
    """The same, in that rollout."""
    house, up, candidate = standing
    candidate.mode("far")
    house.roll_out(model.url, candidate.url, shadow=True, rollout=rollout)
    assert up.adopts(house)["ready"]
    return standing


def only(document):
    (prediction,) = document["predictions"]
    return prediction


def eventually(check, seconds: float = 20.0):
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.03)
    return found


def records(house: House, rollout: str, count: int) -> dict[str, dict[str, object]]:
    """Request id → cohort → what the store keeps of it, once there are so many records of a rollout."""
    store = open_store(house.settings.store_url)
    try:
        found = eventually(
            lambda: len(of := [p for p in store.predictions("parcels") if p.rollout_id == rollout]) >= count and of
        )
    finally:
        store.close()
    assert len(found) == count
    by_request: dict[str, dict[str, object]] = {}
    for prediction in found:
        assert prediction.cohort not in by_request.setdefault(prediction.request_id, {})
        by_request[prediction.request_id][prediction.cohort] = prediction
    return by_request


@pytest.mark.parametrize("headers", [{}, {"x_request_id": "order-9"}])
def test_both_answers_are_kept_under_one_request_id(trial, rollout, headers):
    house, up, _ = trial
    answers = up.predict(INSTANCE, {**INSTANCE, "parcel": "P2", "distance": 30.0}, wait="shadow", **headers)
    assert [(a["cohort"], a["version"], a["prediction"]) for a in answers["predictions"]] == [
        ("live", 3, GOOD), ("live", 3, GOOD + 10),
    ]  # fmt: skip
    pairs = records(house, rollout, 4)
    assert len(pairs) == 2
    for place, answer in enumerate(answers["predictions"]):
        (pair,) = [pair for pair in pairs.values() if pair["live"].prediction_id == answer["prediction_id"]]
        live, shadow = pair["live"], pair["shadow"]
        assert live.request_id == shadow.request_id
        assert live.request_id.endswith(f"#{place}")
        assert not headers or live.request_id == f"order-9#{place}"
        assert (shadow.version, shadow.value, shadow.fallback) == (4, FAR + 10 * place, None)
        for name in ("key", "decided_at", "received_at", "request", "features", "flags", "rollout_revision"):
            assert getattr(shadow, name) == getattr(live, name)
        assert shadow.prediction_id != live.prediction_id
        assert 0 < shadow.latency_ms < 10_000
    described = up.described()["rollout"]
    assert described["observed"] == {"live": 2, "candidate": 0}
    assert described["shadowed"] == {"answered": 2, "failed": 0, "dropped": 0, "waiting": 0}


def test_without_waiting_the_candidate_is_asked_behind_the_answer(trial, rollout):
    house, up, candidate = trial
    candidate.mode("slow")
    for number in range(5):
        assert only(up.predict({**INSTANCE, "parcel": f"P{number}"}))["prediction"] == GOOD
    assert up.described()["rollout"]["shadowed"]["answered"] < 5
    candidate.mode("far")
    assert len(records(house, rollout, 10)) == 5


def test_a_retried_request_is_shadowed_as_the_same_prediction(trial, rollout):
    house, up, _ = trial
    for _ in range(3):
        up.predict(INSTANCE, wait="shadow", x_request_id="again")
    assert up.described()["rollout"]["shadowed"]["answered"] == 3
    (pair,) = records(house, rollout, 2).values()
    assert set(pair) == {"live", "shadow"}


@pytest.mark.parametrize("way", ["plain", "chunked", "more in the query"])
def test_who_waits_is_answered_when_the_shadow_is_kept(trial, way):
    _, up, candidate = trial
    candidate.mode("slow")
    content = body(*[INSTANCE] * 20)
    url = f"{PREDICT}?wait=shadow"
    if way == "more in the query":
        url += "&from=replay"
    response = up.client.post(url, content=iter([content]) if way == "chunked" else content)
    assert response.status_code == 200
    shadowed = up.described()["rollout"]["shadowed"]
    assert (shadowed["answered"] + shadowed["failed"], shadowed["waiting"]) == (20, 0)


def test_only_the_shadow_can_be_waited_for(trial):
    _, up, _ = trial
    response = up.client.post(f"{PREDICT}?wait=windows", content=body(INSTANCE))
    assert (response.status_code, response.json()["field"]) == (400, "wait")
    assert up.client.post(f"{PREDICT}?trace=1", content=body(INSTANCE)).status_code == 200


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("hang", "model_slow"),
        ("error", "model_error"),
        ("null", "model_error"),
        ("short", "model_error"),
        ("html", "model_error"),
        ("text", "model_error"),
    ],
)
def test_a_candidate_that_fails_is_kept_as_its_users_would_have_got_it(trial, rollout, mode, reason):
    house, up, candidate = trial
    candidate.mode(mode)
    answer = only(up.predict(INSTANCE, wait="shadow"))
    assert (answer["prediction"], answer["fallback"]) == (GOOD, None)
    (pair,) = records(house, rollout, 2).values()
    shadow = pair["shadow"]
    assert (shadow.version, shadow.value, shadow.fallback) == (0, BASELINE, reason)
    assert up.described()["rollout"]["shadowed"]["failed"] == 1
    labels = f'outcome="failed",reason="{reason}",use_case="parcels",version="4"'
    assert up.metric(f"ninefold_front_end_shadows_total{{{labels}") >= 1


def test_a_candidate_that_dies_under_load_costs_no_request(trial, model, rollout):
    house, up, _ = trial
    with toy_model() as mortal:
        mortal.mode("far")
        house.roll_out(model.url, mortal.url, shadow=True, rollout=rollout, rollout_revision=2)
        up.adopts(house)
        with load(up) as seen:
            eventually(lambda: up.described()["rollout"]["shadowed"]["answered"] > 20)
            mortal.kill()
            eventually(lambda: up.described()["rollout"]["shadowed"]["failed"] > 20)
    assert seen.refused == []
    assert {(a["version"], a["prediction"], a["fallback"]) for a in seen.answers} == {(3, GOOD, None)}
    shadowed = eventually(lambda: (s := up.described()["rollout"]["shadowed"])["waiting"] == 0 and s)
    assert shadowed["answered"] + shadowed["failed"] + shadowed["dropped"] == len(seen.answers)


def test_a_row_that_breaks_the_candidate_breaks_no_other_request(trial, rollout):
    house, up, _ = trial
    with ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(base_url=up.url, headers=up.client.headers)) for _ in range(2)]
        for number in range(6):
            # Thirteen breaks the live call too; the baseline answers.
            row = {**INSTANCE, "distance": 13.0 if number == 3 else 20.0}
            clients[number % 2].post(PREDICT, content=body(row), headers={"X-Request-ID": f"n{number}"})
    pairs = records(house, rollout, 12)
    assert {name: pair["shadow"].fallback for name, pair in pairs.items()} == {
        f"n{number}#0": "model_error" if number == 3 else None for number in range(6)
    }


def test_the_candidate_is_asked_also_where_the_live_version_fell_back(trial, model, rollout):
    house, up, _ = trial
    model.mode("error")
    assert only(up.predict(INSTANCE, wait="shadow", x_request_id="failed"))["fallback"] == "model_error"
    model.mode("good")
    assert only(up.predict({**INSTANCE, "shop": "nobody"}, wait="shadow", x_request_id="missing"))["version"] == 0
    pairs = records(house, rollout, 4)
    failed, missing = pairs["failed#0"], pairs["missing#0"]
    assert (failed["live"].fallback, failed["shadow"].fallback, failed["shadow"].value) == ("model_error", None, FAR)
    assert {p.fallback for p in missing.values()} == {"feature_missing"}
    assert {p.value for p in missing.values()} == {30.0}


def test_a_field_out_of_its_declared_range_is_asked_of_nobody(trial, rollout):
    house, up, _ = trial
    answers = up.predict(INSTANCE, {**INSTANCE, "distance": 101.0}, INSTANCE, wait="shadow", x_request_id="far")
    assert [a["fallback"] for a in answers["predictions"]] == [None, "out_of_range", None]
    pairs = records(house, rollout, 5)
    assert {name: sorted(pair) for name, pair in pairs.items()} == {
        "far#0": ["live", "shadow"], "far#1": ["live"], "far#2": ["live", "shadow"],
    }  # fmt: skip
    assert up.described()["rollout"]["shadowed"] == {"answered": 2, "failed": 0, "dropped": 0, "waiting": 0}


def longer_window() -> tuple[FeatureView, ...]:
    """The views of a candidate whose window is three hours long."""
    return parcels.USE_CASE.feature_views({"zone_speed": "3h"})


def test_a_candidate_of_other_windows_reads_its_own_and_what_the_live_answer_saw(trial, model, rollout):
    house, up, candidate = trial
    candidate.mode("zone")
    view = longer_window()[-1].view
    package = house.write_package(manifest(views=longer_window()))
    house.online.write(view, [OnlineRow("north", NOON.replace(hour=11), (1.0, 1.0))])
    house.online.advance_watermark(view, NOON)
    house.roll_out(model.url, candidate.url, package=package, shadow=True, rollout=rollout, rollout_revision=2)
    assert up.adopts(house)["ready"]
    for number in range(40):
        assert only(up.predict(INSTANCE, x_request_id=f"w{number}"))["prediction"] == GOOD
        # What is known right after an answer is not what the answer's shadow may know.
        known_at = NOON.replace(hour=11) + timedelta(seconds=number + 1)
        house.online.write(view, [OnlineRow("north", known_at, (2.0 + number, 1.0))])
    pairs = records(house, rollout, 80)
    for number in range(40):
        live, shadow = pairs[f"w{number}#0"]["live"], pairs[f"w{number}#0"]["shadow"]
        assert (live.features["zone_speed__mean"], shadow.features["zone_speed__mean"]) == (4.0, 1.0 + number)
        assert shadow.value == 201.0 + number
        assert shadow.flags == ()


def test_a_required_view_that_the_candidate_alone_misses_is_its_own_fallback(trial, model, rollout):
    house, up, candidate = trial
    views = tuple(replace(v, required=True) if v.source == "window" else v for v in longer_window())
    views = tuple(replace(v, view="zone_speed_5h") if v.source == "window" else v for v in views)
    house.roll_out(
        model.url,
        candidate.url,
        package=house.write_package(manifest(views=views)),
        shadow=True,
        rollout=rollout,
        rollout_revision=2,
    )
    up.adopts(house)
    assert only(up.predict(INSTANCE, wait="shadow"))["fallback"] is None
    (pair,) = records(house, rollout, 2).values()
    shadow = pair["shadow"]
    assert (shadow.version, shadow.value, shadow.fallback) == (0, BASELINE, "feature_missing")
    assert shadow.flags == ("missing:zone_speed",)


def test_a_candidate_of_other_inputs_is_asked_for_them_in_its_own_order(trial, model, rollout):
    house, up, candidate = trial
    package = house.write_package(manifest(inputs=parcels.USE_CASE.inputs[::-1]))
    candidate.mode("good")
    house.roll_out(model.url, candidate.url, package=package, shadow=True, rollout=rollout, rollout_revision=2)
    up.adopts(house)
    up.predict(*[INSTANCE] * 3, wait="shadow")
    # The toy takes the first input for the distance, the fourth for the minutes and the last for the express.
    assert {pair["shadow"].value for pair in records(house, rollout, 6).values()} == {100 + 1 + 30 + 7 * 20}


def test_flags_of_training_are_each_versions_own(trial, model, rollout):
    house, up, candidate = trial
    narrow = InputStatistics(null_share=0.0, mean=1.0, deviation=1.0, minimum=0.0, maximum=10.0, reference=1.0)
    package = house.write_package(manifest(statistics={"distance": narrow}))
    house.roll_out(model.url, candidate.url, package=package, shadow=True, rollout=rollout, rollout_revision=2)
    up.adopts(house)
    up.predict({**INSTANCE, "zone": "south"}, {**INSTANCE, "distance": 60.0}, wait="shadow", x_request_id="flags")
    pairs = records(house, rollout, 4)
    assert {(n, c): p.flags for n, pair in pairs.items() for c, p in pair.items()} == {
        ("flags#0", "live"): ("missing:zone_speed",),
        ("flags#0", "shadow"): ("missing:zone_speed", "range:distance"),
        ("flags#1", "live"): ("range:distance",),
        ("flags#1", "shadow"): ("range:distance",),
    }


def test_what_is_over_the_bound_is_dropped_and_counted_and_costs_no_live_answer(trial, rollout):
    house, up, candidate = trial
    candidate.mode("hang")
    rows, bound = 40, MAX_WAITING + MAX_CALLS * ROWS_A_CALL
    count = 2 * bound // rows * rows
    answers = [answer for _ in range(count // rows) for answer in up.predict(*[INSTANCE] * rows)["predictions"]]
    assert {(a["version"], a["prediction"], a["fallback"]) for a in answers} == {(3, GOOD, None)}
    shadowed = up.described()["rollout"]["shadowed"]
    assert shadowed["dropped"] > 0
    assert 0 < shadowed["waiting"] <= bound + rows
    candidate.mode("far")
    shadowed = eventually(lambda: (s := up.described()["rollout"]["shadowed"])["waiting"] == 0 and s, 60)
    assert shadowed["failed"] >= ROWS_A_CALL
    assert sum(shadowed.values()) == count
    pairs = records(house, rollout, 2 * count - shadowed["dropped"])
    assert Counter(len(pair) for pair in pairs.values())[1] == shadowed["dropped"]
    labels = 'outcome="dropped",reason="full",use_case="parcels",version="4"'
    assert up.metric(f"ninefold_front_end_shadows_total{{{labels}") == shadowed["dropped"]


def test_a_request_of_more_rows_than_may_wait_is_shadowed_whole(trial, rollout):
    house, up, _ = trial
    rows = [{**INSTANCE, "parcel": f"P{number}"} for number in range(3 * MAX_WAITING)]
    up.predict(*rows, x_request_id="large")
    pairs = records(house, rollout, 2 * len(rows))
    assert {pair["shadow"].key for pair in pairs.values()} == {row["parcel"] for row in rows}


@pytest.mark.parametrize(("mode", "alone", "together"), [("far", 100, 200), ("slow", 6, 10)])
def test_at_the_end_what_waits_is_asked_and_kept(house, model, mode, alone, together):
    with toy_model() as candidate:
        house.roll_out(model.url, candidate.url, shadow=True)
        candidate.mode(mode)
        with running(house, NINEFOLD_JOURNAL__SHIP_SECONDS="60", NINEFOLD_SERVING__MODEL_TIMEOUT_SECONDS="5") as up:
            for number in range(alone):
                up.predict({**INSTANCE, "parcel": f"P{number}"})
            up.predict(*[INSTANCE] * together, x_request_id="last")
            up.process.send_signal(signal.SIGTERM)
            assert up.process.wait(timeout=30) in (0, -signal.SIGTERM)
    pairs = records(house, "r1", 2 * (alone + together))
    assert Counter(len(pair) for pair in pairs.values()) == {2: alone + together}


def test_a_candidate_that_hangs_does_not_hold_up_the_end(house, model):
    with toy_model() as candidate:
        house.roll_out(model.url, candidate.url, shadow=True)
        candidate.mode("hang")
        with running(house, NINEFOLD_SERVING__MODEL_TIMEOUT_SECONDS="20") as up:
            for _ in range(30):
                up.predict(INSTANCE)
            up.process.send_signal(signal.SIGTERM)
            assert up.process.wait(timeout=15) in (0, -signal.SIGTERM)
    assert Counter(len(pair) for pair in records(house, "r1", 30).values()) == {1: 30}


@pytest.fixture
def inside(house, model, monkeypatch):
    """A front end in this process, so that a test can break what lies within; its candidate has a longer window."""
    monkeypatch.setenv("NINEFOLD_CLOCK", "event")
    # A failure is logged with all that stands around it, in this same process.
    monkeypatch.setenv("NINEFOLD_SERVING__MODEL_TIMEOUT_SECONDS", "10")
    settings.cache_clear()
    with toy_model() as candidate:
        candidate.mode("far")
        package = house.write_package(manifest(views=longer_window()))
        house.roll_out(model.url, candidate.url, package=package, shadow=True)
        yield house, assemble(parcels.USE_CASE, settings())
    settings.cache_clear()


@asynccontextmanager
async def client_of(house, app):
    """A client of an application in this process, for as long as that lives."""
    asked, told = asyncio.Queue(), asyncio.Queue()
    life = asyncio.create_task(app({"type": "lifespan"}, asked.get, told.put))
    await asked.put({"type": "lifespan.startup"})
    assert (await told.get())["type"] == "lifespan.startup.complete"
    try:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://front", headers={"X-ApiKey": house.key}
        ) as client:
            yield client
    finally:
        await asked.put({"type": "lifespan.shutdown"})
        await life


async def shadowed_of_two(house, app):
    """What two requests one after the other leave; both are answered by the live version."""
    found = []
    async with client_of(house, app) as client:
        for _ in range(2):
            response = await client.post(f"{PREDICT}?wait=shadow", content=body(INSTANCE))
            assert (response.status_code, only(response.json())["prediction"]) == (200, GOOD)
            found.append((await client.get("/v1/models/parcels")).json()["rollout"]["shadowed"])
    return found


async def test_a_journal_that_fails_in_shadow_only_counts(inside, monkeypatch):
    append, appended = Journal.append_many, []

    def fail_second(journal, payloads):
        appended.append(len(payloads))
        if len(appended) == 2:
            raise StoreError("The disk is full.")
        append(journal, payloads)

    monkeypatch.setattr(Journal, "append_many", fail_second)
    assert await shadowed_of_two(*inside) == [
        {"answered": 0, "failed": 0, "dropped": 1, "waiting": 0},
        {"answered": 1, "failed": 0, "dropped": 1, "waiting": 0},
    ]
    assert appended == [1, 1, 1, 1]


async def test_a_watcher_that_ended_by_an_error_does_not_keep_the_journal_from_being_shipped(inside, monkeypatch):
    async def fail(_):
        raise OSError("no more files")

    monkeypatch.setattr(FrontEnd, "_watch_keys", fail)
    house, app = inside
    async with client_of(house, app) as client:
        response = await client.post(f"{PREDICT}?wait=shadow", content=body(INSTANCE))
    prediction_id = only(response.json())["prediction_id"]
    with closing(open_store(settings().store_url)) as store:
        assert store.prediction(prediction_id) is not None


async def test_what_breaks_in_reading_for_the_candidate_alone_drops_it_and_no_answer(inside, monkeypatch):
    read, seen = FeatureReader.read, []

    def fail_first(reader, rows, decided, now):
        seen.append(reader)
        # The live version's reader comes first; the other one's first read breaks.
        if len(seen) > 1 and seen.count(reader) == 1:
            raise RuntimeError("broken")
        return read(reader, rows, decided, now)

    monkeypatch.setattr(FeatureReader, "read", fail_first)
    assert await shadowed_of_two(*inside) == [
        {"answered": 0, "failed": 0, "dropped": 1, "waiting": 0},
        {"answered": 1, "failed": 0, "dropped": 1, "waiting": 0},
    ]


async def test_a_use_cases_code_that_breaks_on_one_row_drops_it_and_no_other(inside, monkeypatch):
    house, app = inside
    derive = parcels.derive

    def break_for_the_candidate(columns):
        # The candidate's rows are derived together, behind the live answers; each live answer is derived alone here.
        if 21.0 in columns["distance"] and derived.append(1) is None and len(derived) > 1:
            raise RuntimeError("broken")
        return derive(columns)

    derived: list[int] = []
    object.__setattr__(parcels.USE_CASE, "derive", break_for_the_candidate)
    try:
        async with client_of(house, app) as client:
            for distance in (20.0, 21.0):
                content = body({**INSTANCE, "distance": distance})
                assert (await client.post(PREDICT, content=content)).status_code == 200
            response = await client.post(f"{PREDICT}?wait=shadow", content=body(INSTANCE))
            assert only(response.json())["prediction"] == GOOD
            for _ in range(100):
                shadowed = (await client.get("/v1/models/parcels")).json()["rollout"]["shadowed"]
                if not shadowed["waiting"]:
                    break
                await asyncio.sleep(0.05)
    finally:
        object.__setattr__(parcels.USE_CASE, "derive", derive)
    assert shadowed == {"answered": 2, "failed": 0, "dropped": 1, "waiting": 0}
