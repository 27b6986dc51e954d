"""Events: kept once, counted once, at the instant at which they were known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ninefold.clock import format_instant, parse_instant
from ninefold.online import OnlineRow
from serving.collector.intake import Intake
from serving.collector.keeper import Batch
from serving.collector.session import CollectorSession


def at(minutes: float) -> datetime:
    return datetime(2013, 7, 1, 12, tzinfo=UTC) + timedelta(minutes=minutes)


def arrival(minutes: float, late: float | None = 1.0, city: str = "Rome", **more: Any) -> dict[str, Any]:
    values = {"city": city, "late": late}
    return {"stream": "arrived", "happened_at": format_instant(at(minutes)), "values": values, **more}


def batch(*events: dict[str, Any], to: float | None = None) -> dict[str, Any]:
    return {"events": list(events), **({} if to is None else {"advance_to": format_instant(at(to))})}


WAIT = {"params": {"wait": "windows"}}


async def test_windows_are_written_when_the_answer_comes(collector: Any) -> None:
    async with collector(clock="event") as running:
        answer = await running.post("/v1/events", batch(arrival(0, 3.0), arrival(1, 4.0), to=1), **WAIT)
        assert answer == {
            "accepted": 2, "new": 2, "repeated": 0, "conflicting": 0, "late": 0, "unmatched": 0, "waiting": 0,
            "watermark": "2013-07-01T12:01:00Z",
        }  # fmt: skip
        assert running.row("late_1h") == OnlineRow("Rome", at(1), (3.5, 2))
        assert running.row("busy_10m") == OnlineRow("Rome", at(1), (2,))


async def test_time_passes_by_an_empty_batch_and_empties_windows(collector: Any) -> None:
    async with collector(clock="event") as running:
        await running.post("/v1/events", batch(arrival(0), to=0), **WAIT)
        answer = await running.post("/v1/events", batch(to=60), **WAIT)
        assert answer["watermark"] == "2013-07-01T13:00:00Z"
        assert running.row("late_1h") == OnlineRow("Rome", at(60), (None, 0))
        assert running.row("busy_10m") == OnlineRow("Rome", at(10), (0,))


async def test_in_event_time_events_wait_for_the_watermark(collector: Any) -> None:
    async with collector(clock="event") as running:
        await running.post("/v1/events", batch(arrival(5), arrival(1)), **WAIT)
        assert running.row("busy_10m") is None
        await running.post("/v1/events", {"advance_to": format_instant(at(1))}, **WAIT)
        assert running.row("busy_10m") == OnlineRow("Rome", at(1), (1,))


async def test_a_late_event_is_lifted_past_the_watermark_in_the_log_too(collector: Any) -> None:
    async with collector(clock="event") as running:
        await running.post("/v1/events", batch(to=10), **WAIT)
        answer = await running.post("/v1/events", batch(arrival(2), arrival(11), to=11), **WAIT)
        assert (answer["new"], answer["late"]) == (2, 1)
        late, _ = running.store.events_known("rides", "arrived")
        assert late.known_at == at(10) + timedelta(microseconds=1)
        assert late.happened_at == at(2)


async def test_batches_that_share_a_commit_pass_the_watermark_one_after_the_other(collector: Any) -> None:
    async with collector(clock="event") as running:
        session = CollectorSession(running.use_case, running.store, running.settings.online_url, "event")
        intake = Intake(running.use_case, clock="event", max_items=10)
        bodies = [batch(arrival(3, id="a"), to=10), batch(arrival(5, id="b"), arrival(12, id="a"), to=11), batch(to=12)]
        read = [intake.events(body, at(0)) for body in bodies]
        outcomes = session.keep([Batch(events=events, advance_to=to) for events, to in read])
        session.flush()
        session.close()
        assert [(o.new, o.repeated, o.conflicting, o.late) for o in outcomes] == [
            (1, 0, 0, 0),
            (1, 1, 1, 1),
            (0, 0, 0, 0),
        ]
        assert session.watermark == at(12)
        assert [e.known_at for e in running.store.events_known("rides", "arrived")] == [
            at(3),
            at(10) + timedelta(microseconds=1),
        ]


async def test_an_event_sent_again_is_counted_once(collector: Any) -> None:
    async with collector(clock="event") as running:
        await running.post("/v1/events", batch(arrival(0, id="a"), arrival(1), to=5), **WAIT)
        again = batch(arrival(0, id="a"), arrival(1), arrival(1), arrival(6, id="b"), arrival(6, id="b"), to=6)
        answer = await running.post("/v1/events", again, **WAIT)
        assert (answer["new"], answer["repeated"], answer["conflicting"], answer["late"]) == (1, 4, 0, 0)
        assert running.row("busy_10m") == OnlineRow("Rome", at(6), (3,))


async def test_an_id_that_comes_with_another_content_is_kept_aside(collector: Any) -> None:
    async with collector(clock="event") as running:
        await running.post("/v1/events", batch(arrival(0, 1.0, id="a"), to=0), **WAIT)
        answer = await running.post("/v1/events", batch(arrival(0, 2.0, id="a"), to=1), **WAIT)
        assert (answer["new"], answer["repeated"], answer["conflicting"]) == (0, 1, 1)
        assert running.row("late_1h").values == (1.0, 1)
        assert len(running.store.conflicts()) == 1


async def test_by_the_wall_clock_an_event_is_known_when_it_is_received(collector: Any) -> None:
    async with collector(clock="wall") as running:
        before = datetime.now(UTC)
        event = {**arrival(0), "happened_at": format_instant(before - timedelta(hours=5))}
        answer = await running.post("/v1/events", event, **WAIT)
        row = running.row("late_1h")
        assert row.values == (1.0, 1)
        assert before <= row.known_at <= parse_instant(answer["watermark"])


async def test_by_the_wall_clock_time_passes_by_itself(collector: Any) -> None:
    import asyncio

    async with collector(clock="wall") as running:
        first = parse_instant((await running.post("/v1/events", {"events": []}, **WAIT))["watermark"])
        await asyncio.sleep(1.3)
        text = (await running.http.get("/metrics")).text
        (mark,) = [line for line in text.splitlines() if line.startswith("ninefold_collector_watermark_timestamp")]
        assert float(mark.split()[1]) > first.timestamp()


async def test_a_null_value_is_kept_and_counts_for_nothing(collector: Any) -> None:
    async with collector(clock="event") as running:
        await running.post("/v1/events", batch(arrival(0, None), to=0), **WAIT)
        assert running.row("busy_10m") is None
        assert len(list(running.store.events_known("rides", "arrived"))) == 1


async def test_windows_come_back_after_a_restart(collector: Any) -> None:
    async with collector(clock="event") as running:
        await running.post("/v1/events", batch(arrival(0), to=0), **WAIT)
    async with collector(clock="event") as running:
        answer = await running.post("/v1/events", batch(arrival(1), to=1), **WAIT)
        assert answer["late"] == 0
        assert running.row("busy_10m") == OnlineRow("Rome", at(1), (2,))


async def test_a_new_version_gets_its_windows_from_the_log(collector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr("serving.collector.session.VERSIONS_SECONDS", 0.0)
    async with collector(clock="event") as running:
        await running.post("/v1/events", batch(arrival(0, 5.0), to=2), **WAIT)
        running.store.register_version("rides", "d" * 64, "somewhere", lengths={"late": "5m"})
        deadline = asyncio.get_running_loop().time() + 5
        while (row := running.row("late_5m")) is None:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.1)
        assert row == OnlineRow("Rome", at(0), (5.0, 1))
        await running.post("/v1/events", batch(to=5), **WAIT)
        assert running.row("late_5m") == OnlineRow("Rome", at(5), (None, 0))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"stream": "departed"}, "stream"),
    ({"stream": None}, "stream"),
    ({"stream": ["arrived"]}, "stream"),
    ({"happened_at": None}, "happened_at"),
    ({"happened_at": "noon"}, "happened_at"),
    ({"happened_at": 5}, "happened_at"),
    ({"happened_at": "0001-01-01T00:00:00Z"}, "happened_at"),
    ({"happened_at": "9999-12-31T23:59:59-10:00"}, "happened_at"),
    ({"known_at": {"a": 1}}, "known_at"),
    ({"id": ""}, "id"),
    ({"id": 7}, "id"),
    ({"id": "x" * 300}, "id"),
    ({"id": "a\0b"}, "id"),
    ({"colour": "red"}, "colour"),
    ({"values": None}, "values"),
    ({"values": []}, "values"),
    ({"values": {"late": 1.0}}, "values.city"),
    ({"values": {"city": 5, "late": 1.0}}, "values.city"),
    ({"values": {"city": "Ro\0me", "late": 1.0}}, "values.city"),
    ({"values": {"city": "Rome", "late": "1.0"}}, "values.late"),
    ({"values": {"city": "Rome", "late": True}}, "values.late"),
    ({"values": {"city": "Rome", "late": 1e300}}, "values.late"),
    ({"values": {"city": "Rome", "late": 1.0, "wind": 3}}, "values.wind"),
]


async def test_what_is_wrong_is_named_and_nothing_of_the_batch_is_kept(collector: Any) -> None:
    async with collector(clock="event") as running:
        for change, field in WRONG:
            wrong = {**arrival(1), **change}
            answer = await running.post("/v1/events", batch(arrival(0), wrong), status=400)
            assert answer["field"] == f"events[1].{field}"
            assert (answer["wrong"], answer["total"]) == (1, 2)
            alone = await running.post("/v1/events", wrong, status=400)
            assert alone["field"] == field
        assert running.store.counts()["events"] == 0
        await running.post("/v1/events", {**arrival(0), "values": {"city": "Rome"}})


async def test_who_says_the_time_depends_on_the_clock(collector: Any) -> None:
    now = datetime.now(UTC)
    soon, too_soon = (format_instant(now + timedelta(minutes=minutes)) for minutes in (4, 6))
    async with collector(clock="wall") as running:
        await running.post("/v1/events", {**arrival(0), "happened_at": soon})
        answer = await running.post("/v1/events", {**arrival(0), "happened_at": too_soon}, status=400)
        assert answer["field"] == "happened_at"
        answer = await running.post("/v1/events", arrival(0, known_at=format_instant(at(0))), status=400)
        assert answer["field"] == "known_at"
        answer = await running.post("/v1/events", batch(to=0), status=400)
        assert answer["field"] == "advance_to"
