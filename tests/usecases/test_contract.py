"""What every use case owes; and what a contract refuses."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ninefold.dataset import to_numpy
from ninefold.errors import ConfigurationError
from ninefold.features import BatchView
from ninefold.fields import Columns, Field, Input
from ninefold.loading import known_use_cases
from ninefold.splits import HashSplit, TimeSplit
from ninefold.usecase import History, UseCase
from ninefold.windows.declaration import Window

NAMES = (*known_use_cases(), "text_use_case:USE_CASE")
UTC_TIME = pl.Datetime("us", "UTC")
STORED = {
    "number": (pl.Float64, pl.Int64),
    "integer": (pl.Int64,),
    "boolean": (pl.Boolean,),
    "category": (pl.String,),
    "text": (pl.String,),
    "time": (UTC_TIME,),
}

every_use_case = pytest.mark.parametrize("name", NAMES)
UseCases = Callable[[str], UseCase]
Histories = Callable[[str], History]
Samples = Callable[[str], Columns]


def same(a: Any, b: Any) -> Any:
    """Element by element equal, missing equal to missing."""
    if a.dtype == object:
        return np.array([x == y for x, y in zip(a, b, strict=True)])
    return (a == b) | (np.isnan(a) & np.isnan(b))


def is_missing(column: Any) -> Any:
    return np.array([v is None for v in column]) if column.dtype == object else np.isnan(column)


@every_use_case
def test_its_examples_are_requests(name: str, use_cases: UseCases) -> None:
    for f in use_cases(name).request:
        assert f.example is not None, f"{f.name} has no example"
        value = f.check(f.example)
        assert f.kind not in ("number", "integer") or f.in_range(value)


@pytest.mark.parametrize("name", known_use_cases())
def test_the_declaration_loads_with_numpy_alone(name: str) -> None:
    code = (
        f"import sys; from ninefold.loading import load_use_case; load_use_case({name!r}); "
        "print(*sorted({m.partition('.')[0] for m in sys.modules} & set(sys.argv[1:])))"
    )
    heavy = [
        "polars",
        "pandas",
        "pyarrow",
        "feast",
        "kfp",
        "lightgbm",
        "sklearn",
        "optuna",
        "sqlalchemy",
        "onnxruntime",
    ]
    ran = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


@every_use_case
def test_derive_returns_the_declared_inputs_in_their_types(name: str, use_cases: UseCases, sample: Samples) -> None:
    use_case, columns = use_cases(name), sample(name)
    derived = use_case.derive(columns)
    assert set(derived) == {i.name for i in use_case.inputs}
    for i in use_case.inputs:
        assert derived[i.name].dtype == (np.float64 if i.kind == "number" else np.dtype(object)), i.name
        assert derived[i.name].shape == (300,)


@every_use_case
def test_derive_and_baseline_give_one_row_what_they_give_many(name: str, use_cases: UseCases, sample: Samples) -> None:
    use_case, columns = use_cases(name), sample(name)
    many = use_case.derive(columns)
    predictions = use_case.baseline(many)
    for row in range(0, 300, 7):
        one = use_case.derive({c: v[row : row + 1].copy() for c, v in columns.items()})
        assert all(same(one[i], many[i][row : row + 1]).all() for i in many)
        assert use_case.baseline(one)[0] == predictions[row]


@every_use_case
def test_derive_leaves_its_argument_alone(name: str, use_cases: UseCases, sample: Samples) -> None:
    columns = {c: v.copy() for c, v in sample(name).items()}
    for values in columns.values():
        values.flags.writeable = False
    use_cases(name).derive(columns)


@every_use_case
def test_what_rests_on_a_missing_feature_is_missing_and_never_a_number(
    name: str, use_cases: UseCases, sample: Samples
) -> None:
    use_case, columns = use_cases(name), sample(name)
    known = use_case.derive(columns)
    for view in use_case.feature_views():
        for feature in view.features:
            nothing = np.full(300, None if columns[feature].dtype == object else np.nan, dtype=columns[feature].dtype)
            without = use_case.derive({**columns, feature: nothing})
            moved = [i for i in known if not same(known[i], without[i]).all()]
            assert moved, f"No input rests on {feature}."
            for i in moved:
                changed = ~same(known[i], without[i])
                assert is_missing(without[i])[changed].all(), f"{i} is a number without {feature}."


@every_use_case
def test_the_baseline_answers_within_bounds_when_all_features_are_missing(
    name: str, use_cases: UseCases, sample: Samples
) -> None:
    use_case, columns = use_cases(name), dict(sample(name))
    for view in use_case.feature_views():
        for feature, kind in zip(view.features, view.kinds, strict=True):
            columns[feature] = np.full(300, None if kind == "category" else np.nan, dtype=columns[feature].dtype)
    predictions = use_case.baseline(use_case.derive(columns))
    assert predictions.dtype == np.float64
    assert np.isfinite(predictions).all()
    assert (predictions >= use_case.minimum_prediction).all()
    assert (predictions <= use_case.maximum_prediction).all()


@every_use_case
def test_its_words_decision_blocks_and_gains_serve_the_front_end_and_the_evaluator(
    name: str, use_cases: UseCases, sample: Samples
) -> None:
    use_case, columns = use_cases(name), sample(name)
    assert {i.group for i in use_case.inputs} == set(use_case.explain)
    request = {f.name: f.check(f.example) for f in use_case.request}
    for prediction in (use_case.minimum_prediction, 0.5, use_case.maximum_prediction):
        json.dumps(use_case.decision(request, prediction), allow_nan=False)
        json.dumps(use_case.decision(request, prediction, (prediction, prediction)), allow_nan=False)
    assert len(use_case.block(columns)) == 300
    if use_case.application_metrics is not None:
        predictions = use_case.baseline(use_case.derive(columns))
        truth = (np.arange(300) % 3 == 0).astype(np.float64)
        around = np.stack([predictions - 0.5, predictions + 0.5], axis=1)
        for interval in (None, around):
            gains = use_case.gains(columns, truth, predictions, interval)
            assert gains
            assert all(isinstance(v, float) and np.isfinite(v) for v in gains.values())


@every_use_case
def test_its_history_keeps_the_contract(name: str, use_cases: UseCases, history: Histories) -> None:
    use_case, past = use_cases(name), history(name)
    requests, truths = past.requests, past.truths
    assert requests.columns == [f.name for f in use_case.request]
    for f in use_case.request:
        assert requests.schema[f.name] in STORED[f.kind]
        assert f.nullable or not requests[f.name].has_nulls()
    for row in requests.sample(200, seed=1).iter_rows(named=True):
        for f in use_case.request:
            value = f.check(row[f.name])
            assert f.kind not in ("number", "integer") or f.in_range(value), f"{f.name} is {value}"
    assert not requests.select(use_case.key).is_duplicated().any()
    assert not truths.select(use_case.key).is_duplicated().any()
    assert truths.schema["truth"] == pl.Float64
    assert truths.schema["known_at"] == UTC_TIME
    joined = truths.join(requests, on=use_case.key, how="left", validate="1:1")
    assert joined.height == truths.height
    assert truths["truth"].is_between(use_case.target.minimum, use_case.target.maximum).all()
    if use_case.decided_at is not None:
        assert (joined["known_at"] > joined[use_case.decided_at]).all()
        assert joined.filter(pl.col("known_at") > pl.col(use_case.decided_at) + use_case.truth_delay).is_empty()


@every_use_case
def test_its_views_and_streams_keep_the_contract(name: str, use_cases: UseCases, history: Histories) -> None:
    use_case, past = use_cases(name), history(name)
    assert set(past.views) == {view.name for view in use_case.batch_views}
    assert set(past.streams) == {stream.name for stream in use_case.streams}
    for view in use_case.batch_views:
        rows = past.views[view.name]
        assert set(rows.columns) == {*view.key, *(c.name for c in view.columns), "known_at"}
        assert rows.schema["known_at"] == UTC_TIME
        assert not rows.select(*view.key, "known_at").is_duplicated().any()
        assert not any(rows[c].has_nulls() for c in (*view.key, "known_at"))
        assert all(rows.schema[c.name] in STORED[c.kind] for c in view.columns)
        assert not any(rows[c.name].is_nan().any() for c in view.columns if rows.schema[c.name] == pl.Float64)
        assert all(rows.schema[k] == past.requests.schema[k] for k in view.key)
    for stream in use_case.streams:
        events = past.streams[stream.name]
        assert set(events.columns) == {*(f.name for f in stream.fields), "known_at", "happened_at", "event_id"}
        assert events["event_id"].is_unique().all()
        assert (events["known_at"] >= events["happened_at"]).all()
        for f in stream.fields:
            assert events.schema[f.name] in STORED[f.kind]
            assert f.nullable or not events[f.name].has_nulls()
            assert np.isfinite(to_numpy(events[f.name])).all() if f.kind == "integer" else True


def _stops(**changes: Any) -> Callable[[UseCase], UseCase]:
    return lambda use_case: dataclasses.replace(use_case, **changes)


HOUR = timedelta(hours=1)
REFUSED = {
    "lower-case": _stops(name="Arrivals now"),
    "request field twice": lambda u: dataclasses.replace(u, request=(*u.request, u.request[0])),
    "key names flght": _stops(key=("date", "flght")),
    "'tail_number' can be null": _stops(key=("date", "tail_number")),
    "'source' is called like a column that truths have": lambda u: dataclasses.replace(
        u, request=(*u.request, Field(name="source", kind="category")), key=(*u.key, "source")
    ),
    "slices names airline": _stops(slices=("airline",)),
    "decided_at names flight": _stops(decided_at="flight"),
    "needs decided_at": _stops(decided_at=None, split=TimeSplit()),
    "and a split by hash": _stops(split=HashSplit()),
    "key of plane names tail": lambda u: dataclasses.replace(
        u, batch_views=(BatchView(name="plane", key=("tail",), columns=(Field(name="seats", kind="number"),)),)
    ),
    "stream of late names takeoffs": _stops(
        windows=(Window(name="late", stream="takeoffs", key=("origin",), value="gain", length=HOUR),)
    ),
    "columns of late names minutes": _stops(
        windows=(Window(name="late", stream="landings", key=("origin",), value="minutes", length=HOUR),)
    ),
    "aggregates 'carrier'": _stops(
        windows=(Window(name="late", stream="landings", key=("origin",), value="carrier", length=HOUR),)
    ),
    "share a name": lambda u: dataclasses.replace(u, windows=(*u.windows, u.windows[0])),
    "digest_of of id names flight": lambda u: dataclasses.replace(
        u, request=(*u.request, Field(name="id", kind="category", digest_of="flight"))
    ),
    "digest_of of id names tail_number": lambda u: dataclasses.replace(
        u, request=(*u.request, Field(name="id", kind="category", digest_of="tail_number"))
    ),
    "offset names carrier": _stops(offset="carrier", inputs=(Input(name="carrier", kind="category"),)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_contract_with_a_wrong_name_is_refused_and_the_name_is_told(message: str, use_cases: UseCases) -> None:
    with pytest.raises(ConfigurationError, match=message):
        REFUSED[message](use_cases("arrivals"))


INTERVALS = {
    "problem has an interval of 1.5": {"interval": 1.5},
    "problem has an interval of 0.0": {"interval": 0.0},
    "a binary problem has an interval": {"interval": 0.8, "problem": "binary"},
    "its decide does not take one": {"interval": 0.8},
    "its application_metrics does not take one": {"interval": 0.8, "decide": lambda request, value, interval: None},
}


@pytest.mark.parametrize("message", INTERVALS)
def test_an_interval_is_a_share_of_a_number_and_what_rests_on_it_takes_it(message: str, use_cases: UseCases) -> None:
    with pytest.raises(ConfigurationError, match=message):
        dataclasses.replace(use_cases("arrivals"), **INTERVALS[message])


def test_a_digest_of_derive_follows_the_source_of_its_module(use_cases: UseCases) -> None:
    digests = {use_cases(name).derive_digest for name in NAMES}
    assert len(digests) == len(NAMES)
    assert all(len(digest) == 64 for digest in digests)


def test_every_term_of_the_contract_is_explained_to_who_writes_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "usecases.md").read_text()
    terms = {f.name for cls in (UseCase, History) for f in dataclasses.fields(cls)}
    assert {term for term in terms if f"`{term}`" not in text} == set()


def test_the_example_in_the_documents_is_a_use_case() -> None:
    text = (Path(__file__).parents[2] / "docs" / "usecases.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    found: dict[str, Any] = {}
    exec(code, found)
    use_case = found["USE_CASE"]
    columns = {"weight": np.array([1.2]), "handed_in_at": np.array(["2025-03-03T10:00"], dtype="datetime64[us]")}
    assert use_case.baseline(use_case.derive(columns)).tolist() == [26.0]
    assert use_case.block(columns).tolist() == ["2025-03-03"]
