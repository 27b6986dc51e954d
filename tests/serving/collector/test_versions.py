"""Windows follow versions while the collector runs: filled back for a new one, kept a while for one that left."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from ninefold.clock import format_instant, parse_duration
from ninefold.online import OnlineRow, open_online_store
from ninefold.windows.batch import changelog
from serving.featurizer import wanted

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
CITIES = ("Rome", "Oslo", "Bonn")
WAIT = {"params": {"wait": "windows"}}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.collector.session.VERSIONS_SECONDS", 0.0)
    monkeypatch.setattr("serving.collector.writer.TICK_SECONDS", 0.05)


def some_events(seed: int, since: float, until: float, count: int = 60) -> list[dict[str, Any]]:
    drawn = random.Random(seed)
    minutes = sorted(drawn.uniform(since, until) for _ in range(count))
    return [
        {
            "id": f"{seed}-{number}", "stream": "arrived",
            "happened_at": format_instant(NOON + timedelta(minutes=round(at, 3))),
            "values": {"city": drawn.choice(CITIES), "late": drawn.choice([None, 0.5, 3.0, -2.5])},
        }
        for number, at in enumerate(minutes)
    ]  # fmt: skip


def as_defined(running: Any, length: str, until: datetime) -> dict[str, tuple[object, ...]]:
    """The newest row of every city by the batch definition of the window, out of the store's log."""
    window = running.use_case.windows[0].of(parse_duration(length, field="length"))
    mine = [e for e in running.store.events_known("rides", "arrived") if e.known_at <= until]
    frame = pl.DataFrame(
        {
            **{name: [e.values[name] for e in mine] for name in ("city", "late")},
            "known_at": [e.known_at for e in mine],
        },
        schema={"city": pl.String, "late": pl.Float64, "known_at": pl.Datetime("us", "UTC")},
    )
    rows = changelog(frame, window).filter(pl.col("known_at") <= until).group_by("city", maintain_order=True).last()
    return {row[0]: row[2:] for row in rows.rows()}


def online(running: Any, view: str) -> dict[str, tuple[object, ...]]:
    return {city: row.values for city in CITIES if isinstance(row := running.row(view, city), OnlineRow)}


def watermarks(running: Any, *views: str) -> dict[str, datetime | None]:
    store = open_online_store(running.settings.online_url)
    try:
        return store.watermarks(views)
    finally:
        store.close()


async def eventually(check: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + 8
    while not check():
        assert asyncio.get_running_loop().time() < deadline, "it did not come to pass"
        await asyncio.sleep(0.02)


async def test_a_candidate_s_window_is_filled_back_as_defined_and_its_watermark_tells_so(collector: Any) -> None:
    async with collector(clock="event") as running:
        until = NOON + timedelta(minutes=90)
        await running.post("/v1/events", {"events": some_events(1, 0, 90), "advance_to": format_instant(until)}, **WAIT)
        # Known, and not yet counted: time has not come so far.
        await running.post("/v1/events", {"events": some_events(2, 91, 100)}, **WAIT)
        assert watermarks(running, "late_1h", "late_25m") == {"late_1h": until, "late_25m": None}
        running.store.register_version("rides", "d" * 64, "somewhere", lengths={"late": "25m"})
        await eventually(lambda: watermarks(running, "late_25m")["late_25m"] is not None)
        assert watermarks(running, "late_1h", "late_25m") == {"late_1h": until, "late_25m": until}
        assert online(running, "late_25m") == as_defined(running, "25m", until)
        for minutes in (95, 97.5, 120, 150):
            until = NOON + timedelta(minutes=minutes)
            await running.post("/v1/events", {"advance_to": format_instant(until)}, **WAIT)
            assert online(running, "late_25m") == as_defined(running, "25m", until)
            assert online(running, "late_1h") == as_defined(running, "1h", until)
            assert set(watermarks(running, "late_1h", "late_25m").values()) == {until}


async def test_by_the_wall_clock_a_filled_window_keeps_up_with_the_others(collector: Any) -> None:
    async with collector(clock="wall") as running:
        events = [{**event, "happened_at": format_instant(datetime.now(UTC))} for event in some_events(3, 0, 1)]
        await running.post("/v1/events", {"events": events}, **WAIT)
        running.store.register_version("rides", "d" * 64, "somewhere", lengths={"late": "2h"})
        await eventually(lambda: watermarks(running, "late_2h")["late_2h"] is not None)
        first = watermarks(running, "late_2h")["late_2h"]
        await eventually(lambda: watermarks(running, "late_2h")["late_2h"] != first)
        marks = watermarks(running, "late_1h", "late_2h", "busy_10m")
        assert len(set(marks.values())) == 1
        assert online(running, "late_2h") == as_defined(running, "2h", datetime.now(UTC))


async def test_a_replaced_version_keeps_its_windows_for_as_long_as_it_may_be_asked(
    collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with collector(clock="event") as running:
        old = running.store.register_version("rides", "a" * 64, "somewhere", lengths={"late": "25m"}).version
        running.store.set_state("rides", old, "live")
        new = running.store.register_version("rides", "b" * 64, "somewhere", lengths={"late": "40m"}).version
        until = NOON + timedelta(minutes=30)
        await running.post("/v1/events", {"events": some_events(1, 0, 30), "advance_to": format_instant(until)}, **WAIT)
        await eventually(lambda: watermarks(running, "late_40m")["late_40m"] is not None)
        running.store.set_state("rides", new, "live")
        # Several looks at the versions later, the one that still answers has all that it needs.
        await asyncio.sleep(0.5)
        until = NOON + timedelta(minutes=50)
        await running.post("/v1/events", {"advance_to": format_instant(until)}, **WAIT)
        assert online(running, "late_25m") == as_defined(running, "25m", until)
        monkeypatch.setattr(wanted, "FORGET_SECONDS", 0.3)
        await eventually(lambda: watermarks(running, "late_25m", "late_40m") == {"late_25m": None, "late_40m": until})
        assert online(running, "late_25m") == {}


async def test_a_candidate_of_newer_code_does_not_stop_the_collector(collector: Any) -> None:
    async with collector(clock="event") as running:
        running.store.register_version("rides", "d" * 64, "somewhere", lengths={"wind": "1h"})
        await asyncio.sleep(0.3)
        until = NOON + timedelta(minutes=30)
        await running.post("/v1/events", {"events": some_events(1, 0, 30), "advance_to": format_instant(until)}, **WAIT)
        assert online(running, "late_1h") == as_defined(running, "1h", until)
        assert (await running.http.get("/readyz")).status_code == 200
