"""Window update in the stream, without the write, against a bare deque with running sum."""

from __future__ import annotations

import random
import statistics
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from ninefold.windows import Window
from ninefold.windows.stream import WindowState

EVENTS, KEYS, MINUTES = 328_521, 105, 365 * 24 * 60
LENGTH = timedelta(hours=6)
BOUND = 5.0
RUNS = 5

Event = tuple[int, str, float]


def year_of_events() -> list[Event]:
    """(µs, key, value): a year of arrivals in number, keys and skew; instants are whole minutes, so many tie."""
    rng = random.Random(0)
    instants = sorted(rng.randrange(MINUTES) * 60_000_000 for _ in range(EVENTS))
    return [(t, f"K{int(rng.paretovariate(0.6)) % KEYS}", float(round(rng.gauss(0, 20)))) for t in instants]


def bare(events: list[Event]) -> None:
    """What anybody would write for a mean: no expiry between events, no merging, no other order than this."""
    length = LENGTH // timedelta(microseconds=1)
    windows: dict[str, list[Any]] = {}
    for known_at, key, value in events:
        state = windows.get(key)
        if state is None:
            state = windows[key] = [deque(), 0.0]
        inside = state[0]
        inside.append((known_at, value))
        state[1] += value
        while inside[0][0] <= known_at - length:
            state[1] -= inside.popleft()[1]
        _mean = state[1] / len(inside)


def ours(events: list[Event]) -> None:
    """The stream's state, advanced minute by minute as a replay does; emits a row when an event enters and leaves."""
    state = WindowState(Window(name="w", stream="s", key=("k",), value="v", length=LENGTH))
    for minute, happened in groupby(events, itemgetter(0)):
        for known_at, key, value in happened:
            state.add(key, value, known_at)
        state.advance(minute)


def _cpu(work: Callable[[list[Event]], None], events: list[Event]) -> float:
    start = time.process_time()
    work(events)
    return time.process_time() - start


def main() -> list[dict[str, Any]]:
    """Rows of name, value, bound, unit and whether the bound is kept."""
    events = year_of_events()
    runs = [(_cpu(bare, events), _cpu(ours, events)) for _ in range(RUNS)]
    ratio = statistics.median(mine / theirs for theirs, mine in runs)
    micros = statistics.median(mine for _, mine in runs) / len(events) * 1e6
    return [
        {
            "name": "window update in the stream / bare deque with running sum, CPU",
            "value": ratio,
            "bound": BOUND,
            "unit": "×",
            "ok": ratio <= BOUND,
        },
        {"name": "window update in the stream, an event", "value": micros, "bound": None, "unit": "µs", "ok": True},
    ]


if __name__ == "__main__":
    for row in main():
        print(row)
