"""What stands online is what training reads offline, through restarts, losses and new windows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.errors import DataError, NinefoldError, StoreError
from ninefold.features import Stream
from ninefold.fields import Field, Input, Metric
from ninefold.online import OnlineRow, OnlineStore, SQLiteOnlineStore
from ninefold.records import Event, ModelVersion, entity_key
from ninefold.splits import HashSplit
from ninefold.store import open_store
from ninefold.usecase import UseCase
from ninefold.windows import Window
from ninefold.windows.batch import changelog
from serving.featurizer import StreamingFeaturizer, lift, open_windows, without_windows

START = datetime(2013, 7, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def window(name: str, seconds: int, key: tuple[str, ...] = ("dest",), value: str = "gain") -> Window:
    return Window(name=name, stream="landings", key=key, value=value, length=seconds * SECOND)


WINDOWS = {w.view: w for w in (window("short", 2), window("long", 7), window("route", 4, ("carrier", "dest"), "delay"))}
ADDED = {w.view: w for w in (window("short", 5), window("long", 7))}


def event(
    name: str, known_at: datetime, dest: str | None = "BOS", gain: float | None = 1.0, stream: str = "landings"
) -> Event:
    return Event(
        event_id=name,
        use_case="rides",
        stream=stream,
        happened_at=known_at,
        known_at=known_at,
        received_at=known_at,
        values={"dest": dest, "carrier": "UA", "gain": gain, "delay": 3.0},
    )


class Log:
    """A log in a list."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, stream: str, *, since: datetime | None) -> Iterator[Event]:
        mine = [e for e in self.events if e.stream == stream and (since is None or e.known_at >= since)]
        return iter(sorted(mine, key=lambda e: e.known_at))


def expected(log: Log, w: Window, watermark: datetime) -> dict[str, tuple[object, ...]]:
    """The newest row of every key at the watermark, out of the batch changelog of the log."""
    mine = [e for e in log.events if e.stream == w.stream and e.known_at <= watermark]
    frame = pl.DataFrame(
        {
            **{name: [e.values[name] for e in mine] for name in (*w.key, w.value)},
            "known_at": [e.known_at for e in mine],
        },
        schema={**dict.fromkeys(w.key, pl.String), w.value: pl.Float64, "known_at": pl.Datetime("us", "UTC")},
    )
    rows = changelog(frame, w).filter(pl.col("known_at") <= watermark).group_by(w.key, maintain_order=True).last()
    width = len(w.key)
    return {entity_key(row[:width]): row[width + 1 :] for row in rows.rows()}


def online_values(online: OnlineStore, w: Window, keys: Iterable[str]) -> dict[str, tuple[object, ...]]:
    rows = online.read_many([(w.view, key) for key in keys])
    return {row.key: row.values for row in rows if row is not None}


KEYS = ["BOS", "LAX", "UA|BOS", "UA|LAX"]
moments = st.integers(0, 40).map(lambda n: START + n * SECOND / 2)
happened = st.builds(
    lambda at, dest, gain: (at, dest, gain),
    moments,
    st.sampled_from(["BOS", "LAX", None]),
    st.sampled_from([None, 0.5, 1.0, -7.0, 30.0]),
)
steps = st.one_of(
    st.tuples(st.just("events"), st.lists(happened, max_size=6), moments),
    st.tuples(st.sampled_from(["restart", "lost", "windows"]), st.just([]), moments),
)


@given(st.lists(steps, max_size=12))
@settings(max_examples=40, deadline=None)
def test_online_rows_are_the_changelog_through_restarts_losses_and_new_windows(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, list[tuple[datetime, str, float]], datetime]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # A log is read in pieces; here the pieces are small.
        patch.setattr("serving.featurizer.engine._REPLAYED_AT_ONCE", 3)
        go_through(steps, tmp_path_factory.mktemp("online"))


def go_through(steps: list[tuple[str, list[tuple[datetime, str, float]], datetime]], path: Path) -> None:
    log, windows, stores = Log(), WINDOWS, 0
    online: OnlineStore = SQLiteOnlineStore(path / "0.db")
    engine = StreamingFeaturizer(windows, online, log)
    engine.restore()
    for kind, batch, to in [*steps, ("events", [], START + 30 * SECOND)]:
        if kind == "events":
            sent = [event(f"{len(log.events)}-{i}", at, dest, gain) for i, (at, dest, gain) in enumerate(batch)]
            accepted = lift(sent, engine.watermark)
            log.events += accepted
            engine.apply(accepted)
            engine.advance(to)
            engine.flush()
        elif kind == "windows":
            windows = ADDED if windows is WINDOWS else WINDOWS
            engine.use(windows)
        else:
            if kind == "lost":
                stores += 1
                online.close()
                online = SQLiteOnlineStore(path / f"{stores}.db")
            before = engine.watermark
            engine = StreamingFeaturizer(windows, online, log)
            engine.restore(before)
        assert engine.views == set(windows)
        mark = engine.watermark
        if mark is not None:
            for w in windows.values():
                assert online_values(online, w, KEYS) == expected(log, w, mark)
                assert online.watermark(w.view) == mark
    online.close()


def test_a_first_start_reaches_as_far_as_the_log_and_a_quiet_key_has_an_empty_row(tmp_path: Path) -> None:
    log = Log()
    log.events = [event("a", START), event("b", START + 60 * SECOND, "LAX")]
    online = SQLiteOnlineStore(tmp_path / "online.db")
    engine = StreamingFeaturizer(WINDOWS, online, log)
    engine.restore()
    assert engine.watermark == START + 60 * SECOND
    assert online.read_many([("short_2s", "BOS"), ("short_2s", "LAX")]) == [
        OnlineRow("BOS", START + 2 * SECOND, (None, 0)),
        OnlineRow("LAX", START + 60 * SECOND, (1.0, 1)),
    ]
    online.close()


def test_events_that_were_logged_but_not_counted_before_a_crash_are_counted_after_it(tmp_path: Path) -> None:
    online = SQLiteOnlineStore(tmp_path / "online.db")
    log = Log()
    engine = StreamingFeaturizer(WINDOWS, online, log)
    engine.restore()
    engine.advance(START)
    engine.flush()
    log.events.append(event("a", START + SECOND))

    after = StreamingFeaturizer(WINDOWS, online, log)
    after.restore()
    assert after.watermark == START
    assert online.read_many([("short_2s", "BOS")]) == [None]
    after.advance(START + SECOND)
    after.flush()
    assert online.read_many([("short_2s", "BOS")]) == [OnlineRow("BOS", START + SECOND, (1.0, 1))]
    online.close()


def test_what_was_inside_before_a_restart_leaves_after_it(tmp_path: Path) -> None:
    online = SQLiteOnlineStore(tmp_path / "online.db")
    log = Log()
    log.events = [event("a", START), event("b", START + SECOND)]
    first = StreamingFeaturizer(WINDOWS, online, log)
    first.restore(START + SECOND)

    second = StreamingFeaturizer(WINDOWS, online, log)
    second.restore()
    for seconds, count in ((1, 2), (2, 1), (3, 0)):
        second.advance(START + seconds * SECOND)
        second.flush()
        (row,) = online.read_many([("short_2s", "BOS")])
        assert row is not None
        assert row.values[1] == count
    online.close()


def test_late_events_are_lifted_just_past_the_watermark() -> None:
    late, on_time = event("a", START), event("b", START + SECOND)
    lifted = lift([late, on_time], START)
    assert [e.known_at - START for e in lifted] == [timedelta(microseconds=1), SECOND]
    assert lifted[0].happened_at == START
    assert lift([late], None) == [late]


def test_the_watermark_moves_in_every_view_also_when_nothing_happens(tmp_path: Path) -> None:
    online = SQLiteOnlineStore(tmp_path / "online.db")
    engine = StreamingFeaturizer(WINDOWS, online, Log())
    engine.restore()
    for seconds in (1, 5, 3):
        engine.advance(START + seconds * SECOND)
        engine.flush()
    assert set(online.watermarks(WINDOWS).values()) == {START + 5 * SECOND}
    online.close()


def test_a_window_that_comes_before_any_time_has_passed_waits_with_the_others(tmp_path: Path) -> None:
    online = SQLiteOnlineStore(tmp_path / "online.db")
    log = Log()
    engine = StreamingFeaturizer(WINDOWS, online, log)
    engine.restore()
    log.events = [event("a", START), event("b", START + 5 * SECOND, "LAX")]
    engine.apply(log.events)
    engine.use(ADDED)
    assert engine.watermark is None
    assert set(online.watermarks(ADDED).values()) == {None}
    for seconds in (0, 2, 6):
        engine.advance(START + seconds * SECOND)
        engine.flush()
        for w in ADDED.values():
            assert online_values(online, w, KEYS) == expected(log, w, START + seconds * SECOND)
            assert online.watermark(w.view) == START + seconds * SECOND
    online.close()


class Stubborn(SQLiteOnlineStore):
    """An online store that refuses while it is told to."""

    refusing = False

    def write_views(self, rows: Mapping[str, Iterable[OnlineRow]], watermark: datetime, **options: Any) -> int:
        if self.refusing:
            raise StoreError("The disk is full.")
        return super().write_views(rows, watermark, **options)


def test_rows_that_can_not_be_written_wait_and_the_watermark_with_them(tmp_path: Path) -> None:
    online = Stubborn(tmp_path / "online.db")
    engine = StreamingFeaturizer(WINDOWS, online, Log())
    engine.restore()
    online.refusing = True
    engine.apply([event("a", START)])
    engine.advance(START)
    with pytest.raises(StoreError):
        engine.flush()
    assert online.watermark("short_2s") is None
    online.refusing = False
    engine.advance(START + SECOND)
    engine.flush()
    assert online.read_many([("short_2s", "BOS")]) == [OnlineRow("BOS", START, (1.0, 1))]
    assert online.watermark("short_2s") == START + SECOND
    online.close()


def test_an_event_behind_the_watermark_is_refused_when_nobody_lifted_it(tmp_path: Path) -> None:
    online = SQLiteOnlineStore(tmp_path / "online.db")
    engine = StreamingFeaturizer(WINDOWS, online, Log())
    engine.restore(START)
    with pytest.raises(DataError, match="Lift late events"):
        engine.apply([event("a", START)])
    online.close()


def test_windows_that_are_closed_leave_nothing_online(tmp_path: Path) -> None:
    online = SQLiteOnlineStore(tmp_path / "online.db")
    log = Log()
    log.events = [event("a", START)]
    engine = StreamingFeaturizer(WINDOWS, online, log)
    engine.restore()
    engine.use({})
    assert online.read_many([(view, "BOS") for view in WINDOWS]) == [None] * len(WINDOWS)
    assert set(online.watermarks(WINDOWS).values()) == {None}
    online.close()


def rides() -> UseCase:
    return UseCase(
        name="rides",
        title="Rides",
        problem="regression",
        request=(Field(name="dest", kind="category"),),
        key=("dest",),
        target=Field(name="gain", kind="number"),
        metric=Metric(name="mae", direction="minimize"),
        extract="x:y",
        split=HashSplit(),
        inputs=(Input(name="a"),),
        derive=dict,
        baseline=lambda columns: columns["a"],
        decide=lambda request, prediction: None,
        block=lambda columns: columns["dest"],
        streams=(
            Stream(name="landings", fields=(Field(name="dest", kind="category"), Field(name="gain", kind="number"))),
        ),
        windows=(window("short", 2), window("long", 7)),
    )


def version(number: int, state: str, **lengths: str) -> ModelVersion:
    return ModelVersion(
        use_case="rides", version=number, digest="", uri="", state=state, created_at=START,  # type: ignore[arg-type]
        lengths=lengths,
    )  # fmt: skip


def test_open_windows_are_the_declared_ones_and_those_of_versions_that_are_not_retired() -> None:
    versions = [version(1, "retired", short="9s"), version(2, "live", short="4s"), version(3, "registered", long="1m")]
    assert set(open_windows(rides(), versions)) == {"short_2s", "short_4s", "long_7s", "long_1m"}


@pytest.mark.parametrize("lengths", [{"wind": "1h"}, {"short": "for ever"}, {"short": "5s", "wind": "1h"}])
def test_what_a_candidate_of_newer_code_needs_stops_nobody_and_is_told(lengths: dict[str, str]) -> None:
    versions = [version(1, "live", short="4s"), version(2, "registered", **lengths)]
    assert set(open_windows(rides(), versions)) == {"short_2s", "short_4s", "long_7s"}
    assert list(without_windows(rides(), versions)) == [2]
    with pytest.raises(NinefoldError):
        open_windows(rides(), [version(2, "live", **lengths)])
    assert without_windows(rides(), [version(2, "retired", **lengths)]) == {}


def test_thirty_days_of_a_thousand_events_are_restored_from_the_store_in_seconds(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    step = timedelta(days=30) / 30_000
    store.write_events(event(str(n), START + n * step, f"D{n % 100}", float(n % 60)) for n in range(30_000))
    windows = {w.view: w for w in (window("a", 10_800), window("b", 21_600), window("c", 86_400), window("d", 3_600))}
    online = SQLiteOnlineStore(tmp_path / "online.db")
    engine = StreamingFeaturizer(
        windows, online, lambda stream, *, since: store.events_known("rides", stream, since=since)
    )
    began = time.process_time()
    engine.restore()
    assert time.process_time() - began < 2.0
    assert engine.watermark == START + 29_999 * step
    (row,) = online.read_many([("c_1d", "D99")])
    assert row is not None
    assert row.values[1] == 10
    online.close()
    store.close()
