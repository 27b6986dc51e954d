"""A snapshot holds what sources and production know, once, and a reader sees only what was known by then."""

import dataclasses
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from components.collector.extract import STANDS_FOR, extract, publish, read_examples
from components.collector.source import check
from ninefold.errors import DataError
from ninefold.fields import Field
from ninefold.labels import LabelTask, label_task_id
from ninefold.loading import load_use_case
from ninefold.records import Event, Prediction, Truth
from ninefold.settings import settings
from ninefold.store import Store, open_store

sys.path.append(str(Path(__file__).parent))
import tiny_use_case
from tiny_use_case import START

USE_CASE = load_use_case("tiny_use_case:USE_CASE")


@pytest.fixture
def store() -> Iterator[Store]:
    tiny_use_case.HISTORY["history"] = tiny_use_case.history()
    opened = open_store(settings().store_url)
    yield opened
    opened.close()


def _prediction(parcel: str, hours: int = 10, **request: object) -> Prediction:
    sent = START + timedelta(hours=hours)
    fields = {"parcel": parcel, "depot": "north", "weight": 5, "sent_at": sent.isoformat(), **request}
    return Prediction(
        prediction_id=f"{parcel}-{hours}", use_case="parcels", request_id=None, key=parcel, decided_at=sent,
        received_at=sent, version=0, cohort="live", request=fields, features={}, value=1.0,
    )  # fmt: skip


def _truth(parcel: str, value: float, day: int) -> Truth:
    known = START + timedelta(days=day)
    return Truth(
        truth_id=f"{parcel}-{day}", use_case="parcels", key=parcel, value=value, known_at=known, received_at=known
    )


def test_production_adds_what_the_source_does_not_hold(store: Store, tmp_path: Path) -> None:
    store.write_predictions([_prediction("p1"), _prediction("x1"), _prediction("x1", hours=12, weight=7)])
    store.write_truths([_truth("x1", 40.0, day=2), _truth("p1", 99.0, day=9)])
    event = {"depot": "north", "hours": 5.0}
    known = START + timedelta(hours=3)
    store.write_events(
        [
            Event(
                event_id=identity, use_case="parcels", stream="deliveries", happened_at=known, known_at=known,
                received_at=known, values=event,
            )
            for identity in ("e1", "e3")
        ]
    )  # fmt: skip
    summary = extract(USE_CASE, store, tmp_path / "snapshot")
    assert summary["requests"] == 7
    assert summary["requests_from_production"] == 1
    assert summary["events"] == {"deliveries": 3}
    assert summary["dropped"] == {"returned": 2}
    requests = pl.read_parquet(tmp_path / "snapshot" / "requests.parquet")
    assert requests.filter(parcel="x1")["weight"].to_list() == [7.0]
    assert requests.filter(parcel="p1")["weight"].to_list() == [1.0]


def test_a_reader_sees_the_newest_truth_that_was_known_by_then(store: Store, tmp_path: Path) -> None:
    store.write_predictions([_prediction("p1", hours=1)])
    store.write_truths([_truth("p1", 99.0, day=9)])
    extract(USE_CASE, store, tmp_path / "snapshot")

    def truths(until: timedelta | None) -> dict[str, float | None]:
        frame = read_examples(USE_CASE, tmp_path / "snapshot", START + until if until is not None else None)
        return dict(frame.select("key", "truth").iter_rows())

    assert truths(timedelta(hours=25, microseconds=1)) == {
        "p0": 0.0, "p1": 2.0, "p2": None, "p3": None, "p4": None, "p5": None
    }  # fmt: skip
    assert truths(timedelta(hours=25))["p1"] is None
    assert truths(timedelta(hours=2)) == {"p0": None, "p1": None}
    assert truths(None)["p1"] == 99.0


def test_extracting_twice_gives_the_same_snapshot(store: Store, tmp_path: Path) -> None:
    first = extract(USE_CASE, store, tmp_path / "snapshot")
    assert extract(USE_CASE, store, tmp_path / "snapshot") == first


def test_publishing_replaces_file_by_file_and_leaves_what_is_others(store: Store, tmp_path: Path) -> None:
    extract(USE_CASE, store, tmp_path / "snapshot")
    (tmp_path / "data" / "test_sets").mkdir(parents=True)
    publish(tmp_path / "snapshot", tmp_path / "data")
    publish(tmp_path / "snapshot", tmp_path / "data")
    assert pl.read_parquet(tmp_path / "data" / "views" / "depots.parquet").height == 2
    assert (tmp_path / "data" / "test_sets").exists()


def _earlier(frame: pl.DataFrame, hours: list[int]) -> pl.DataFrame:
    """Known so many hours earlier, row by row."""
    return frame.with_columns(known_at=pl.col("known_at") - pl.duration(hours=pl.Series(hours)))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"requests": tiny_use_case.history().requests.drop("weight")}, "requests: the columns weight"),
        ({"truths": tiny_use_case.history().truths.drop("known_at")}, "truths: the columns known_at"),
        ({"streams": {}}, "stream 'deliveries'"),
        ({"views": {}}, "view 'depots'"),
        ({"requests": pl.concat([tiny_use_case.history().requests] * 2)}, "share their key"),
        (
            {"truths": tiny_use_case.history().truths.with_columns(pl.col("known_at").dt.replace_time_zone(None))},
            "not Datetime",
        ),
        (
            {"streams": {"deliveries": _earlier(tiny_use_case.history().streams["deliveries"], [0, 1])}},
            "1 of 2 events of deliveries were known before they happened",
        ),
        (
            {"truths": _earlier(tiny_use_case.history().truths, [24, 24, 25, 0, 0, 48])},
            "2 of 6 truths were known before sent_at",
        ),
        (
            {"views": {"depots": pl.concat([tiny_use_case.history().views["depots"]] * 2)}},
            "view depots: 4 rows share depot and known_at",
        ),
    ],
)
def test_a_source_that_breaks_the_contract_is_named(
    store: Store, tmp_path: Path, change: dict[str, object], word: str
) -> None:
    tiny_use_case.HISTORY["history"] = dataclasses.replace(tiny_use_case.history(), **change)
    with pytest.raises(DataError, match=word):
        extract(USE_CASE, store, tmp_path / "snapshot")


@pytest.mark.parametrize(
    ("sizes", "word"),
    [
        ([10.0, 1048.0], "view depots: size is above 500 m² in 1 of 2 rows, such as 1048"),
        ([-0.5, None], "size is below 0 m² in 1 of 2 rows, such as -0.5"),
        ([float("nan"), 500.0], None),
    ],
)
def test_a_view_keeps_to_its_declared_range_and_null_is_in_it(sizes: list[float | None], word: str | None) -> None:
    size = Field(name="size", kind="number", unit="m²", minimum=0, maximum=500)
    (depots,) = USE_CASE.batch_views
    ranged = dataclasses.replace(USE_CASE, batch_views=(dataclasses.replace(depots, columns=(size,)),))
    history = tiny_use_case.history()
    rows = history.views["depots"].with_columns(size=pl.Series(sizes, dtype=pl.Float64))
    found = dataclasses.replace(history, views={"depots": rows})
    if word is None:
        check(ranged, found)
        return
    with pytest.raises(DataError, match=word):
        check(ranged, found)


def test_a_truth_of_the_very_moment_of_asking_is_none_too_early() -> None:
    history = tiny_use_case.history()
    check(USE_CASE, dataclasses.replace(history, truths=_earlier(history.truths, [24] * 6)))


def test_an_experts_label_stands_for_what_chance_could_have_picked_in_its_place(store: Store, tmp_path: Path) -> None:
    store.write_predictions([_prediction(parcel) for parcel in ("x1", "x2", "x3", "x4")])
    asked = START + timedelta(days=1)
    store.record_label_tasks(
        LabelTask(
            task_id=label_task_id("parcels", key), use_case="parcels", key=key, prediction_id=f"{key}-10", batch="b",
            sampler="random", reason="", score=None, inclusion_probability=chance, sent_at=asked,
        )
        for key, chance in (("x1", 1.0), ("x2", 0.25), ("x4", 0.25))
    )  # fmt: skip
    told = [dataclasses.replace(_truth(key, 40.0, day=2), source="labeller") for key in ("x1", "x2", "x4")]
    # What the organisation itself says later stands above the label, and for itself.
    store.write_truths([*told, dataclasses.replace(_truth("x4", 41.0, day=3), truth_id="own")])
    extract(USE_CASE, store, tmp_path / "snapshot")
    examples = read_examples(USE_CASE, tmp_path / "snapshot", None)
    found = dict(examples.select("key", STANDS_FOR).iter_rows())
    assert {key: found[key] for key in ("x1", "x2", "x3", "x4", "p1")} == {
        "x1": 1.0, "x2": 4.0, "x3": None, "x4": None, "p1": None,
    }  # fmt: skip


def test_where_no_expert_was_asked_nothing_stands_for_anything(store: Store, tmp_path: Path) -> None:
    extract(USE_CASE, store, tmp_path / "snapshot")
    assert STANDS_FOR not in read_examples(USE_CASE, tmp_path / "snapshot", None).columns
