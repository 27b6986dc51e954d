"""One rule for which truth counts: records, frames and arrays pick the same one; and users never weigh much."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.errors import ConfigurationError
from ninefold.records import Event, Truth
from ninefold.truths import (
    EVIDENCE,
    RANK,
    SOURCES,
    FeedbackPolicy,
    precedence,
    standing,
    standing_remarks,
    standing_rows,
    standing_values,
    training_weights,
)

START = datetime(2024, 1, 1, tzinfo=UTC)
_MOMENT = st.integers(0, 3).map(lambda n: START + timedelta(hours=n))
_TRUTHS = st.lists(
    st.builds(
        lambda key, source, known, received: (key, source, known, received),
        st.sampled_from("abc"), st.sampled_from(SOURCES), _MOMENT, _MOMENT,
    ),
    max_size=15,
).map(
    lambda told: [
        Truth(
            truth_id=f"t{n}", use_case="x", key=key, value=float(n), known_at=known, received_at=received, source=source
        )
        for n, (key, source, known, received) in enumerate(told)
    ]
)  # fmt: skip


def _frame(truths: list[Truth]) -> pl.DataFrame:
    time = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        {
            "key": [t.key for t in truths], "value": [t.value for t in truths], "source": [t.source for t in truths],
            "known_at": [t.known_at for t in truths], "received_at": [t.received_at for t in truths],
            "truth_id": [t.truth_id for t in truths],
        },
        schema={
            "key": pl.String, "value": pl.Float64, "source": pl.String, "known_at": time, "received_at": time,
            "truth_id": pl.String,
        },
    )  # fmt: skip


@pytest.mark.parametrize("sources", [SOURCES, EVIDENCE])
@given(truths=_TRUTHS)
def test_records_frames_and_arrays_pick_the_same_truth(sources: tuple[str, ...], truths: list[Truth]) -> None:
    by_key = {key: standing((t for t in truths if t.key == key), sources) for key in {t.key for t in truths}}  # type: ignore[arg-type]
    wanted = {key: truth.value for key, truth in by_key.items() if truth is not None}
    rows = standing_rows(_frame(truths), ["key"], sources)  # type: ignore[arg-type]
    assert dict(rows.select("key", "value").iter_rows()) == wanted
    given_ones = sorted((t for t in truths if t.source in sources), key=lambda t: precedence(t)[1:])
    found = standing_values(
        np.array(["abc".index(t.key) for t in given_ones], dtype=int), np.array([t.value for t in given_ones]),
        np.array([RANK[t.source] for t in given_ones], dtype=np.int8), 3,
    )  # fmt: skip
    assert {key: value for key, value in zip("abc", found, strict=True) if not np.isnan(value)} == wanted


def test_a_frame_that_names_no_source_is_the_organisations_own() -> None:
    rows = _frame([]).drop("source")
    assert standing_rows(rows, ["key"]).is_empty()
    told = pl.DataFrame({"key": ["a", "a"], "value": [1.0, 2.0], "known_at": [START, START + timedelta(hours=1)]})
    assert standing_rows(told, ["key"], EVIDENCE)["value"].to_list() == [2.0]


@given(
    st.lists(st.tuples(st.sampled_from(SOURCES), st.floats(0.1, 10)), min_size=1, max_size=200),
    st.floats(0, 1), st.floats(0, 0.9),
)  # fmt: skip
def test_users_never_have_more_than_their_share_and_others_keep_their_weight(
    rows: list[tuple[str, float]], weight: float, most: float
) -> None:
    source = np.array([name for name, _ in rows], dtype=object)
    before = np.array([value for _, value in rows])
    after = training_weights(source, before, FeedbackPolicy(weight=weight, most=most))
    users = source == "user"
    assert np.array_equal(after[~users], before[~users])
    assert after[users].sum() <= most * after.sum() * (1 + 1e-9) + 1e-12
    assert (after[users] <= before[users] * weight * (1 + 1e-9)).all()
    if not (~users).any():
        assert after.sum() == 0.0


@pytest.mark.parametrize("wrong", [{"weight": 1.5}, {"weight": -0.1}, {"most": 1.0}])
def test_a_policy_that_lets_users_train_alone_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        FeedbackPolicy(**wrong)


def test_of_a_users_remarks_on_a_prediction_the_newest_stands() -> None:
    def remark(number: int, user: str, hour: int, prediction: str = "p1") -> Event:
        at = START + timedelta(hours=hour)
        return Event(
            event_id=f"e{number}", use_case="x", stream="feedback", happened_at=at, known_at=at, received_at=at,
            values={"prediction_id": prediction, "key": "a", "text": str(number), "user": user, "wrong": True},
        )  # fmt: skip

    said = [remark(1, "ann", 3), remark(2, "ann", 1), remark(3, "bob", 2), remark(4, "ann", 0, "p2")]
    assert [event.event_id for event in standing_remarks(said)] == ["e4", "e3", "e1"]
