"""The online features of one request, three views and eleven features: our rows read directly, and Feast with SQLite.

What is timed is what a front end would call: ``read_many`` on an open store, and ``get_online_features`` on an open
Feast store whose registry is in memory.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.point_in_time_join import REFERENCES, VIEWS, feast_store
from ninefold.online import OnlineRow, OnlineStore, open_online_store

ENTITIES = 500
READS = 2_000
BOUND = 1 / 20
KNOWN_AT = datetime(2013, 7, 1, tzinfo=UTC)


def filled(folder: Path) -> tuple[OnlineStore, Any, list[dict[str, str]]]:
    """Our store and Feast's with the same rows, and the entities that they hold."""
    ours = open_online_store(f"sqlite:///{folder / 'ours.db'}")
    feast = feast_store(folder, {"type": "feature_repo.offline_store.AsofOfflineStore"})
    return ours, feast, fill(ours, feast)


def fill(ours: OnlineStore, feast: Any) -> list[dict[str, str]]:
    """Writes the same rows into both, and returns the entities that they are of."""
    import pandas as pd

    random.seed(0)
    entities = [{"carrier": f"C{i % 16}", "origin": f"O{i % 3}", "dest": f"D{i}"} for i in range(ENTITIES)]
    for view, (keys, features) in VIEWS.items():
        rows = {tuple(entity[key] for key in keys): [random.gauss(0, 1) for _ in features] for entity in entities}
        ours.write(view, [OnlineRow("|".join(key), KNOWN_AT, tuple(values)) for key, values in rows.items()])
        frame = pd.DataFrame(
            [(*key, *values, KNOWN_AT, KNOWN_AT) for key, values in rows.items()],
            columns=[*keys, *features, "known_at", "created"],
        )
        feast.write_to_online_store(view, frame)
    return entities


def read_ours(store: OnlineStore, entity: dict[str, str]) -> list[float]:
    """The eleven values, by our own reading."""
    rows = store.read_many([(view, "|".join([entity[key] for key in keys])) for view, (keys, _) in VIEWS.items()])
    return [value for row in rows if row is not None for value in row.values]


def read_feast(store: Any, entity: dict[str, str]) -> list[float]:
    """The eleven values, by ``get_online_features``."""
    answer = store.get_online_features(features=REFERENCES, entity_rows=[entity], full_feature_names=True).to_dict()
    return [answer[reference.replace(":", "__")][0] for reference in REFERENCES]


def _median_micros(read: Callable[[dict[str, str]], Any], entities: list[dict[str, str]]) -> float:
    spent = []
    for number in range(READS):
        entity = entities[number % len(entities)]
        start = time.perf_counter()
        read(entity)
        spent.append(time.perf_counter() - start)
    return statistics.median(spent) * 1e6


def main() -> list[dict[str, Any]]:
    """Rows of name, value, bound, unit and whether the bound is kept."""
    with tempfile.TemporaryDirectory() as name:
        ours, feast, entities = filled(Path(name))
        equal = all(read_ours(ours, entity) == read_feast(feast, entity) for entity in entities[:50])
        mine = _median_micros(lambda entity: read_ours(ours, entity), entities)
        theirs = _median_micros(lambda entity: read_feast(feast, entity), entities)
        ours.close()
    ratio = mine / theirs
    what = f"online read of {len(VIEWS)} views"
    return [
        {
            "name": f"{what}: ours / Feast's get_online_features on SQLite, p50",
            "value": ratio,
            "bound": f"≤ {BOUND:g}",
            "unit": "×",
            "ok": ratio <= BOUND and equal,
        },
        {"name": f"{what}: ours, p50", "value": mine, "bound": None, "unit": "µs", "ok": None},
        {"name": f"{what}: Feast, p50", "value": theirs, "bound": None, "unit": "µs", "ok": None},
    ]


if __name__ == "__main__":
    for row in main():
        print(row)
