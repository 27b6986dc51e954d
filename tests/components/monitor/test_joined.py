"""Truths join predictions by key as they come, and one prediction a key and version counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import ModuleType

import pytest
import sqlalchemy as sa

from components.monitor.joined import answers, counted, read_joined
from ninefold.errors import DataError
from ninefold.store import Store
from ninefold.store.tables import predictions as table


@pytest.fixture
def one(stalls: ModuleType, store: Store) -> object:
    made = stalls.prediction(1, stalls.days(stalls.BEGAN, 1, seed=0)[5])
    store.write_predictions([made])
    return made


def _read(stalls: ModuleType, store: Store, hours: float | None = None) -> list[dict[str, object]]:
    until = None if hours is None else stalls.BEGAN + timedelta(hours=hours)
    day = timedelta(days=1)
    return read_joined(store, stalls.USE_CASE, stalls.BEGAN, stalls.BEGAN + day, until).to_dicts()


def test_the_newest_truth_counts_and_the_first_says_how_late_truths_come(
    stalls: ModuleType, store: Store, one: object
) -> None:
    assert _read(stalls, store)[0]["truth"] is None
    store.write_truths([stalls.truth(one, 7.0, 2), stalls.truth(one, 9.0, 5, number=1)])
    row = _read(stalls, store)[0]
    assert row["truth"] == 9.0
    assert row["first_known_at"] == one.decided_at + timedelta(hours=2)  # type: ignore[attr-defined]
    assert _read(stalls, store, 4)[0]["truth"] == 7.0
    assert _read(stalls, store, 1)[0]["truth"] is None


def test_request_and_features_become_columns_of_their_kinds(stalls: ModuleType, store: Store, one: object) -> None:
    row = _read(stalls, store)[0]
    assert row["request.visits"] == one.request["visits"]  # type: ignore[attr-defined]
    assert row["request.at"] == one.decided_at  # type: ignore[attr-defined]
    assert row["feature.stall__size"] == one.features["stall__size"]  # type: ignore[attr-defined]


def test_a_time_in_a_form_that_only_python_reads_is_read(stalls: ModuleType, store: Store, one: object) -> None:
    naive = stalls.again(one, "naive", request={**one.request, "at": "2024-03-01 00:30"})  # type: ignore[attr-defined]
    store.write_predictions([naive])
    assert _read(stalls, store)[0]["request.at"] == stalls.BEGAN + timedelta(minutes=30)


def test_what_is_not_what_was_declared_is_named(stalls: ModuleType, store: Store, one: object) -> None:
    with store.writing() as connection:
        connection.execute(sa.update(table).values(request={"visits": "many"}))
    with pytest.raises(DataError, match="request of predictions are not what is declared"):
        _read(stalls, store)


def test_the_last_prediction_of_a_key_and_version_counts(stalls: ModuleType, store: Store, one: object) -> None:
    at = one.decided_at  # type: ignore[attr-defined]
    later = stalls.again(one, "again", received_at=at + timedelta(seconds=1), value=99.0)
    store.write_predictions([later, stalls.again(one, "other", version=1)])
    frame = read_joined(store, stalls.USE_CASE, stalls.BEGAN, stalls.BEGAN + timedelta(days=1))
    found = counted(stalls.USE_CASE, frame)
    assert sorted(found["prediction_id"]) == ["again", "other"]


def test_who_asks_when_the_truth_is_out_is_not_judged(stalls: ModuleType, store: Store, one: object) -> None:
    late = stalls.again(one, "late", decided_at=one.decided_at + timedelta(hours=3), value=7.0)  # type: ignore[attr-defined]
    store.write_predictions([late])
    store.write_truths([stalls.truth(one, 7.0, 2)])
    frame = read_joined(store, stalls.USE_CASE, stalls.BEGAN, stalls.BEGAN + timedelta(days=1))
    assert counted(stalls.USE_CASE, frame)["prediction_id"].to_list() == ["p000001"]


def test_a_shadow_is_judged_and_is_no_answer(stalls: ModuleType, store: Store, one: object) -> None:
    store.write_predictions([stalls.again(one, "shadow", cohort="shadow", version=2)])
    frame = read_joined(store, stalls.USE_CASE, stalls.BEGAN, stalls.BEGAN + timedelta(days=1))
    assert len(counted(stalls.USE_CASE, frame)) == 2
    assert answers(frame)["prediction_id"].to_list() == ["p000001"]


def test_what_a_user_says_is_no_truth_and_stands_beside_it(stalls: ModuleType, store: Store, one: object) -> None:
    said = replace(stalls.truth(one, 99.0, 1, number=1), source="user")
    store.write_truths([said])
    row = _read(stalls, store)[0]
    assert (row["truth"], row["first_known_at"], row["said"]) == (None, None, 99.0)
    store.write_truths([stalls.truth(one, 7.0, 2)])
    row = _read(stalls, store)[0]
    assert (row["truth"], row["truth_source"], row["said"]) == (7.0, "system", 99.0)
    assert row["first_known_at"] == one.decided_at + timedelta(hours=2)  # type: ignore[attr-defined]
