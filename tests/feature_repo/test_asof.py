from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.asof import AsofView, asof_join
from ninefold.errors import DataError

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
INSTANT = pl.Datetime("us", "UTC")
LIFE = timedelta(minutes=3)


def minute(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


row = st.tuples(st.sampled_from([0, 0, 1, None]), st.sampled_from("ab"), st.integers(0, 8), st.integers(0, 8))
request = st.tuples(st.sampled_from([0, 0, 1, None]), st.sampled_from("ab"), st.integers(0, 10))


def frame(rows: list[tuple]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "n": pl.Series([r[0] for r in rows], dtype=pl.Int64),
            "s": pl.Series([r[1] for r in rows], dtype=pl.String),
            "known_at": pl.Series([minute(r[2]) for r in rows], dtype=INSTANT),
            "created": pl.Series([minute(r[3]) for r in rows], dtype=INSTANT),
            "value": pl.Series([float(place) for place in range(len(rows))]),
        }
    )


def view(rows: pl.DataFrame, *, created: bool = True, life: timedelta | None = LIFE) -> AsofView:
    return AsofView(
        name="v", rows=rows, key={"n": "n", "s": "s"}, known_at="known_at", created_at="created" if created else None,
        columns={"v__value": "value"}, time_to_live=life,
    )  # fmt: skip


def defined(rows, asked, *, created: bool, cutoff: bool, life: timedelta | None) -> float | None:
    """The join's meaning, spelt out for one request."""
    n, s, at = asked
    seen = [
        (known, made if created else 0, place)
        for place, (key, other, known, made) in enumerate(rows)
        if key is not None and (key, other) == (n, s) and known <= at and not (cutoff and made > at)
    ]
    if not seen:
        return None
    known, _, place = max(seen)
    return None if life is not None and minute(at) - minute(known) > life else float(place)


@given(
    st.lists(row, max_size=25), st.lists(request, min_size=1, max_size=12), st.booleans(), st.booleans(), st.booleans()
)
@settings(max_examples=120, deadline=None)
def test_it_means_what_is_spelt_out(rows, asked, created, cutoff, mortal) -> None:
    entities = pl.DataFrame(
        {
            "n": pl.Series([a[0] for a in asked], dtype=pl.Int64),
            "s": [a[1] for a in asked],
            "at": pl.Series([minute(a[2]) for a in asked], dtype=INSTANT),
            "stays": range(len(asked)),
        }
    )
    life = LIFE if mortal else None
    joined = asof_join(
        entities, "at", [view(frame(rows), created=created, life=life)], only_created_before=created and cutoff
    )
    assert joined.drop("v__value").equals(entities)
    expected = [defined(rows, a, created=created, cutoff=created and cutoff, life=life) for a in asked]
    assert joined["v__value"].to_list() == expected


def test_every_row_stays_in_its_order_also_twice_and_without_features() -> None:
    entities = pl.DataFrame({"n": [1, 9, 1, 1], "s": ["a"] * 4, "at": [minute(5), minute(5), minute(1), minute(5)]})
    joined = asof_join(entities, "at", [view(frame([(1, "a", 4, 4)]))])
    assert joined["v__value"].to_list() == [0.0, None, None, 0.0]


def test_a_row_of_exactly_its_time_to_live_counts_and_one_microsecond_later_it_does_not() -> None:
    at = [minute(4) + LIFE, minute(4) + LIFE + timedelta(microseconds=1)]
    entities = pl.DataFrame({"n": [1, 1], "s": ["a", "a"], "at": at})
    assert asof_join(entities, "at", [view(frame([(1, "a", 4, 4)]))])["v__value"].to_list() == [0.0, None]


def test_a_back_fill_of_an_older_row_neither_leaks_nor_wins() -> None:
    # Known at 5 and made then; known at 3 and made at 7; known at 6 and made at 9.
    rows = frame([(1, "a", 5, 5), (1, "a", 3, 7), (1, "a", 6, 9)])
    entities = pl.DataFrame({"n": [1] * 3, "s": ["a"] * 3, "at": [minute(4), minute(8), minute(9)]})

    def values(cutoff: bool) -> list[float | None]:
        joined = asof_join(entities, "at", [view(rows, life=None)], only_created_before=cutoff)
        return joined["v__value"].to_list()

    assert values(True) == [None, 0.0, 2.0]
    assert values(False) == [1.0, 2.0, 2.0]


def test_a_null_key_names_nobody() -> None:
    rows = pl.DataFrame({"s": [None, "a"], "known_at": [minute(1)] * 2, "value": [1.0, 2.0]})
    one = AsofView(
        name="v", rows=rows, key={"s": "s"}, known_at="known_at", created_at=None,
        columns={"v__value": "value"}, time_to_live=None,
    )  # fmt: skip
    entities = pl.DataFrame({"s": [None, "a"], "at": [minute(2)] * 2})
    assert asof_join(entities, "at", [one])["v__value"].to_list() == [None, 2.0]


def test_keys_of_another_width_match_and_those_of_another_kind_are_named() -> None:
    rows = frame([(1, "a", 4, 4)])
    asked = {"s": ["a"], "at": [minute(5)]}
    for dtype in (pl.Int32, pl.Float64):
        entities = pl.DataFrame({"n": pl.Series([1], dtype=dtype), **asked})
        assert asof_join(entities, "at", [view(rows)])["v__value"].to_list() == [0.0]
    with pytest.raises(DataError, match="can't be compared with the key of v"):
        asof_join(pl.DataFrame({"n": ["one"], **asked}), "at", [view(rows)])
    with pytest.raises(DataError, match="no column n"):
        asof_join(pl.DataFrame(asked), "at", [view(rows)])


def test_instants_are_the_same_in_every_zone_and_unit() -> None:
    rows = frame([(1, "a", 4, 4)]).with_columns(pl.col("known_at").dt.convert_time_zone("America/New_York"))
    at = pl.Series([minute(4)], dtype=INSTANT)
    for instants in (
        at, at.dt.replace_time_zone(None), at.dt.convert_time_zone("Asia/Tokyo"), at.dt.cast_time_unit("ns"),
    ):  # fmt: skip
        entities = pl.DataFrame({"n": [1], "s": ["a"], "at": instants})
        assert asof_join(entities, "at", [view(rows)])["v__value"].to_list() == [0.0]
    with pytest.raises(DataError, match="not instants"):
        asof_join(pl.DataFrame({"n": [1], "s": ["a"], "at": ["noon"]}), "at", [view(rows)])
