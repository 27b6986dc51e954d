"""The online features of one request, three views and eleven features, on one Redis: our rows and Feast's own store.

What is timed is what a front end would call: ``read_many`` on an open store, and ``get_online_features`` on an open
Feast store whose registry is in memory, fifty reads in turn. Both read from the same server, which is started for the
bench. A read waits for another process to be scheduled, so on a busy machine the median is the machine's: what is
held to the bound is the tenth of the reads that were disturbed least, of both; the medians stand beside it.
"""

from __future__ import annotations

import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bench.online_read import ENTITIES, fill, read_feast, read_ours
from bench.point_in_time_join import VIEWS, feast_store
from ninefold.online import open_online_store

READS = 2_000
BLOCK = 50
"""Reads of one kind before the other's turn."""
FASTER = 5


@contextmanager
def redis_server() -> Iterator[int]:
    """A Redis on a free port, in memory alone; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.02)
        yield port
    finally:
        server.terminate()
        server.wait()


def _seconds(read: Callable[[dict[str, str]], Any], entities: list[dict[str, str]]) -> list[float]:
    spent = []
    for entity in entities:
        start = time.perf_counter()
        read(entity)
        spent.append(time.perf_counter() - start)
    return spent


def _micros(spent: list[float], percent: int) -> float:
    return statistics.quantiles(spent, n=100)[percent - 1] * 1e6


def main() -> list[dict[str, Any]]:
    """Rows of name, value, bound, unit and whether the bound is kept."""
    what = f"online read of {len(VIEWS)} views on Redis"
    name = f"{what}: Feast's get_online_features / ours, p10"
    if shutil.which("redis-server") is None:
        return [{"name": f"{name} (no redis-server)", "value": None, "bound": f"≥ {FASTER}", "unit": "×", "ok": None}]
    with tempfile.TemporaryDirectory() as folder, redis_server() as port:
        online = {"type": "redis", "connection_string": f"127.0.0.1:{port},db=1"}
        feast = feast_store(Path(folder), {"type": "feature_repo.offline_store.AsofOfflineStore"}, online)
        with closing(open_online_store(f"redis://127.0.0.1:{port}/0?timeout=30")) as ours:
            entities = fill(ours, feast)
            equal = all(read_ours(ours, entity) == read_feast(feast, entity) for entity in entities[:50])
            mine: list[float] = []
            theirs: list[float] = []
            for block in range(READS // BLOCK):
                some = [entities[(block * BLOCK + place) % ENTITIES] for place in range(BLOCK)]
                mine += _seconds(lambda entity: read_ours(ours, entity), some)
                theirs += _seconds(lambda entity: read_feast(feast, entity), some)
            many = entities[:100]
            together = [(view, "|".join(e[key] for key in keys)) for e in many for view, (keys, _) in VIEWS.items()]
            start = time.perf_counter()
            for _ in range(100):
                ours.read_many(together)
            hundred = (time.perf_counter() - start) / 100
    (fast, mine_median), (slow, their_median) = (
        [_micros(spent, share) for share in (10, 50)] for spent in (mine, theirs)
    )
    ratio = slow / fast
    return [
        {"name": name, "value": ratio, "bound": f"≥ {FASTER}", "unit": "×", "ok": ratio >= FASTER and equal},
        {"name": f"{what}: ours, p10", "value": fast, "bound": None, "unit": "µs", "ok": None},
        {"name": f"{what}: ours, p50", "value": mine_median, "bound": None, "unit": "µs", "ok": None},
        {"name": f"{what}: Feast, p10", "value": slow, "bound": None, "unit": "µs", "ok": None},
        {"name": f"{what}: Feast, p50", "value": their_median, "bound": None, "unit": "µs", "ok": None},
        {"name": f"{what}, of 100 entities: ours", "value": hundred * 1e6, "bound": None, "unit": "µs", "ok": None},
    ]


if __name__ == "__main__":
    for row in main():
        print(row)
