"""Traffic is history by instant: asked when it was decided, told when it was known, seeded with what windows hold."""

import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from components.collector.extract import extract
from ninefold.errors import DataError, Unavailable, UsageError
from ninefold.loading import load_use_case
from ninefold.settings import settings
from ninefold.store import open_store
from pipelines.replay import Replayed, Replayer, Traffic, next_request, read_traffic

sys.path.append(str(Path(__file__).parents[1] / "components" / "collector"))
import tiny_use_case
from tiny_use_case import START

USE_CASE = load_use_case("tiny_use_case:USE_CASE")
HOUR = timedelta(hours=1)


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    tiny_use_case.HISTORY["history"] = tiny_use_case.history()
    with open_store(settings().store_url) as store:
        extract(USE_CASE, store, tmp_path / "snapshot")
    return tmp_path / "snapshot"


def test_each_thing_comes_at_its_instant(snapshot: Path) -> None:
    traffic = read_traffic(USE_CASE, snapshot, START + HOUR, START + 3 * HOUR)
    assert [r["parcel"] for at in sorted(traffic.requests) for r in traffic.requests[at]] == ["p1", "p2"]
    assert list(traffic.requests) == [START + HOUR, START + 2 * HOUR]
    assert [e["id"] for at in traffic.events for e in traffic.events[at]] == ["e2"]
    assert [e["id"] for e in traffic.seed] == ["e1"]
    known = {at: [t["key"]["parcel"] for t in told] for at, told in traffic.truths.items()}
    assert known == {START + timedelta(days=1, hours=1): ["p1"], START + timedelta(days=1, hours=2): ["p2"]}
    assert traffic.instants == sorted(traffic.instants)


def test_the_seed_is_no_older_than_the_longest_window(snapshot: Path) -> None:
    assert [e["id"] for e in read_traffic(USE_CASE, snapshot, START + 5 * HOUR, START + 6 * HOUR).seed] == ["e1", "e2"]
    late = read_traffic(USE_CASE, snapshot, START + 5 * HOUR, START + 9 * HOUR)
    assert [e["id"] for e in late.seed] == ["e1", "e2"]


def test_a_stretch_in_which_nothing_was_asked_is_refused(snapshot: Path) -> None:
    with pytest.raises(UsageError, match="Nothing was asked of parcels"):
        read_traffic(USE_CASE, snapshot, START + timedelta(days=9), START + timedelta(days=10))


def test_the_next_request_is_the_first_from_an_instant_on(snapshot: Path) -> None:
    found = next_request(USE_CASE, snapshot, START + HOUR + timedelta(seconds=1))
    assert found is not None
    assert found["parcel"] == "p2"
    assert next_request(USE_CASE, snapshot, START + timedelta(days=9)) is None


def test_latency_is_a_quantile_and_unknown_where_nothing_was_asked() -> None:
    replayed = Replayed(requests=4, events=0, truths=0, rows=0, latencies_ms=(1.0, 2.0, 3.0, 4.0))
    assert (replayed.latency(0.5), replayed.latency(0.99)) == (3.0, 4.0)
    with pytest.raises(UsageError):
        Replayed(requests=0, events=0, truths=0, rows=0).latency(0.5)


class Recorder:
    """A service that takes everything, and keeps it in order."""

    base = "http://recorder"

    def __init__(self, told: list[tuple[str, Any]]) -> None:
        self.told = told

    def post(self, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        if path == "/v1/events?wait=windows":
            self.told += [("event", event["id"]) for event in body["events"]]
            if "advance_to" in body:
                self.told.append(("windows reach", body["advance_to"]))
            return 200, {}
        if path == "/v1/truths":
            self.told += [("truth", truth["key"]["parcel"]) for truth in body["truths"]]
            return 200, {}
        assert path == "/v1/models/parcels:predict"
        self.told += [("request", request["parcel"]) for request in body["instances"]]
        return 200, {"predictions": [{"version": 1, "fallback": None} for _ in body["instances"]]}


class Rows:
    """Batch rows that are all known already."""

    def write(self, _: Any, __: datetime) -> int:
        return 0


def _replayed(traffic: Traffic, ends: list[datetime]) -> tuple[list[tuple[str, Any]], Replayed]:
    told: list[tuple[str, Any]] = []
    service: Any = Recorder(told)
    rows: Any = Rows()
    online: Any = None
    replayer = Replayer(USE_CASE, traffic, front_end=service, collector=service, rows=rows, online=online)
    total = Replayed(requests=0, events=0, truths=0, rows=0)
    for end in ends:
        total += replayer.run(end)
        # Whoever looks now knows all that was known by now.
        known = {truth["key"]["parcel"] for at, due in traffic.truths.items() if at < end for truth in due}
        assert {what for kind, what in told if kind == "truth"} == known
    return told, total + replayer.run()


def test_stretches_bring_what_one_replay_brings_and_each_brings_all_that_was_known(snapshot: Path) -> None:
    traffic = read_traffic(USE_CASE, snapshot, START, START + 6 * HOUR)
    whole, total = _replayed(traffic, [])
    assert (total.requests, total.truths, total.versions) == (6, 6, {1: 6})
    for ends in ([START + HOUR], [START + 2 * HOUR, START + 26 * HOUR], [START, START + 99 * HOUR]):
        told, counted = _replayed(traffic, ends)
        assert [t for t in told if t[0] != "windows reach"] == [t for t in whole if t[0] != "windows reach"]
        assert (counted.requests, counted.events, counted.truths) == (total.requests, total.events, total.truths)


def test_history_may_hold_what_no_request_does(snapshot: Path) -> None:
    path = snapshot / "requests.parquet"
    pl.read_parquet(path).with_columns(arrived_after=pl.lit(3.0)).write_parquet(path)
    traffic = read_traffic(USE_CASE, snapshot, START, START + HOUR)
    assert [set(request) for request in traffic.requests[START]] == [{f.name for f in USE_CASE.request}]
    assert "arrived_after" not in (next_request(USE_CASE, snapshot, START) or {"arrived_after": 0})


class Restarted(Recorder):
    """Is gone for the first few calls, as one that was killed; then says that it is not ready; then it is."""

    def __init__(self, told: list[tuple[str, Any]], *, status: int) -> None:
        super().__init__(told)
        self.status = status
        self.calls = 0

    def post(self, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        self.calls += 1
        if self.calls < 3:
            raise Unavailable("Connection refused.")
        return (self.status, {"error": "no"}) if self.calls == 3 else super().post(path, body)


def test_a_service_that_died_is_waited_for_and_one_that_refuses_is_not(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.replay._RETRY_SECONDS", 0.001)
    traffic = read_traffic(USE_CASE, snapshot, START, START + HOUR)
    rows: Any = Rows()
    for status, refused in ((503, False), (422, True)):
        told: list[tuple[str, Any]] = []
        service: Any = Restarted(told, status=status)
        replayer = Replayer(USE_CASE, traffic, front_end=service, collector=service, rows=rows, online=rows)
        if refused:
            with pytest.raises(DataError, match="answered 422: no"):
                replayer.run()
        else:
            assert replayer.run().requests == 1
    monkeypatch.setattr("pipelines.replay.PATIENCE_SECONDS", 0.0)
    service = Restarted([], status=503)
    with pytest.raises(Unavailable):
        Replayer(USE_CASE, traffic, front_end=service, collector=service, rows=rows, online=rows).run()


def test_a_replay_does_not_wait_for_feast_to_be_imported() -> None:
    code = "import sys, pipelines.story; sys.exit(sum(name in sys.modules for name in ('feast', 'kfp', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
