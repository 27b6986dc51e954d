"""Batch, stream and definition are one window, to the last bit."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.windows import Window
from ninefold.windows.batch import changelog, values_at
from ninefold.windows.stream import Row, WindowState

SECOND = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Happening:
    key: str
    value: float | None
    known_at: int


def definition(events: list[Happening], key: str, t: int, window: Window) -> tuple[float | int | None, ...] | None:
    """What a window is, word for word and slowly; None when the key had no event yet."""
    mine = [e for e in events if e.key == key and e.value is not None and e.known_at <= t]
    if not mine:
        return None
    length = window.length // MICROSECOND
    units = [round(e.value / window.resolution) for e in mine if t - length < e.known_at]  # type: ignore[operator]
    total = sum(units) * window.resolution
    values = {"mean": total / len(units) if units else None, "count": len(units), "sum": total}
    return tuple(values[aggregate] for aggregate in window.aggregates)


windows = st.builds(
    lambda seconds, aggregates, resolution: Window(
        name="w",
        stream="s",
        key=("k",),
        value="v",
        length=timedelta(seconds=seconds),
        aggregates=tuple(aggregates),
        resolution=resolution,
    ),
    st.integers(1, 5),
    st.lists(st.sampled_from(["mean", "count", "sum"]), min_size=1, max_size=3, unique=True),
    st.sampled_from([1.0, 0.01, 0.1, 3.0, 0.3]),
)
# Instants on a coarse grid tie often, also with expiries; a few lie between the grid's points, and a few far apart.
instants = st.one_of(
    st.integers(0, 30).map(lambda n: n * SECOND // 2),
    st.integers(0, 15 * SECOND),
    st.integers(0, 3).map(lambda n: n * 100 * SECOND),
)
values = st.one_of(
    st.none(), st.integers(-200, 200).map(lambda n: n / 2), st.floats(-1e6, 1e6, allow_nan=False), st.just(0.29)
)
happenings = st.lists(st.builds(Happening, st.sampled_from("abc"), values, instants), max_size=40)


def frame(events: list[Happening]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "k": [e.key for e in events],
            "v": [e.value for e in events],
            "known_at": [e.known_at for e in events],
        },
        schema={"k": pl.String, "v": pl.Float64, "known_at": pl.Int64},
    ).with_columns(pl.col("known_at").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))


def batch_rows(events: list[Happening], window: Window) -> list[Row]:
    rows = changelog(frame(events), window).with_columns(pl.col("known_at").dt.epoch("us"))
    assert rows.columns == ["k", "known_at", *window.aggregates]
    return [(row[0], row[1], tuple(row[2:])) for row in rows.rows()]


def bits(rows: list[Row]) -> list[Any]:
    """Rows with every number as its type and its bytes: equal means equal, for −0.0 and the last digit too."""
    return [
        (k, t, tuple(struct.pack("d", v) if isinstance(v, float) else (type(v).__name__, v) for v in vs))
        for k, t, vs in rows
    ]


@given(happenings, windows)
@settings(max_examples=150, deadline=None)
def test_the_changelog_is_the_definition_at_every_instant_where_anything_could_change(
    events: list[Happening], window: Window
) -> None:
    rows = batch_rows(events, window)
    length = window.length // MICROSECOND
    counted = [e for e in events if e.value is not None]
    assert [(k, t) for k, t, _ in rows] == sorted(
        {(e.key, e.known_at) for e in counted} | {(e.key, e.known_at + length) for e in counted}
    )
    assert bits(rows) == bits([(k, t, definition(events, k, t, window) or ()) for k, t, _ in rows])


@given(happenings, windows, st.data())
@settings(max_examples=150, deadline=None)
def test_the_stream_emits_the_rows_of_the_changelog_whatever_the_order_and_the_advances(
    events: list[Happening], window: Window, data: st.DataObject
) -> None:
    """Batches come in any cut and order; what comes after the watermark is lifted past it, as the engine does."""
    state = WindowState(window)
    rest = list(events)
    random.Random(data.draw(st.integers(0, 9))).shuffle(rest)
    as_counted: list[Happening] = []
    emitted: list[Row] = []
    steps = st.tuples(st.integers(0, 8), st.one_of(instants, st.integers(0, 400 * SECOND)))
    for taken, to in [*data.draw(st.lists(steps, max_size=8)), (len(rest), 1000 * SECOND)]:
        for event in rest[:taken]:
            known_at = event.known_at
            if state.watermark is not None and known_at <= state.watermark:
                known_at = state.watermark + 1
            state.add(event.key, event.value, known_at)
            as_counted.append(Happening(event.key, event.value, known_at))
        rest = rest[taken:]
        before = state.watermark
        rows = state.advance(to)
        assert all((before is None or before < t) and t <= to for _, t, _ in rows)
        assert [t for _, t, _ in rows] == sorted(t for _, t, _ in rows)
        emitted += rows
    assert bits(sorted(emitted, key=lambda r: r[:2])) == bits(batch_rows(as_counted, window))
    assert len(state) == 0
    assert not state._entities


@given(happenings, windows, st.lists(st.tuples(st.sampled_from("abcd"), instants), min_size=1, max_size=20))
@settings(max_examples=75, deadline=None)
def test_a_request_reads_the_definition(events: list[Happening], window: Window, asked: list[tuple[str, int]]) -> None:
    requests = pl.DataFrame(
        {"k": [k for k, _ in asked], "decided_at": [EPOCH + timedelta(microseconds=t) for _, t in asked]}
    )
    read = values_at(changelog(frame(events), window), requests, window, at="decided_at")
    assert read.columns == list(window.features)
    nothing = tuple(None for _ in window.aggregates)
    assert read.rows() == [definition(events, k, t, window) or nothing for k, t in asked]
