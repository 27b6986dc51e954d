"""Preparing: rows are added to the training part alone, and what was done is noted."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.preparer.balance import oversample
from components.preparer.prepare import prepare
from components.preparer.split import split
from ninefold.errors import ConfigurationError, DataError

UNTIL = datetime(2013, 4, 1, tzinfo=UTC)


def _customers(make_rows, rows: int = 400, share: float = 0.2, seed: int = 0) -> pl.DataFrame:
    truth = (np.random.default_rng(seed).random(rows) < share).astype(float)
    return make_rows([f"c{i}" for i in range(rows)], days=[None] * rows, truth=truth.tolist())


def _augmenting(monkeypatch: pytest.MonkeyPatch, function) -> str:
    module = types.ModuleType("augmenting")
    module.more = function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "augmenting", module)
    return "augmenting:more"


def test_oversampling_touches_the_training_part_alone(make_rows, timeless) -> None:
    parts = split(_customers(make_rows), timeless, None)
    plain = prepare(parts, timeless)
    balanced = prepare(parts, dataclasses.replace(timeless, oversample=0.5))
    assert balanced.validation.equals(plain.validation)
    assert balanced.test.equals(plain.test)
    assert balanced.training["truth"].mean() == pytest.approx(0.5, abs=0.005)
    assert set(balanced.training["key"]) == set(parts.training["key"])
    assert balanced.notes["training"]["oversampled"] == len(balanced.training) - len(plain.training) > 0


def test_augmenting_sees_and_changes_the_training_part_alone(make_rows, timeless, monkeypatch) -> None:
    parts = split(_customers(make_rows), timeless, None)
    seen: list[pl.DataFrame] = []

    def more(training: pl.DataFrame) -> pl.DataFrame:
        seen.append(training)
        return training.head(10).with_columns(pl.col("input.distance") + 0.5)

    path = _augmenting(monkeypatch, more)
    plain, more_rows = prepare(parts, timeless), prepare(parts, dataclasses.replace(timeless, augment=path))
    assert seen[0].equals(plain.training)
    assert more_rows.validation.equals(plain.validation)
    assert more_rows.test.equals(plain.test)
    assert len(more_rows.training) == len(plain.training) + 10
    assert more_rows.notes["training"]["augmented"] == 10
    held_out = {*plain.validation["key"], *plain.test["key"]}
    assert not held_out & set(more_rows.training["key"])


def test_augmenting_with_a_row_of_another_part_is_refused(make_rows, timeless, monkeypatch) -> None:
    parts = split(_customers(make_rows), timeless, None)
    path = _augmenting(monkeypatch, lambda training: parts.test.head(1))
    with pytest.raises(DataError, match="1 rows with keys of validation or test rows"):
        prepare(parts, dataclasses.replace(timeless, augment=path))


def test_augmenting_with_other_columns_is_refused(make_rows, timeless, monkeypatch) -> None:
    parts = split(_customers(make_rows), timeless, None)
    path = _augmenting(monkeypatch, lambda training: training.drop("weight").with_columns(more=1))
    with pytest.raises(DataError, match="more, weight differ"):
        prepare(parts, dataclasses.replace(timeless, augment=path))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    ones=st.integers(1, 30),
    zeros=st.integers(1, 60),
    share=st.sampled_from([0.1, 0.3, 0.5, 0.7]),
    seed=st.integers(0, 3),
)
def test_the_rarer_class_gets_its_share_and_no_row_is_lost(make_rows, ones, zeros, share, seed) -> None:
    truth = [1.0] * ones + [0.0] * zeros
    frame = make_rows([f"c{i}" for i in range(len(truth))], days=[None] * len(truth), truth=truth)
    result = oversample(frame, share)
    assert result.head(len(frame)).equals(frame)
    rare = 1.0 if ones <= zeros else 0.0
    found, before = (float((part["truth"] == rare).mean()) for part in (result, frame))
    assert found >= before
    assert found >= share - 0.5 / len(result)
    if len(result) > len(frame):
        assert (result.tail(len(result) - len(frame))["truth"] == rare).all()
        assert found == pytest.approx(share, abs=1 / len(result))
    times = result.filter(pl.col("truth") == rare)["key"].value_counts()["count"]
    assert times.max() - times.min() <= 1
    shuffled = oversample(frame.sample(fraction=1.0, shuffle=True, seed=seed), share)
    assert shuffled.sort("key").equals(result.sort("key"))


def test_what_cannot_be_oversampled_is_refused(make_rows, timed, timeless) -> None:
    frame = _customers(make_rows, 40)
    with pytest.raises(ConfigurationError, match=r"oversample=1\.5"):
        oversample(frame, 1.5)
    with pytest.raises(DataError, match="No training row has truth 1"):
        oversample(frame.with_columns(truth=pl.lit(0.0)), 0.5)
    with pytest.raises(ConfigurationError, match="oversample is for two classes"):
        prepare(split(frame, timeless, None), dataclasses.replace(timed, oversample=0.5))


def test_a_part_without_rows_is_an_error_that_says_why(make_rows, timed) -> None:
    frame = make_rows(["a", "b", "c"], days=[3, 40, 70], truth=[1.0, 1.0, None])
    with pytest.raises(DataError, match=r"The test part of rides has no rows.*truth is unknown.*--until"):
        prepare(split(frame, timed, UNTIL), timed)


def test_what_was_done_is_noted(make_rows, timed) -> None:
    frame = make_rows(
        ["a", "b", "c", "d", "e"], days=[3, 3, 40, 70, 70], truth=[1.0, None, 1.0, 2.0, -1.0], known_after=[0.1] * 5
    )
    prepared = prepare(split(frame, timed, UNTIL), timed)
    assert [part["key"].to_list() for part in (prepared.training, prepared.validation, prepared.test)] == [
        ["a"], ["c"], ["d"],
    ]  # fmt: skip
    assert prepared.notes["training"] == {"rows": 1, "dropped": {"truth is unknown": 1}, "nulled": {}}
    assert prepared.notes["test"]["dropped"] == {"truth is below 0": 1}
    assert prepared.notes["split"]["rows"] == {"training": 2, "validation": 1, "test": 2}
    json.dumps(prepared.notes)
