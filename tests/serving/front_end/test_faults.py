"""What breaks around a front end, and what its clients see of it."""

import os
import shutil
import signal
import socket
import sqlite3
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from parcel_house import INSTANCE, NOON, House, body, free_port, load, manifest, running, shared_house, start, toy_model

from ninefold.keys import create_key
from ninefold.store import open_store

BASELINE = 10 + 20 + 3


def stored_ids(house: House) -> set[str]:
    store = open_store(house.settings.store_url)
    try:
        return {found.prediction_id for found in store.predictions("parcels")}
    finally:
        store.close()


def eventually(check, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.03)


def only(document):
    (prediction,) = document["predictions"]
    return prediction


def test_when_the_model_server_is_killed_under_load_no_request_fails_and_it_is_taken_back(house):
    port = free_port()
    with toy_model(port) as model:
        house.route(model.url)
        with running(house) as up, load(up) as seen:
            eventually(lambda: len(seen.answers) > 50)
            model.kill()
            eventually(lambda: seen.answers[-1]["fallback"] == "model_unreachable")
            with toy_model(port):
                eventually(lambda: seen.answers[-1]["fallback"] is None)
                time.sleep(0.2)
    assert seen.refused == []
    reasons = Counter(answer["fallback"] for answer in seen.answers)
    assert set(reasons) == {None, "model_unreachable"}
    assert all(a["prediction"] == BASELINE and a["version"] == 0 for a in seen.answers if a["fallback"])


def test_when_the_front_end_is_killed_under_load_every_acknowledged_prediction_is_in_the_store(house, model):
    house.route(model.url)
    # Nothing is shipped before the end: what is in the store afterwards came through the journal alone.
    with running(house, NINEFOLD_JOURNAL__SHIP_SECONDS="60") as up, load(up) as seen:
        eventually(lambda: len(seen.answers) > 200)
        up.process.send_signal(signal.SIGKILL)
        up.process.wait()
    acknowledged = {answer["prediction_id"] for answer in seen.answers}
    assert len(acknowledged) > 200
    with running(house) as up:
        eventually(lambda: acknowledged <= stored_ids(house))


@pytest.mark.parametrize("fsync", ["false", "true"])
def test_sigterm_answers_what_is_open_ships_the_journal_and_ends_well(house, model, fsync):
    house.route(model.url)
    with running(house, NINEFOLD_JOURNAL__SHIP_SECONDS="60", NINEFOLD_JOURNAL__FSYNC=fsync) as up, load(up) as seen:
        eventually(lambda: len(seen.answers) > 50)
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(timeout=15) in (0, -signal.SIGTERM)
    assert {answer["prediction_id"] for answer in seen.answers} <= stored_ids(house)
    assert not any("Internal" in refusal for refusal in seen.refused)


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs prlimit to bound a file")
def test_a_full_disk_refuses_answers_by_name_and_keeps_those_it_gave(house, model):
    house.route(model.url)
    port = free_port()
    process = start(port, limit=96 * 1024, NINEFOLD_JOURNAL__SHIP_SECONDS="60")
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-ApiKey": house.key}, timeout=10) as client:
            eventually(lambda: answers(client, "/healthz"), 15)
            given = []
            for _ in range(1000):
                response = client.post("/v1/models/parcels:predict", content=body(INSTANCE))
                if response.status_code != 200:
                    break
                given.append(only(response.json())["prediction_id"])
            assert response.status_code == 503
            assert "journal" in response.json()["error"]
            assert response.headers["retry-after"]
            assert client.get("/healthz").status_code == 200
            assert "ninefold_front_end_journal_failures_total" in client.get("/metrics").text
    finally:
        process.kill()
        process.communicate()
    assert len(given) > 50
    with running(house):
        eventually(lambda: set(given) <= stored_ids(house))
    assert len(stored_ids(house)) == len(given)


def answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def standing(shared_model, tmp_path_factory):
    """A front end for tests that bring their own routes; requests of a later test are of a later time."""
    with shared_house(tmp_path_factory.mktemp("standing")) as house:
        house.route(shared_model.url)
        with running(house) as up:
            yield house, up


def route(house, up, *arguments, **options) -> None:
    house.route(*arguments, **options)
    eventually(lambda: up.client.get("/v1/models/parcels").json()["revision"] == house.revision)


def test_a_row_known_after_the_decision_is_flagged(standing, model):
    house, up = standing
    house.write_zone("south", NOON.replace(minute=1), 9.0, 13)
    assert only(up.predict({**INSTANCE, "zone": "south"}))["flags"] == ["newer:zone_speed"]


def test_without_a_version_the_baseline_answers_with_the_declared_features(standing):
    house, up = standing
    route(house, up, None)
    answer = only(up.predict(INSTANCE))
    assert (answer["prediction"], answer["version"], answer["fallback"]) == (BASELINE, 0, "no_model")
    response = up.client.post("/v1/models/parcels:explain", content=body(INSTANCE))
    assert response.status_code == 503
    assert "no version yet" in response.json()["error"]
    assert up.client.get("/readyz").status_code == 200


def test_the_baseline_as_a_served_version_is_no_fallback(standing, model):
    house, up = standing
    route(house, up, model.url, version=0)
    answer = only(up.predict(INSTANCE))
    assert (answer["version"], answer["fallback"], answer["prediction"]) == (0, None, 157)


def test_a_new_version_takes_over_under_load_without_a_failure(standing, model):
    house, up = standing
    with toy_model() as second, load(up) as seen:
        for version in range(4, 9):
            house.route(second.url if version % 2 else model.url, version=version)
            eventually(lambda version=version: seen.answers and seen.answers[-1]["version"] == version)
    assert seen.refused == []
    assert {answer["fallback"] for answer in seen.answers} == {None}


def test_routes_that_can_not_be_used_are_refused_and_the_last_good_ones_stay(standing, model):
    house, up = standing
    route(house, up, model.url, version=3)

    def problem() -> str:
        return up.client.get("/v1/models/parcels").json()["problem"] or ""

    other = house.write_package(manifest(derive_digest="0" * 64))
    changed = house.write_package(manifest(training={"seed": 1}))
    file = Path(changed[1]) / "package.json"
    file.write_bytes(file.read_bytes().replace(b'"seed":1', b'"seed":2'))
    spoilt = [
        (lambda: house.route(model.url, version=4, digest=other[0], package=other[1]), "another derive"),
        (lambda: house.route(model.url, version=4, digest=changed[0], package=changed[1]), "SHA-256"),
        (lambda: house.route(model.url, version=4, digest="f" * 64, package="/nowhere"), "can't be read"),
        (lambda: house.routes.write_text("{"), "damaged: Expecting"),
        (lambda: house.routes.write_text('{"use_case": "parcels"}'), "damaged: 'variants'"),
        (lambda: house.route("https://far", version=4), "no address"),
    ]
    refused = up.metric("ninefold_front_end_routes_refused_total")
    for count, (spoil, words) in enumerate(spoilt, start=1):
        spoil()
        eventually(lambda words=words: words in problem())
        answer = only(up.predict(INSTANCE))
        assert (answer["version"], answer["fallback"]) == (3, None)
        assert up.metric("ninefold_front_end_routes_refused_total") >= refused + count
    house.routes.unlink()
    route(house, up, model.url, version=5)
    assert problem() == ""
    assert only(up.predict(INSTANCE))["version"] == 5


def test_a_new_key_works_without_a_restart_and_a_replaced_one_no_longer(standing):
    house, up = standing
    key = create_key(house.settings.home / "keys.json", "shop")

    def code(key: str) -> int:
        return httpx.get(f"{up.url}/v1/models", headers={"X-ApiKey": key}).status_code

    eventually(lambda: code(key) == 200)
    # Whose head is known on its connection is refused there, too: it comes in one piece, as lean clients send it.
    address = httpx.URL(up.url)
    with socket.create_connection((address.host, address.port), timeout=10) as connection:

        def asked() -> int:
            sent = body(INSTANCE)
            head = f"POST /v1/models/parcels:predict HTTP/1.1\r\nHost: a\r\nX-ApiKey: {key}\r\n"
            connection.sendall(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
            return int(connection.recv(65536).split()[1])

        assert [asked() for _ in range(3)] == [200, 200, 200]
        create_key(house.settings.home / "keys.json", "shop")
        eventually(lambda: asked() == 401)
    assert code(key) == 401


def test_a_stale_stream_is_flagged_until_its_watermark_moves(standing, model):
    house, up = standing
    later = {**INSTANCE, "ordered_at": "2026-03-01T12:05:01Z"}
    assert only(up.predict({**INSTANCE, "ordered_at": "2026-03-01T12:05:00Z"}))["flags"] == []
    answer = only(up.predict(later))
    assert (answer["flags"], answer["fallback"], answer["prediction"]) == (["stale:zone_speed"], None, 157)
    house.online.advance_watermark("zone_speed_1h", NOON.replace(minute=3))
    assert only(up.predict(later))["flags"] == []


def test_when_online_rows_can_not_be_read_the_baseline_answers_and_they_are_counted(standing, model):
    house, up = standing
    assert only(up.predict(INSTANCE))["fallback"] is None
    with sqlite3.connect(house.settings.online_url.removeprefix("sqlite:///")) as connection:
        connection.execute("ALTER TABLE rows RENAME TO lost")
    connection.close()
    answer = only(up.predict(INSTANCE))
    assert (answer["fallback"], answer["prediction"]) == ("feature_missing", 30)
    assert answer["flags"][:3] == ["unreadable:online", "missing:shop", "missing:zone_speed"]
    assert up.metric("ninefold_front_end_online_failures_total") == 1
    assert up.client.post("/v1/features", content=body({"zone": "north"})).status_code == 503


def test_a_start_that_can_not_succeed_is_one_clear_line(standing):
    house, up = standing
    home = str(house.settings.home)
    damaged = house.settings.home / "damaged.db"
    damaged.write_bytes(os.urandom(8192))
    other = {"NINEFOLD_HOME": f"{home}/other"}
    starts = {
        "port is in use": start(up.port, **other),
        "belongs to a process that runs": start(free_port(), NINEFOLD_HOME=home),
        "There is no use case 'nothing'": start(free_port(), use_case="nothing", **other),
        "NINEFOLD_SERVING__MODEL_KEY": start(free_port(), NINEFOLD_ENVIRONMENT="cluster", **other),
        "online rows": start(free_port(), NINEFOLD_ONLINE_URL=f"sqlite:///{damaged}", **other),
    }
    for words, process in starts.items():
        _, errors = process.communicate(timeout=30)
        assert process.returncode in (1, 2)
        (line,) = errors.decode().strip().splitlines()
        assert line.startswith("front end: ")
        assert words in line
