"""A materialization run reads history anew, writes what is new, and makes a lost online store whole again."""

import json
import sys
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from components.featurizer.refresh import LATE, refresh, watermark
from ninefold.clock import format_instant
from ninefold.errors import InvalidInput
from ninefold.loading import load_use_case
from ninefold.online import open_online_store
from ninefold.settings import settings
from ninefold.store import open_store

sys.path.append(str(Path(__file__).parents[1] / "collector"))
import tiny_use_case
from tiny_use_case import START

NAME = "tiny_use_case:USE_CASE"
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _history() -> None:
    tiny_use_case.HISTORY["history"] = tiny_use_case.history()


def _refresh(tmp_path: Path, until: object, since: str = "", run_id: str = "") -> dict[str, float]:
    return refresh(NAME, since, format_instant(until), run_id, str(tmp_path / "summary.md"))  # type: ignore[arg-type]


def _depot(name: str) -> float | None:
    store = open_online_store(settings().online_url)
    try:
        row = store.read_many([("depots", name)])[0]
        return None if row is None else float(row.values[0])  # type: ignore[arg-type]
    finally:
        store.close()


def _source(depot: str, size: float, known_at: object) -> None:
    history = tiny_use_case.HISTORY["history"]
    row = pl.DataFrame(
        {"depot": [depot], "size": [size], "known_at": [known_at]},
        schema_overrides={"known_at": pl.Datetime("us", "UTC")},
    )
    history.views["depots"] = pl.concat([history.views["depots"], row])  # type: ignore[index]


def test_what_the_source_learned_since_is_online_after_the_next_run(tmp_path: Path) -> None:
    assert _refresh(tmp_path, START + DAY)["depots"] == 2
    assert _refresh(tmp_path, START + DAY)["depots"] == 0
    _source("north", 11.0, START + 1.5 * DAY)
    _source("south", 99.0, START + 9 * DAY)
    assert _refresh(tmp_path, START + 2 * DAY)["depots"] == 1
    # What becomes known later is not known yet.
    assert (_depot("north"), _depot("south")) == (11.0, 20.0)


def test_a_row_that_comes_late_is_seen_for_a_day_and_after_that_when_it_is_asked_for(tmp_path: Path) -> None:
    _refresh(tmp_path, START + 10 * DAY)
    assert watermark(load_use_case(NAME), settings()) == START + 10 * DAY - LATE
    _source("west", 1.0, START + 9.5 * DAY)
    _source("east", 2.0, START + 5 * DAY)
    assert _refresh(tmp_path, START + 11 * DAY)["depots"] == 1
    assert (_depot("west"), _depot("east")) == (1.0, None)
    assert _refresh(tmp_path, START + 11 * DAY, since=format_instant(START))["depots"] == 1
    assert _depot("east") == 2.0


def test_an_online_store_that_was_lost_is_whole_after_the_next_run(tmp_path: Path) -> None:
    with open_store(settings().store_url) as store:
        store.register_version("parcels", digest="d", uri="u", metrics={}, lengths={"depot_hours": "6h"})
    first = _refresh(tmp_path, START + DAY)
    window = next(view for view in first if view != "depots")
    assert first[window] > 0
    store = open_online_store(settings().online_url)
    for view in first:
        store.forget(view)
    store.close()
    assert _refresh(tmp_path, START + DAY) == first


def test_it_leaves_a_page_and_a_result(tmp_path: Path) -> None:
    _refresh(tmp_path, START + DAY, run_id="r")
    assert "| depots | 2 |" in (tmp_path / "summary.md").read_text()
    result = json.loads((settings().home / "reports" / "parcels" / "r" / "result.json").read_text())
    assert ["depots", "2"] in result["rows"]
    assert Path(result["report"]).read_text() == (tmp_path / "summary.md").read_text()


def test_a_period_that_ends_before_it_begins_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is after"):
        _refresh(tmp_path, START, since=format_instant(START + DAY))
