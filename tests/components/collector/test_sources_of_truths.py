"""A snapshot keeps who told a truth: what a user said counts until the organisation knows, and never after."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from components.collector.extract import extract, read_examples
from ninefold.loading import load_use_case
from ninefold.records import Prediction, Truth, TruthSource
from ninefold.settings import settings
from ninefold.store import Store, open_store

sys.path.append(str(Path(__file__).parent))
import tiny_use_case
from tiny_use_case import START

USE_CASE = load_use_case("tiny_use_case:USE_CASE")


@pytest.fixture
def store() -> Iterator[Store]:
    tiny_use_case.HISTORY["history"] = tiny_use_case.history()
    with open_store(settings().store_url) as opened:
        yield opened


def _told(parcel: str, value: float, hours: int, source: TruthSource) -> Truth:
    known = START + timedelta(hours=hours)
    return Truth(
        truth_id=f"{parcel}-{hours}", use_case="parcels", key=parcel, value=value, known_at=known, received_at=known,
        source=source,
    )  # fmt: skip


def test_what_a_user_said_counts_until_somebody_knows_better(store: Store, tmp_path: Path) -> None:
    sent = START + timedelta(hours=1)
    request = {"parcel": "x1", "depot": "north", "weight": 5, "sent_at": sent.isoformat()}
    store.write_predictions(
        [
            Prediction(
                prediction_id="x1", use_case="parcels", request_id=None, key="x1", decided_at=sent, received_at=sent,
                version=0, cohort="live", request=request, features={}, value=1.0,
            )
        ]
    )  # fmt: skip
    store.write_truths(
        [
            _told("x1", 7.0, 5, "user"), _told("x1", 8.0, 6, "user"), _told("x1", 40.0, 30, "system"),
            _told("x1", 9.0, 60, "user"), _told("p1", 99.0, 400, "user"),
        ]
    )  # fmt: skip
    extract(USE_CASE, store, tmp_path / "snapshot")

    def counting(hours: int | None) -> dict[str, tuple[float | None, str | None]]:
        until = None if hours is None else START + timedelta(hours=hours)
        frame = read_examples(USE_CASE, tmp_path / "snapshot", until)
        return {key: (truth, source) for key, truth, source in frame.select("key", "truth", "truth_source").rows()}

    assert counting(6)["x1"] == (7.0, "user")
    assert counting(20)["x1"] == (8.0, "user")
    assert counting(31)["x1"] == counting(None)["x1"] == (40.0, "system")
    # The source knew it from the first; nothing that is said later changes it.
    assert counting(None)["p1"] == (2.0, "system")
