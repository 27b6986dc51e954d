"""The store keeps every record once, keeps all history, and gives back what it got; on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ninefold.clock import EventClock
from ninefold.errors import DataError, NotFound, StoreError
from ninefold.records import Event, Prediction, Truth, TruthSource
from ninefold.store import Measurement, Run, Store, open_store
from ninefold.store.rows import EVENTS
from ninefold.store.writing import CHUNK, EVENTS_LOCK, insert_new

START = datetime(2013, 7, 1, 12, 30, 0, 123456, tzinfo=UTC)


def prediction(number: int = 0, **changes: Any) -> Prediction:
    made = Prediction(
        prediction_id=f"p{number:05d}",
        use_case="arrivals",
        request_id=f"client#{number}",
        key=f"2013-07-01|UA|{number % 7}|EWR",
        decided_at=START + timedelta(minutes=number),
        received_at=START + timedelta(minutes=number, microseconds=1),
        version=3,
        cohort="live",
        request={"carrier": "UA", "note": "naïve ☃ ' \" \\", "flight": 1545.0},
        features={"plane__year": None, "weather__wind": 12.5, "plane__maker": "BOEING"},
        value=-3.25,
        fallback=None,
        flags=("unseen:carrier", "missing:plane"),
        latency_ms=1.75,
    )
    return replace(made, **changes)


def truth(number: int = 0, **changes: Any) -> Truth:
    made = Truth(
        truth_id=f"t{number:05d}", use_case="arrivals", key="a", value=float(number), known_at=START, received_at=START
    )
    return replace(made, **changes)


def event(number: int = 0, **changes: Any) -> Event:
    made = Event(
        event_id=f"e{number:05d}",
        use_case="arrivals",
        stream="landings",
        happened_at=START + timedelta(minutes=number),
        known_at=START + timedelta(minutes=number + 1),
        received_at=START,
        values={"dest": "IAH", "gain": -4.0, "tail": None},
    )
    return replace(made, **changes)


class TestPredictions:
    def test_one_comes_back_as_it_went_in(self, store: Store) -> None:
        given = prediction(fallback="model_slow")
        assert store.write_predictions([given]) == 1
        assert store.prediction("p00000") == given
        assert store.prediction("p00001") is None

    def test_writing_again_changes_nothing(self, store: Store) -> None:
        given = [prediction(n) for n in range(10)]
        assert store.write_predictions(given) == 10
        again = store.write_predictions([*given, prediction(10)])
        assert (again, again.repeated, again.conflicts) == (1, 10, ())
        assert list(store.predictions("arrivals")) == [*given, prediction(10)]

    def test_more_than_a_chunk_is_written_and_counted(self, store: Store) -> None:
        many = CHUNK + 100
        assert store.write_predictions(prediction(n) for n in range(many)) == many
        assert store.write_predictions(prediction(n) for n in range(many + 1)) == 1
        assert sum(1 for _ in store.predictions("arrivals")) == many + 1

    def test_a_retry_that_was_stamped_later_is_no_conflict(self, store: Store) -> None:
        store.write_predictions([prediction()])
        again = store.write_predictions([prediction(received_at=START + timedelta(hours=1), latency_ms=9.0)])
        assert (again, again.repeated, again.conflicts) == (0, 1, ())
        assert store.prediction("p00000") == prediction()

    def test_another_content_under_the_same_id_is_kept_aside_and_reported(self, store: Store) -> None:
        changes: list[dict[str, Any]] = [
            {"value": 1.0}, {"features": {"weather__wind": None}}, {"request": {}}, {"key": "b"}, {"use_case": "churn"},
            {"flags": ()}, {"request_id": None}, {"fallback": "no_model"}, {"version": 4}, {"cohort": "canary"},
            {"decided_at": START - timedelta(microseconds=1)},
        ]  # fmt: skip
        first = [prediction(n) for n in range(len(changes))]
        others = [prediction(n, **change) for n, change in enumerate(changes)]
        store.write_predictions(first)
        again = store.write_predictions([prediction(99), *others])
        assert (again, again.repeated) == (1, len(changes))
        assert again.conflicts == tuple(p.prediction_id for p in first)
        assert [store.prediction(p.prediction_id) for p in first] == first
        store.write_predictions(others)
        kept = sorted(store.conflicts(), key=lambda c: c.record_id)
        assert [c.record_id for c in kept] == [p.prediction_id for p in first]
        assert {c.kind for c in kept} == {"predictions"}
        assert (kept[0].content["value"], kept[4].use_case) == (1.0, "churn")

    def test_of_two_contents_in_one_batch_the_first_stands(self, store: Store) -> None:
        written = store.write_predictions([prediction(value=1.0), prediction(value=2.0)])
        assert (written, written.conflicts) == (1, ("p00000",))
        assert [p.value for p in store.predictions("arrivals")] == [1.0]

    def test_what_json_makes_equal_is_no_conflict(self, store: Store) -> None:
        store.write_predictions([prediction(features={"a": 1, "when": START, "b": 1e300, "n": float("nan")})])
        same = MappingProxyType({"b": 1e300, "when": START, "a": 1.0, "n": float("nan")})
        assert store.write_predictions([prediction(features=same)]).conflicts == ()

    def test_reads_are_narrowed_by_time_version_key_and_use_case(self, store: Store) -> None:
        store.write_predictions(
            [*(prediction(n, version=n % 2) for n in range(20)), prediction(99, use_case="churn", decided_at=START)]
        )

        def read(**arguments: Any) -> list[int]:
            return [int(p.prediction_id[1:]) for p in store.predictions("arrivals", **arguments)]

        assert read() == list(range(20))
        assert read(since=START + timedelta(minutes=5), until=START + timedelta(minutes=8)) == [5, 6, 7]
        assert read(version=1, limit=3) == [1, 3, 5]
        assert read(key="2013-07-01|UA|3|EWR") == [3, 10, 17]
        assert [p.prediction_id for p in store.predictions("churn")] == ["p00099"]

    def test_a_value_that_is_no_number_is_refused_by_name(self, store: Store) -> None:
        for value in (float("nan"), float("inf"), None, "fast"):
            with pytest.raises(DataError, match="'p00000' of predictions can't be kept"):
                store.write_predictions([prediction(value=value)])

    def test_a_naive_time_is_refused(self, store: Store) -> None:
        with pytest.raises(DataError, match="naive"):
            store.write_predictions([prediction(decided_at=datetime(2013, 7, 1))])

    def test_a_feature_that_is_no_json_is_refused(self, store: Store) -> None:
        with pytest.raises(DataError, match="can't be kept as JSON"):
            store.write_predictions([prediction(features={"a": {1, 2}})])
        with pytest.raises(DataError, match="can't keep a value"):
            store.write_predictions([prediction(version=2**80)])

    def test_a_reader_that_stops_half_way_frees_its_connection(self, store: Store) -> None:
        store.write_predictions(prediction(n) for n in range(3_000))
        for _ in range(40):
            assert next(store.predictions("arrivals")).prediction_id == "p00000"
        assert store.write_predictions([prediction(4_000)]) == 1

    def test_text_that_looks_like_sql_is_text(self, store: Store) -> None:
        key = "a'; DROP TABLE predictions; --"
        store.write_predictions([prediction(key=key)])
        assert [p.key for p in store.predictions("arrivals", key=key)] == [key]
        assert list(store.predictions("arrivals", key="' OR '1'='1")) == []


class TestTruths:
    def test_history_is_kept_and_the_newest_known_wins(self, store: Store) -> None:
        first, corrected = truth(1), truth(2, known_at=START + timedelta(hours=1))
        assert store.write_truths([corrected]) == 1
        assert store.write_truths([first, corrected]) == 1
        assert list(store.truths("arrivals")) == [corrected]
        assert list(store.truths("arrivals", known_until=START)) == [first]
        assert list(store.truths("arrivals", known_until=START - timedelta(microseconds=1))) == []
        assert store.truth_history("arrivals", "a") == [corrected, first]

    def test_the_organisations_own_word_stands_whatever_users_say_later(self, store: Store) -> None:
        later = START + timedelta(days=1)
        own, said = truth(1), truth(2, known_at=later, source="user", annotator="ann")
        labelled = truth(3, known_at=START - timedelta(hours=1), source="labeller")
        store.write_truths([said, own, labelled])
        assert list(store.truths("arrivals")) == [own]
        assert list(store.truths("arrivals", known_until=START - timedelta(minutes=1))) == [labelled]
        assert store.truth_history("arrivals", "a") == [own, labelled, said]

    def test_ties_go_by_receipt_and_then_by_id_whatever_the_locale(self, store: Store) -> None:
        late = truth(0, received_at=START + timedelta(seconds=1))
        # A locale may put "B" behind "a".
        upper, lower = truth(truth_id="B", key="b"), truth(truth_id="a", key="b")
        store.write_truths([late, truth(1), upper, lower])
        assert [t.truth_id for t in store.truths("arrivals")] == [late.truth_id, "a"]

    def test_a_truth_that_changes_under_its_id_is_a_conflict(self, store: Store) -> None:
        store.write_truths([truth(value=1.0)])
        assert store.write_truths([truth(value=2.0)]).conflicts == ("t00000",)
        assert store.write_truths([truth(value=1.0, received_at=START + timedelta(days=1))]).conflicts == ()
        assert [t.value for t in store.truths("arrivals")] == [1.0]

    def test_a_truth_without_a_prediction_is_kept(self, store: Store) -> None:
        store.write_truths([truth(key="never asked")])
        assert store.truth_history("arrivals", "never asked")


class TestJoined:
    def test_every_prediction_of_a_key_gets_its_newest_truth(self, store: Store) -> None:
        store.write_predictions([prediction(0, key="a"), prediction(1, key="a"), prediction(2, key="b")])
        old, new = truth(1, known_at=START + timedelta(hours=1)), truth(2, known_at=START + timedelta(hours=2))
        store.write_truths([new, old, truth(3, use_case="churn", key="b")])

        def read(**arguments: Any) -> list[tuple[str, float | None]]:
            return [
                (j.prediction.prediction_id, j.truth and j.truth.value) for j in store.joined("arrivals", **arguments)
            ]

        assert read() == [("p00000", 2.0), ("p00001", 2.0), ("p00002", None)]
        assert read(known_until=START + timedelta(hours=1)) == [("p00000", 1.0), ("p00001", 1.0), ("p00002", None)]
        assert read(known_until=START)[0] == ("p00000", None)
        assert read(since=START + timedelta(minutes=1), until=START + timedelta(minutes=2)) == [("p00001", 2.0)]
        assert next(store.joined("arrivals")).truth == new
        assert next(store.joined("arrivals")).prediction == prediction(0, key="a")


class TestEvents:
    def test_they_are_tailed_in_the_order_of_arrival(self, store: Store) -> None:
        given = [event(3), event(1), event(2, stream="departures"), event(0)]
        assert store.write_events(given) == 4
        first, cursor = store.events("arrivals", limit=3)
        assert first == given[:3]
        assert store.write_events([event(9), event(1)]) == 1
        rest, last = store.events("arrivals", after_cursor=cursor)
        assert rest == [event(0), event(9)]
        assert store.events("arrivals", after_cursor=last) == ([], last)
        assert [e.event_id for e in store.events("arrivals", "departures")[0]] == ["e00002"]

    def test_the_log_is_read_by_when_it_was_known(self, store: Store) -> None:
        store.write_events([event(3), event(1), event(2)])
        read = store.events_known("arrivals", "landings", since=START, until=START + timedelta(minutes=4))
        assert list(read) == [event(1), event(2)]

    def test_a_retry_that_was_lifted_past_the_watermark_is_no_conflict(self, store: Store) -> None:
        store.write_events([event()])
        assert store.write_events([event(known_at=START + timedelta(days=1))]).conflicts == ()
        assert store.write_events([event(values={"gain": 1.0})]).conflicts == ("e00000",)

    def test_the_number_of_a_deleted_event_is_not_given_again(self, store: Store) -> None:
        store.write_events([event(0), event(1)])
        _, cursor = store.events("arrivals")
        with store.writing() as connection:
            connection.execute(sa.delete(EVENTS.table).where(EVENTS.table.c.event_id == "e00001"))
        store.write_events([event(2)])
        assert store.events("arrivals", after_cursor=cursor)[0] == [event(2)]

    def test_a_late_commit_does_not_slip_past_who_tails(self, url: str, store: Store) -> None:
        """Two transactions: the first to get a number commits last. The tail must see both."""
        slow, entered, finish = open_store(url), threading.Event(), threading.Event()

        def write_slowly() -> None:
            with slow.writing(alone=EVENTS_LOCK) as connection:
                insert_new(connection, EVENTS.table, [EVENTS.encode(event(0))])
                entered.set()
                finish.wait(10)

        first = threading.Thread(target=write_slowly)
        first.start()
        assert entered.wait(10)
        second = threading.Thread(target=store.write_events, args=([event(1)],))
        second.start()
        second.join(0.3)
        seen, cursor = store.events("arrivals")
        finish.set()
        first.join()
        second.join()
        seen += store.events("arrivals", after_cursor=cursor)[0]
        assert sorted(e.event_id for e in seen) == ["e00000", "e00001"]
        slow.close()


class TestVersions:
    def test_a_package_gets_one_number_for_good(self, url: str) -> None:
        clock = EventClock(START)
        store = open_store(url, clock=clock)
        first = store.register_version("arrivals", "d1", "file:///m/d1", {"mae": 13.6}, {"destination_gain": "6h"})
        clock.advance(START + timedelta(days=1))
        assert store.register_version("arrivals", "d1", "file:///elsewhere") == first
        assert (first.version, first.state, first.created_at) == (1, "registered", START)
        assert (first.metrics, first.lengths) == ({"mae": 13.6}, {"destination_gain": "6h"})
        assert store.register_version("arrivals", "d2", "u").version == 2
        assert store.register_version("churn", "d1", "u").version == 1
        assert [v.version for v in store.versions("arrivals")] == [1, 2]
        store.close()

    def test_the_baseline_is_zero_and_follows_its_code(self, store: Store) -> None:
        assert store.register_version("arrivals", "b1", "u", version=0).version == 0
        store.set_state("arrivals", 0, "live")
        replaced = store.register_version("arrivals", "b2", "u2", version=0)
        assert (replaced.version, replaced.digest, replaced.state) == (0, "b2", "live")
        assert store.register_version("arrivals", "d1", "u").version == 1
        assert store.register_version("arrivals", "b2", "u2").version == 0

    def test_a_version_says_its_packages_format(self, store: Store) -> None:
        store.register_version("arrivals", "a" * 64, "/a", version=0)
        store.register_version("arrivals", "b" * 64, "/b")
        store.register_version("arrivals", "c" * 64, "/c", model_format="pmml")
        assert [one.format for one in store.versions("arrivals")] == ["baseline", "onnx", "pmml"]

    def test_versions_are_immutable(self, store: Store) -> None:
        store.register_version("arrivals", "d1", "u", version=1)
        with pytest.raises(StoreError, match="Version 1 of arrivals is the package d1"):
            store.register_version("arrivals", "d2", "u", version=1)
        with pytest.raises(StoreError, match="can't be 2 too"):
            store.register_version("arrivals", "d1", "u", version=2)

    def test_one_is_live(self, store: Store) -> None:
        for digest in ("d1", "d2"):
            store.register_version("arrivals", digest, "u")
        assert store.live_version("arrivals") is None
        store.set_state("arrivals", 1, "live")
        assert store.set_state("arrivals", 2, "live").state == "live"
        live = store.live_version("arrivals")
        assert live is not None
        assert live.version == 2
        assert [v.state for v in store.versions("arrivals")] == ["retired", "live"]
        assert store.version("arrivals", 1) == store.versions("arrivals")[0]
        with pytest.raises(NotFound, match="arrivals has no version 9"):
            store.set_state("arrivals", 9, "live")

    def test_many_at_once_get_different_numbers(self, url: str, store: Store) -> None:
        threads = [
            threading.Thread(target=store.register_version, args=("arrivals", f"d{n % 6}", "u")) for n in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [v.version for v in store.versions("arrivals")] == [1, 2, 3, 4, 5, 6]


class TestLedger:
    def test_measurements_are_kept_once_and_missing_is_not_zero(self, store: Store) -> None:
        def measured(value: float | None, **changes: Any) -> Measurement:
            made = Measurement(use_case="arrivals", version=1, name="mae", value=value, at=START, window="offline")
            return replace(made, **changes)

        given = [measured(13.6), measured(None, slice="carrier=UA"), measured(9.0, at=START + timedelta(days=1))]
        assert store.write_metrics(given) == 3
        assert store.write_metrics(given) == 0
        assert store.write_metrics([]) == 0
        assert store.metrics("arrivals") == given
        assert (
            store.metrics("arrivals", "mae", version=1, window="offline", until=START + timedelta(days=1)) == given[:2]
        )
        assert store.metrics("arrivals", "auc") == store.metrics("arrivals", since=START + timedelta(days=2)) == []

    def test_a_run_goes_from_asked_to_ended(self, url: str) -> None:
        clock = EventClock(START)
        store = open_store(url, clock=clock)
        asked = Run(
            run_id="r1", pipeline="training", use_case="arrivals", state="requested", started_at=START,
            parameters={"until": "2013-07-01"},
        )  # fmt: skip
        assert store.write_run(asked)
        assert not store.write_run(replace(asked, state="failed"))
        assert store.runs("arrivals", state="requested") == [asked]
        taken = [store.update_run("r1", state="running", step="extract", expected="requested") for _ in range(2)]
        assert taken == [True, False]
        clock.advance(START + timedelta(minutes=5))
        assert store.update_run("r1", state="failed", error="no data")
        ended = replace(asked, state="failed", step="extract", error="no data", ended_at=START + timedelta(minutes=5))
        assert store.run("r1") == ended
        assert store.run("r2") is None
        assert not store.update_run("r2", state="failed")
        assert store.runs(pipeline="tuning") == []
        store.close()


class TestArrow:
    def test_a_bulk_read_has_types_and_is_narrowed(self, store: Store) -> None:
        import orjson
        import pyarrow as pa

        store.write_predictions(prediction(n) for n in range(5))
        table = store.arrow("predictions", "arrivals", START + timedelta(minutes=1), START + timedelta(minutes=4))
        assert table["prediction_id"].to_pylist() == ["p00001", "p00002", "p00003"]
        assert table.schema.field("decided_at").type == pa.timestamp("us", tz="UTC")
        assert table["decided_at"].to_pylist()[0] == START + timedelta(minutes=1)
        assert orjson.loads(table["features"][0].as_py()) == prediction().features
        assert table["value"].type == pa.float64()

    def test_truths_come_with_all_history_and_nothing_is_a_table_too(self, store: Store) -> None:
        store.write_truths([truth(0), truth(1)])
        assert store.arrow("truths", "arrivals").num_rows == 2
        empty = store.arrow("events", "arrivals")
        assert empty.num_rows == 0
        assert "known_at" in empty.column_names


def _newest(truths: Sequence[Truth]) -> Truth:
    trusted = ["user", "labeller", "system"]
    return max(truths, key=lambda t: (trusted.index(t.source), t.known_at, t.received_at, t.truth_id))


_use_cases = itertools.count()
_MOMENTS = st.integers(0, 3).map(lambda n: START + timedelta(seconds=n))
_SOURCES = st.sampled_from(["system", "user", "labeller"])
_HISTORIES = st.lists(st.tuples(st.sampled_from("abc"), _MOMENTS, _MOMENTS, _SOURCES), min_size=1, max_size=12)
# A store per example would take most of the time; each example has a use case of its own instead.
_laws = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_laws
@given(history=_HISTORIES, data=st.data())
def test_the_most_trusted_newest_known_truth_wins_whenever_and_however_often_it_came(
    store: Store, history: list[tuple[str, datetime, datetime, TruthSource]], data: st.DataObject
) -> None:
    use_case = f"case{next(_use_cases)}"
    truths = [
        truth(
            use_case=use_case,
            truth_id=f"{use_case}-{n}",
            key=key,
            value=float(n),
            known_at=known,
            received_at=received,
            source=source,
        )
        for n, (key, known, received, source) in enumerate(history)
    ]
    arrivals = data.draw(st.permutations(truths + data.draw(st.lists(st.sampled_from(truths), max_size=6))))
    new = 0
    while arrivals:
        size = data.draw(st.integers(1, len(arrivals)))
        batch, arrivals = arrivals[:size], arrivals[size:]
        written = store.write_truths(batch)
        assert written.repeated == len(batch) - written
        assert written.conflicts == ()
        new += written
    assert new == len(truths)
    known_until = data.draw(_MOMENTS)
    for until, known in ((None, truths), (known_until, [t for t in truths if t.known_at <= known_until])):
        newest = [_newest([t for t in known if t.key == key]) for key in sorted({t.key for t in known})]
        assert list(store.truths(use_case, known_until=until)) == newest
    for key in {t.key for t in truths}:
        assert store.truth_history(use_case, key)[0] == _newest([t for t in truths if t.key == key])


@_laws
@given(
    numbers=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    values=st.lists(st.sampled_from([1.0, 2.0]), min_size=12, max_size=12),
    cut=st.integers(0, 12),
)
def test_the_first_content_of_an_id_stands_and_every_other_is_reported(
    store: Store, numbers: list[int], values: list[float], cut: int
) -> None:
    use_case = f"case{next(_use_cases)}"
    arrivals = [
        prediction(prediction_id=f"{use_case}-{n}", use_case=use_case, value=value)
        for n, value in zip(numbers, values, strict=False)
    ]
    first: dict[str, Prediction] = {}
    for record in arrivals:
        first.setdefault(record.prediction_id, record)
    written = [store.write_predictions(arrivals[:cut]), store.write_predictions(arrivals[cut:])]
    assert sum(written) == len(first)
    assert sum(w.repeated for w in written) == len(arrivals) - len(first)
    assert sorted(i for w in written for i in w.conflicts) == sorted(
        r.prediction_id for r in arrivals if r.value != first[r.prediction_id].value
    )
    assert {p.prediction_id: p for p in store.predictions(use_case)} == first


def test_two_writers_with_the_same_records_in_other_orders_both_end(url: str, store: Store) -> None:
    records = [prediction(n) for n in range(2_000)]
    other, counts = open_store(url), []
    threads = [
        threading.Thread(target=lambda s=s, r=r: counts.append(s.write_predictions(r)))
        for s, r in ((store, records), (other, records[::-1]))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 2_000
    other.close()


def test_the_front_end_imports_no_arrow_and_no_alembic() -> None:
    program = (
        "import sys, ninefold.store; print([m for m in ('pyarrow', 'alembic', 'polars', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
