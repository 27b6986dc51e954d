"""A run starts from the state of production, and a cached step is used again only where that is the same."""

import dataclasses
import sys
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from components.collector.extract import extract
from components.collector.production import named, state_of_production
from ninefold.clock import parse_instant
from ninefold.loading import load_use_case
from ninefold.records import Prediction
from ninefold.settings import settings
from ninefold.splits import TimeSplit
from ninefold.store import Store, open_store
from ninefold.store.erasure import erase_records, key_of

sys.path.append(str(Path(__file__).parent))
import tiny_use_case
from tiny_use_case import START

NAME = "tiny_use_case:USE_CASE"


@pytest.fixture
def store() -> Store:
    tiny_use_case.HISTORY["history"] = tiny_use_case.history()
    return open_store(settings().store_url)


def _prediction(parcel: str) -> Prediction:
    sent = START + timedelta(hours=10)
    return Prediction(
        prediction_id=parcel, use_case="parcels", request_id=None, key=parcel, decided_at=sent, received_at=sent,
        version=0, cohort="live", features={}, value=1.0,
        request={"parcel": parcel, "depot": "north", "weight": 5, "sent_at": sent.isoformat()},
    )  # fmt: skip


def test_a_forgotten_key_comes_back_neither_by_production_nor_by_a_cached_extract(store: Store, tmp_path: Path) -> None:
    use_case = load_use_case(NAME)
    store.write_predictions([_prediction("kept"), _prediction("forgotten")])
    before = state_of_production(NAME)["production"]
    assert state_of_production(NAME)["production"] == before
    erase_records(store, use_case, key_of(use_case, "forgotten", []), now=START + timedelta(days=1), actor="me")
    # As many predictions as before: only the erasure tells the states apart.
    store.write_predictions([_prediction("new")])
    assert store.counts()["predictions"] == 2
    assert state_of_production(NAME)["production"] != before
    extract(use_case, store, tmp_path / "snapshot")
    parcels = set(pl.read_parquet(tmp_path / "snapshot" / "requests.parquet")["parcel"].to_list())
    assert {"kept", "new"} <= parcels
    assert "forgotten" not in parcels
    store.close()


def test_a_run_that_is_told_neither_end_nor_name_takes_now_and_makes_one(store: Store) -> None:
    """A recurring run can't be told either: it is declared once for all of its instants."""
    before = store.clock.now()
    found = named(NAME, "", "")
    assert before <= parse_instant(found["until"]) <= store.clock.now()
    assert found["run_id"].startswith("parcels-")
    assert named(NAME, "", "")["run_id"] != found["run_id"]
    # A history that nobody adds to any more says where it ends.
    ended = dataclasses.replace(load_use_case(NAME), split=TimeSplit(until="2024-03-01T00:00:00Z"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("components.collector.production.load_use_case", lambda _: ended)
        assert named(NAME, "", "mine")["until"] == "2024-03-01T00:00:00Z"
        assert named(NAME, "2024-02-01", "mine")["until"] == "2024-02-01"
    assert named(NAME, "2013-07-01", "mine") == {"until": "2013-07-01", "run_id": "mine"}
    # Where there is no time, everything known is used.
    assert named("churn", "", "mine")["until"] == ""
    store.close()


def test_a_source_that_tells_its_state_is_read_anew_when_that_changes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = dataclasses.replace(load_use_case(NAME), source_state="tiny_use_case:state")
    monkeypatch.setattr("components.collector.production.load_use_case", lambda _: told)
    monkeypatch.setattr(tiny_use_case, "state", lambda: "as it was", raising=False)
    before = state_of_production(NAME)["production"]
    assert state_of_production(NAME)["production"] == before
    monkeypatch.setattr(tiny_use_case, "state", lambda: "another")
    assert state_of_production(NAME)["production"] != before
