"""Users' truths train with little weight, choose nothing, and move nobody else between parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from components.preparer.prepare import prepare
from components.preparer.split import USER_ALONE, split
from ninefold.errors import DataError
from ninefold.truths import FeedbackPolicy
from ninefold.usecase import UseCase

ROWS = 400


def _told(make_rows, sources: list[str], truths: list[float]) -> pl.DataFrame:
    keys = [f"k{n}" for n in range(len(sources))]
    frame = make_rows(keys, days=[None] * len(keys), truth=truths)
    return frame.with_columns(truth_source=pl.Series(sources))


@pytest.fixture
def own(make_rows) -> pl.DataFrame:
    """What the organisation knows of its customers."""
    return _told(make_rows, ["system"] * ROWS, [float(n % 2) for n in range(ROWS)])


@pytest.fixture
def attacked(make_rows, own: pl.DataFrame) -> pl.DataFrame:
    """The same, and twice as many truths by users."""
    said = _told(make_rows, ["user"] * 2 * ROWS, [1.0] * 2 * ROWS)
    return pl.concat([own, said.with_columns(key="u" + pl.col("key"), **{"request.ride": "u" + pl.col("key")})])


def test_users_move_no_other_key_and_choose_no_model(timeless: UseCase, own, attacked) -> None:
    before, after = split(own, timeless, None), split(attacked, timeless, None)
    for part in ("training", "validation", "test"):
        mine = getattr(after, part).filter(pl.col("truth_source") == "system")
        assert mine.equals(getattr(before, part)), part
    assert set(after.validation["truth_source"]) == {"system"}
    assert after.notes["dropped"][USER_ALONE] == pytest.approx(2 * ROWS * 0.2, abs=2)


def test_users_have_at_most_their_share_of_the_training_weight(timeless: UseCase, attacked) -> None:
    policy = FeedbackPolicy(weight=0.5, most=0.1)
    prepared = prepare(split(attacked, timeless, None), replace(timeless, feedback=policy, oversample=0.5))
    weight, source = prepared.training["weight"].to_numpy(), prepared.training["truth_source"].to_numpy()
    users = source == "user"
    assert users.sum() > 0.3 * len(weight)
    assert weight[users].sum() / weight.sum() == pytest.approx(0.1)
    assert np.unique(weight[~users]).tolist() == [1.0]
    assert prepared.notes["training"]["users' share of the weight"] == 0.1
    assert prepared.notes["test"]["told by users"] > 0
    assert set(prepared.validation["weight"]) == {1.0}


def test_where_nobody_but_users_says_anything_there_is_nothing_to_train(make_rows, timeless: UseCase) -> None:
    alone = _told(make_rows, ["user"] * ROWS, [float(n % 2) for n in range(ROWS)])
    with pytest.raises(DataError, match="no rows but what users alone say, which decides nothing"):
        prepare(split(alone, timeless, None), timeless)
