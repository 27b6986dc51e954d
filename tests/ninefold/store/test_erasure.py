"""A key that is forgotten is gone, and doesn't come back; on both databases."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from ninefold.errors import DataError, InvalidInput, StoreError, UsageError
from ninefold.features import Stream
from ninefold.fields import Field
from ninefold.loading import load_use_case
from ninefold.online import OnlineRow, OnlineStore, SQLiteOnlineStore
from ninefold.records import Event, Prediction, Truth, entity_key, key_parts
from ninefold.store import Store, open_store
from ninefold.store.erased_files import damaged_with, erase_from_parquet, erase_online, rows_in_source
from ninefold.store.erasure import EntityKey, erase_records, key_of
from ninefold.store.journal import Journal, set_aside
from ninefold.store.shipper import Shipper, ship_whole
from ninefold.store.tables import erasures
from ninefold.usecase import UseCase
from ninefold.windows.declaration import Window

NOW = datetime(2013, 7, 1, 12, tzinfo=UTC)
FLIGHT = "2013-07-01|UA|1545|EWR"
OTHER = "2013-07-01|UA|1546|EWR"


@pytest.fixture
def use_case() -> UseCase:
    """Arrivals, with a stream that names whole flights and a window whose entity is the flight."""
    arrivals = load_use_case("arrivals")
    fields = tuple(arrivals.fields[name] for name in arrivals.key)
    delay = Field(name="delay", kind="number")
    return replace(
        arrivals,
        streams=(*arrivals.streams, Stream(name="remarks", fields=(*fields, delay))),
        windows=(
            *arrivals.windows,
            Window(name="remarked", stream="remarks", key=arrivals.key, value="delay", length=timedelta(hours=2)),
        ),
    )


@pytest.fixture
def flight(use_case: UseCase) -> EntityKey:
    return key_of(use_case, FLIGHT, [])


def _prediction(name: str, key: str, received_at: datetime = NOW) -> Prediction:
    return Prediction(
        prediction_id=name, use_case="arrivals", request_id=None, key=key, decided_at=received_at,
        received_at=received_at, version=1, cohort="live", request={"key": key}, features={}, value=1.0,
    )  # fmt: skip


def _truth(name: str, key: str, value: float = 1.0) -> Truth:
    return Truth(truth_id=name, use_case="arrivals", key=key, value=value, known_at=NOW, received_at=NOW)


def _event(name: str, stream: str, **values: Any) -> Event:
    return Event(
        event_id=name, use_case="arrivals", stream=stream, happened_at=NOW, known_at=NOW, received_at=NOW, values=values
    )


def _fill(store: Store) -> None:
    flight = {"date": "2013-07-01", "carrier": "UA", "flight": 1545, "origin": "EWR"}
    store.write_predictions([_prediction("p1", FLIGHT), _prediction("p2", FLIGHT), _prediction("p3", OTHER)])
    store.write_truths([_truth("t1", FLIGHT), _truth("t2", FLIGHT, 2.0), _truth("t3", OTHER)])
    store.write_events(
        [
            _event("f1", "feedback", prediction_id="p1", key=FLIGHT, text="wrong", user=None),
            _event("f2", "feedback", prediction_id="p3", key=OTHER, text="wrong", user=None),
            _event("r1", "remarks", **flight, delay=3.0),
            _event("r2", "remarks", **{**flight, "flight": 1546}, delay=3.0),
            _event("l1", "landings", carrier="UA", origin="EWR", destination="IAH", gain=1),
        ]
    )
    # Another content under a known id is kept aside, key and all.
    store.write_truths([_truth("t1", FLIGHT, 9.0), _truth("t3", OTHER, 9.0)])
    store.write_events([_event("r1", "remarks", **flight, delay=4.0)])


def _erase(store: Store, use_case: UseCase, key: EntityKey, **more: Any) -> dict[str, int]:
    return erase_records(store, use_case, key, now=more.pop("now", NOW), actor="me", **more)


def _kept(store: Store) -> tuple[set[str], ...]:
    return (
        {p.prediction_id for p in store.predictions("arrivals")},
        {t.truth_id for t in store.truths("arrivals")},
        {e.event_id for e in store.events("arrivals")[0]},
        {c.record_id for c in store.conflicts()},
    )


def test_all_that_the_store_holds_of_a_key_goes_and_nothing_else(
    store: Store, use_case: UseCase, flight: EntityKey
) -> None:
    _fill(store)
    wanted = {"predictions": 2, "truths": 2, "label_tasks": 0, "annotations": 0, "events": 2, "conflicts": 2}
    assert _erase(store, use_case, flight, dry_run=True) == wanted
    assert store.counts()["predictions"] == 3
    assert _erase(store, use_case, flight) == wanted
    assert _kept(store) == ({"p3"}, {"t3"}, {"f2", "r2", "l1"}, {"t3"})


def test_an_erasure_is_noted_without_the_key_and_once(store: Store, use_case: UseCase, flight: EntityKey) -> None:
    _fill(store)
    removed = _erase(store, use_case, flight)
    assert set(_erase(store, use_case, flight).values()) == {0}
    with store.reading() as connection:
        [noted] = connection.execute(sa.select(erasures)).mappings().all()
    assert (noted["removed"], noted["actor"], noted["use_case"]) == (removed, "me", "arrivals")
    assert "1545" not in str(dict(noted))
    other = key_of(use_case, OTHER, [])
    _erase(store, use_case, other)
    with store.reading() as connection:
        rows = connection.execute(sa.select(erasures)).all()
    assert len({row.salt for row in rows}) == 1
    assert len({row.key_hash for row in rows}) == 2


def test_nothing_of_the_key_is_left_in_the_file(store: Store, use_case: UseCase, flight: EntityKey) -> None:
    if not store.is_postgresql:
        # Some builds of SQLite overwrite by themselves, and others don't.
        store.engine.dispose()
        sa.event.listen(store.engine, "connect", lambda c, _: c.execute("PRAGMA secure_delete = OFF"))
    _fill(store)
    _erase(store, use_case, flight)
    if store.is_postgresql:
        pytest.skip("PostgreSQL frees its pages by itself, later")
    with store.reading() as connection:
        connection.execute(sa.text("SELECT 1 FROM predictions")).first()
        store.engine.dispose()
        with open_store(f"sqlite:///{store.where}", busy_seconds=0.1) as other:
            assert not other.tidy()
    assert store.tidy()
    files = Path(store.where).parent.glob(f"{Path(store.where).name}*")
    assert not any(FLIGHT.encode() in path.read_bytes() for path in files)


def test_what_is_older_than_the_erasure_does_not_come_back(store: Store, use_case: UseCase, flight: EntityKey) -> None:
    _fill(store)
    _erase(store, use_case, flight)
    written = store.write_predictions([_prediction("p1", FLIGHT), _prediction("p9", FLIGHT), _prediction("p3", OTHER)])
    assert (int(written), written.repeated, written.erased) == (0, 1, 2)
    assert store.write_truths([_truth("t1", FLIGHT), _truth("t4", OTHER)]).erased == 1
    feedback = _event("f1", "feedback", prediction_id="p1", key=FLIGHT, text="wrong", user=None)
    assert store.write_events([feedback]).erased == 1
    # A customer may come again.
    later = NOW + timedelta(seconds=1)
    assert store.write_predictions([_prediction("p10", FLIGHT, later)]) == 1
    assert _erase(store, use_case, flight, now=later)["predictions"] == 1
    assert store.write_predictions([_prediction("p10", FLIGHT, later)]).erased == 1
    # Another use case's key of the same text is another key.
    assert store.write_predictions([replace(_prediction("c1", FLIGHT), use_case="churn")]) == 1


def test_a_writer_that_is_under_way_brings_nothing_back(store: Store, use_case: UseCase, flight: EntityKey) -> None:
    stop = threading.Event()
    sent = [0]

    def writing() -> None:
        while not stop.is_set():
            store.write_predictions(_prediction(f"w{sent[0]}-{n}", FLIGHT) for n in range(50))
            sent[0] += 1

    thread = threading.Thread(target=writing)
    thread.start()
    try:
        while sent[0] < 3:
            stop.wait(0.01)
        _erase(store, use_case, flight)
        after = sent[0]
        while sent[0] < after + 3:
            stop.wait(0.01)
    finally:
        stop.set()
        thread.join()
    assert list(store.predictions("arrivals", key=FLIGHT)) == []


def test_a_journal_out_of_a_backup_brings_nothing_back(
    store: Store, use_case: UseCase, flight: EntityKey, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append_many(orjson.dumps(_prediction(f"p{n}", key).to_json()) for n, key in enumerate((FLIGHT, OTHER)))
    journal.close()
    _erase(store, use_case, flight)
    shipper = Shipper(tmp_path / "journal", store)
    while shipper.ship():
        pass
    assert [p.key for p in store.predictions("arrivals")] == [OTHER]
    assert (shipper.shipped, shipper.repeated) == (1, 0)


class TestJournal:
    def test_one_that_nobody_appends_to_is_shipped_and_cleared(self, store: Store, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "j")
        journal.append(orjson.dumps(_prediction("p", FLIGHT).to_json()))
        journal.close()
        ship_whole(tmp_path / "j", store)
        assert store.counts()["predictions"] == 1
        assert [path.stat().st_size for path in (tmp_path / "j").glob("*.journal")] == [0]
        ship_whole(tmp_path / "nothing", store)

    def test_one_that_is_appended_to_is_waited_for(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = Journal(tmp_path / "j")
        journal.append(orjson.dumps(_prediction("p", FLIGHT).to_json()))
        with monkeypatch.context() as patch:
            patch.setattr("ninefold.store.shipper.SHIPPED_SECONDS", 0.1)
            with pytest.raises(StoreError, match="holds answers that are not in the store yet"):
                ship_whole(tmp_path / "j", store)
        shipper = Shipper(tmp_path / "j", store, ship_seconds=0.05)
        shipper.start()
        ship_whole(tmp_path / "j", store)
        assert store.counts()["predictions"] == 1
        shipper.stop()
        journal.close()

    def test_damaged_pieces_that_hold_the_key_are_found(self, flight: EntityKey, tmp_path: Path) -> None:
        set_aside(tmp_path, 1, 0, orjson.dumps(_prediction("p", FLIGHT).to_json())[:-5])
        set_aside(tmp_path, 1, 9, orjson.dumps(_prediction("p", OTHER).to_json())[:-5])
        assert [path.name for path in damaged_with(flight, tmp_path)] == ["00000001-0.bin"]


class TestKey:
    @given(st.lists(st.text(alphabet=st.characters(codec="utf-8")), min_size=1, max_size=4))
    def test_a_key_s_text_comes_apart_as_it_was_joined(self, values: list[str]) -> None:
        assert key_parts(entity_key(values)) == values

    def test_both_ways_of_writing_it_are_one(self, use_case: UseCase, flight: EntityKey) -> None:
        fields = ["flight=1545", "carrier=UA", "origin=EWR", "date=2013-07-01"]
        assert key_of(use_case, None, fields) == flight
        assert flight.text == FLIGHT
        assert flight.values == {"date": "2013-07-01", "carrier": "UA", "flight": 1545.0, "origin": "EWR"}
        churn = load_use_case("churn")
        assert key_of(churn, "5", []) == key_of(churn, None, ["customer_id=5.0"])

    @pytest.mark.parametrize(
        ("text", "fields", "message"),
        [
            (None, [], r"A key of arrivals is needed\. Give --key TEXT, or FIELD=VALUE for date, carrier"),
            (FLIGHT, ["carrier=UA"], "A key of arrivals is needed"),
            ("UA|1545", [], "has 2 values, not 4: date, carrier, flight, origin"),
            (None, ["carrier=UA"], "fields are date, carrier, flight, origin, each once"),
            (None, ["date=2013-07-01", "carrier=UA", "flight=1", "origin=EWR", "flight=2"], "each once"),
            ("2013-07-01|UA|x|EWR", [], "flight: 'x' is not a number"),
            ("2013-07-01|UA|nan|EWR", [], "flight: .* is not finite"),
            ("2013-07-01|UA|1|SFO", [], "origin: 'SFO' is not one of its values"),
        ],
    )
    def test_what_is_no_key_is_refused(
        self, use_case: UseCase, text: str | None, fields: list[str], message: str
    ) -> None:
        with pytest.raises((UsageError, InvalidInput), match=message):
            key_of(use_case, text, fields)


class TestFiles:
    def test_parquet_is_written_without_the_key(self, use_case: UseCase, flight: EntityKey, tmp_path: Path) -> None:
        keys = pl.DataFrame(
            {"date": ["2013-07-01"] * 2, "carrier": ["UA"] * 2, "flight": [1545, 1546], "origin": ["EWR"] * 2}
        )
        (tmp_path / "test_sets").mkdir()
        (tmp_path / "views").mkdir()
        keys.write_parquet(tmp_path / "requests.parquet")
        keys.cast({"flight": pl.Float64}).with_columns(truth=1.0).write_parquet(tmp_path / "truths.parquet")
        keys.select("origin").write_parquet(tmp_path / "views" / "weather.parquet")
        for name in ("older", "newer"):
            frame = pl.DataFrame({"key": [FLIGHT, OTHER], "request.flight": [1545.0, 1546.0]})
            frame.write_parquet(tmp_path / "test_sets" / f"{name}.parquet", metadata={"ninefold": f"card of {name}"})
        for path in ("test_sets/older.parquet", "requests.parquet"):
            os.utime(tmp_path / path, ns=(1, 1_000_000_007))
        before = (tmp_path / "views" / "weather.parquet").read_bytes()
        planned = erase_from_parquet(use_case, flight, tmp_path, dry_run=True)
        assert pl.read_parquet(tmp_path / "requests.parquet").height == 2
        done = erase_from_parquet(use_case, flight, tmp_path)
        assert planned == done
        assert {str(path.relative_to(tmp_path)): rows for path, rows in done.items()} == {
            "requests.parquet": 1, "truths.parquet": 1, "test_sets/newer.parquet": 1, "test_sets/older.parquet": 1,
        }  # fmt: skip
        assert pl.read_parquet(tmp_path / "requests.parquet")["flight"].to_list() == [1546]
        older = tmp_path / "test_sets" / "older.parquet"
        assert pl.read_parquet(older)["key"].to_list() == [OTHER]
        assert pl.read_parquet_metadata(older)["ninefold"] == "card of older"
        assert older.stat().st_mtime_ns == 1_000_000_007
        assert (tmp_path / "requests.parquet").stat().st_mtime_ns != 1_000_000_007
        assert (tmp_path / "views" / "weather.parquet").read_bytes() == before
        assert erase_from_parquet(use_case, flight, tmp_path) == {}

    def test_a_file_that_cannot_be_read_is_named(self, use_case: UseCase, flight: EntityKey, tmp_path: Path) -> None:
        (tmp_path / "truths.parquet").write_bytes(b"?")
        with pytest.raises(DataError, match=r"truths\.parquet can't be read as Parquet, so nobody knows"):
            erase_from_parquet(use_case, flight, tmp_path)

    def test_the_source_is_looked_at(self) -> None:
        churn = load_use_case("churn")
        assert rows_in_source(churn, key_of(churn, "5", [])) == {"requests": 1, "truths": 1, "customer": 1}
        assert rows_in_source(churn, key_of(churn, "100000", [])) == {}


class TestOnline:
    @pytest.fixture
    def online(self, tmp_path: Path) -> Iterator[OnlineStore]:
        store = SQLiteOnlineStore(tmp_path / "online.db")
        store._connection.execute("PRAGMA secure_delete = OFF")
        yield store
        store.close()

    def test_rows_of_the_entity_go_and_those_of_others_stay(
        self, use_case: UseCase, flight: EntityKey, online: OnlineStore, tmp_path: Path
    ) -> None:
        for view in ("remarked_2h", "remarked_3h"):
            online.write(view, [OnlineRow(key, NOW, (1.0, 1)) for key in (FLIGHT, OTHER)])
        online.write("weather", [OnlineRow("EWR", NOW, (1.0,) * 7)])
        online.advance_watermark("remarked_2h", NOW)
        lengths = [{"remarked": "3h", "gone": "1h"}]
        wanted = {"remarked_2h": 1, "remarked_3h": 1}
        assert erase_online(use_case, flight, online, lengths, dry_run=True) == wanted
        assert erase_online(use_case, flight, online, lengths) == wanted
        assert erase_online(use_case, flight, online, lengths) == {}
        rows = online.read_many([("remarked_2h", FLIGHT), ("remarked_2h", OTHER), ("weather", "EWR")])
        assert [row is None for row in rows] == [True, False, False]
        assert online.watermark("remarked_2h") == NOW
        assert not any(FLIGHT.encode() in path.read_bytes() for path in tmp_path.glob("online.db*"))
