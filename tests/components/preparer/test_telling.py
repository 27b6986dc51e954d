"""An input that is the target in disguise is met in training, whenever it came in."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from components.preparer.prepare import prepare
from components.preparer.split import split
from ninefold.dataset import INPUT
from ninefold.errors import ConfigurationError, DataError


def _customers(make_rows, rows: int = 600) -> pl.DataFrame:
    truth = (np.random.default_rng(0).random(rows) < 0.3).astype(float)
    return make_rows([f"c{i}" for i in range(rows)], days=[None] * rows, truth=truth.tolist())


def _leaking(frame: pl.DataFrame) -> pl.DataFrame:
    """An input that is null but for those who leave."""
    return frame.with_columns(pl.when(pl.col("truth") == 1).then(7.0).alias(f"{INPUT}distance"))


def test_an_input_that_tells_the_target_alone_is_named_and_refused(make_rows, timeless) -> None:
    parts = split(_leaking(_customers(make_rows)), timeless, None)
    with pytest.raises(DataError, match=r"distance \(area under the ROC curve 1\.0000.*may_tell_alone"):
        prepare(parts, timeless)


def test_it_is_learned_from_where_the_use_case_allows_it_and_the_notes_say_so(make_rows, timeless) -> None:
    parts = split(_leaking(_customers(make_rows)), timeless, None)
    notes = prepare(parts, dataclasses.replace(timeless, may_tell_alone=("distance",))).notes["one input alone"]
    assert notes == {
        "limit": 0.99, "checked": 1, "not_checked": 0, "most_telling": "distance", "measure": "auc", "value": 1.0,
        "allowed": "distance",
    }  # fmt: skip


def test_what_is_allowed_has_to_be_an_input(timeless) -> None:
    with pytest.raises(ConfigurationError, match="may_tell_alone names distnace"):
        dataclasses.replace(timeless, may_tell_alone=("distnace",))


def test_too_few_rows_are_noted_as_not_checked(make_rows, timeless) -> None:
    parts = split(_leaking(_customers(make_rows, rows=60)), timeless, None)
    assert prepare(parts, timeless).notes["one input alone"]["not_checked"] == 1
