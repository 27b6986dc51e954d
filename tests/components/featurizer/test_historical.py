from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from components.featurizer.historical import featurize, historical_features, write_changelogs
from feature_repo.files import source_path
from ninefold.dataset import INPUT, columns_of, read_dataset, write_dataset
from ninefold.errors import ConfigurationError, DataError
from ninefold.settings import settings

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own, of its dependencies.


@pytest.fixture
def history(rides: ModuleType) -> tuple[pl.DataFrame, pl.DataFrame]:
    return rides.write_history(settings().folder("data") / "rides", rides=120)


def test_the_data_set_is_whole_and_in_the_layout(rides: ModuleType, history, tmp_path: Path) -> None:
    requests, truths = history
    frame, card = featurize(rides.USE_CASE, requests, truths, None, settings(), reference="rides:USE_CASE")
    assert frame["key"].to_list() == requests["ride"].to_list()
    assert frame["decided_at"].equals(requests["asked_at"])
    assert frame["truth"].to_list() == [*truths["truth"].to_list(), *[None] * 60]
    assert frame["weight"].unique().to_list() == [1.0]
    assert set(frame["block"].unique()) == {"2013-07-01"}
    assert not any(np.isnan(frame[name].to_numpy()).any() for name in ("baseline", "weight"))
    # A data set says null, never NaN: counts of what is missing go by it.
    assert not any(frame[name].is_nan().any() for name in frame.columns if frame[name].dtype == pl.Float64)
    assert frame["feature.driver__electric"].dtype == pl.Float64
    assert card.signature.use_case == "rides:USE_CASE"
    assert card.notes == {"rows": 120, "rows without truth": 60}
    uri = str(tmp_path / "set.parquet")
    write_dataset(uri, frame, card)
    again, read = read_dataset(uri)
    assert again.equals(frame)
    assert read == card


def test_features_are_the_newest_rows_and_the_exact_windows(rides: ModuleType, history) -> None:
    requests, truths = history
    frame, card = featurize(rides.USE_CASE, requests, truths, {"recent": "3h"}, settings())
    assert [view.view for view in card.signature.views] == ["driver", "route", "recent_3h"]
    folder = settings().folder("data") / "rides"
    ended = pl.read_parquet(folder / "streams" / "ended.parquet").drop_nulls("minutes")
    route = pl.read_parquet(folder / "views" / "route.parquet")
    for row in frame.sample(40, seed=1).iter_rows(named=True):
        at, zone = row["decided_at"], row["request.zone"]
        inside = ended.filter(
            pl.col("known_at") > at - timedelta(hours=3), pl.col("known_at") <= at, pl.col("zone") == zone
        )
        mean = inside["minutes"].sum() / len(inside) if len(inside) else None
        assert row["feature.recent__mean"] == mean
        assert row["input.mean"] == mean
        known = route.filter(
            pl.col("zone") == zone, pl.col("to") == row["request.to"], pl.col("known_at") <= at
        ).sort("known_at")  # fmt: skip
        fresh = len(known) and known["known_at"][-1] >= at - timedelta(hours=6)
        assert row["feature.route__surge"] == (known["surge"][-1] if fresh else None)


def test_one_row_derives_as_all_do(rides: ModuleType, history) -> None:
    requests, truths = history
    whole, _ = featurize(rides.USE_CASE, requests, truths, None, settings())
    part, _ = featurize(rides.USE_CASE, requests[7:8], truths, None, settings())
    assert part.equals(whole[7:8])


def test_of_several_truths_the_newest_known_counts(rides: ModuleType, history) -> None:
    requests, truths = history
    corrected = pl.concat([truths.with_columns(pl.col("known_at") + timedelta(1), pl.col("truth") + 1), truths])
    frame, _ = featurize(rides.USE_CASE, requests, corrected, None, settings())
    assert frame["truth"][:60].to_list() == (truths["truth"] + 1).to_list()


def test_a_changelog_is_written_again_only_when_its_stream_changed(rides: ModuleType, history) -> None:
    window = rides.USE_CASE.feature_views()[2]
    path = source_path(rides.USE_CASE, settings(), window)
    write_changelogs(rides.USE_CASE, None, settings())
    first = path.stat().st_mtime_ns
    write_changelogs(rides.USE_CASE, None, settings())
    assert path.stat().st_mtime_ns == first
    stream = settings().folder("data") / "rides" / "streams" / "ended.parquet"
    pl.read_parquet(stream)[:10].write_parquet(stream)
    write_changelogs(rides.USE_CASE, None, settings())
    assert len(pl.read_parquet(path)) <= 20


def test_without_a_decision_moment_the_newest_rows_count(rides: ModuleType) -> None:
    folder = settings().folder("data") / "timeless" / "views"
    folder.mkdir(parents=True)
    rows = pl.DataFrame(
        {"driver": [1, 1, 2], "seats": [2, 5, 4], "known_at": ["2013-07-01", "2013-07-03", "2013-07-02"]}
    )
    rows.with_columns(pl.col("known_at").str.to_datetime(time_zone="UTC")).write_parquet(folder / "person.parquet")
    truths = pl.DataFrame({"driver": [1], "truth": [3], "known_at": [None]})
    frame, _ = featurize(rides.TIMELESS, pl.DataFrame({"driver": [2, 1, 3]}), truths, None, settings())
    assert frame["input.seats"].to_list() == [4.0, 5.0, None]
    assert frame["decided_at"].to_list() == [None] * 3
    assert frame["truth"].to_list() == [None, 3.0, None]
    assert frame["key"].to_list() == ["2", "1", "3"]


def test_broken_contracts_are_named(rides: ModuleType, history) -> None:
    requests, truths = history

    def broken(**changes):
        featurize(replace(rides.USE_CASE, **changes), requests, truths, None, settings())

    with pytest.raises(DataError, match="derive returned no distance, mean"):
        broken(derive=lambda columns: {})
    with pytest.raises(DataError, match=r"derive's distance has shape \(1,\) for 120 rows"):
        broken(derive=lambda columns: {**rides.derive(columns), "distance": np.zeros(1)})
    with pytest.raises(DataError, match="baseline has no finite answer for"):
        broken(baseline=lambda columns: columns["mean"])
    with pytest.raises(DataError, match="no column distance"):
        featurize(rides.USE_CASE, requests.drop("distance"), truths, None, settings())
    gone = requests.with_columns(pl.col("asked_at").replace(requests["asked_at"][0], None))
    with pytest.raises(DataError, match="asked_at is null in 1 requests"):
        featurize(rides.USE_CASE, gone[:1], truths, None, settings())
    with pytest.raises(ConfigurationError, match="No window is called nothing"):
        featurize(rides.USE_CASE, requests, truths, {"nothing": "1h"}, settings())
    (settings().folder("data") / "rides" / "streams" / "ended.parquet").unlink()
    with pytest.raises(DataError, match="events of ended are missing"):
        featurize(rides.USE_CASE, requests, truths, None, settings())


def test_features_alone_equal_those_of_the_data_set(rides: ModuleType, history) -> None:
    requests, truths = history
    frame, _ = featurize(rides.USE_CASE, requests, truths, None, settings())
    alone = historical_features(rides.USE_CASE, requests, None, settings())
    assert alone.equals(frame.select(alone.columns))
    assert set(columns_of(frame, INPUT)) == {i.name for i in rides.USE_CASE.inputs}
