"""``ninefold evaluate``, as it is called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from components.evaluator.testset import find_test_set, read_test_set, register_test_set
from ninefold.cli import app
from ninefold.dataset import write_dataset
from ninefold.errors import DataError, InvalidInput, NinefoldError, NotFound
from ninefold.settings import settings

PATH = "evaluator_samples:RIDES"


@pytest.fixture
def frame(samples, tmp_path: Path) -> pl.DataFrame:
    frame = samples.rides()
    card = samples.card(samples.RIDES, PATH).with_notes(split={"by": "time"})
    write_dataset(str(tmp_path / "test.parquet"), frame, card)
    register_test_set(settings(), "rides", "july", str(tmp_path / "test.parquet"))
    return frame


def _run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["evaluate", PATH, *map(str, arguments)], env={"COLUMNS": "120"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def _better(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select("key", prediction=pl.col("baseline") + 0.5 * (pl.col("truth") - pl.col("baseline")))


@pytest.mark.parametrize("ending", ["csv", "parquet", "json"])
def test_predictions_in_a_file_are_scored_beside_the_baseline(frame, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"predictions.{ending}"
    getattr(_better(frame), f"write_{ending}")(path)
    output = _run("--predictions", path)
    baseline = np.abs(frame["baseline"] - frame["truth"]).mean()
    assert f"{baseline:.4g} min" in output
    assert f"{baseline / 2:.4g} min" in output
    assert "50.0% better" in output
    assert "zone = north" in output


def test_the_baseline_is_scored_alone_and_a_report_is_written(frame, tmp_path: Path) -> None:
    output = _run("--test-set", tmp_path / "test.parquet", "--baseline", "--report", tmp_path / "report")
    assert "Baseline" in output
    assert "Candidate" not in output
    assert {p.name for p in (tmp_path / "report").iterdir()} >= {"report.html", "report.md", "errors.svg", "blocks.svg"}


def test_a_package_and_a_registered_version_are_asked_and_timed(frame, samples, tmp_path: Path) -> None:
    from ninefold.package import write_package
    from ninefold.signature import InputStatistics, PackageManifest
    from ninefold.store import open_store

    statistics = {"distance": InputStatistics(null_share=0.0), "zone": InputStatistics(null_share=0.0)}
    manifest = PackageManifest(
        format="baseline", signature=samples.card(samples.RIDES, PATH).signature, statistics=statistics,
        baseline={"path": samples.RIDES.baseline_path, "digest": samples.RIDES.baseline_digest},
    )  # fmt: skip
    digest, uri = write_package(settings().models_url, manifest, {})
    folder = uri.removeprefix("file://")
    output = _run("--package", folder, "--digest", digest)
    assert "Latency of one row, 99 %" in output
    assert "rows/s" in output
    store = open_store(settings().store_url)
    version = store.register_version("rides", digest, uri, {}, {}).version
    store.close()
    assert f"version {version}" in _run("--version", version)
    with pytest.raises(NotFound, match="has no version 99"):
        _run("--version", 99)
    with pytest.raises(NinefoldError, match="digest"):
        _run("--package", folder, "--digest", "0" * 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("key,prediction\nr0,1\nr0,2\n", "1 of 2 rows repeat a key"),
        ("key,prediction\nr0,nan\nr1,\nr2,x\nr3,1\n", "3 of 4 rows have no number"),
        ("key,prediction\nx,1\n", "1 of 1 predictions have a key that is not in the test set: 'x'"),
        ("key,value\nr0,1\n", "no column prediction"),
    ],
)
def test_a_file_of_bad_predictions_is_refused(frame, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        _run("--predictions", path)


def test_a_file_that_covers_a_part_says_so(frame, tmp_path: Path) -> None:
    _better(frame).head(600).write_csv(tmp_path / "part.csv")
    sections = _run("--predictions", tmp_path / "part.csv", "--report", tmp_path / "report")
    assert "600" in (tmp_path / "report" / "report.md").read_text()
    assert "For 400 more (40.0%) there is no prediction" in (tmp_path / "report" / "report.md").read_text()
    assert "Candidate" in sections


def test_what_is_to_be_evaluated_has_to_be_said_once(frame) -> None:
    for arguments in ((), ("--baseline", "--version", "1")):
        with pytest.raises(NinefoldError, match="Say what to evaluate"):
            _run(*arguments)
    with pytest.raises(DataError, match="can't be read"):
        _run("--predictions", "nowhere.csv")
    with pytest.raises(NinefoldError, match="no CSV, Parquet or JSON"):
        _run("--predictions", "predictions.txt")


def test_a_model_of_other_windows_or_inputs_is_not_asked(frame, samples, tmp_path: Path) -> None:
    import dataclasses

    from ninefold.package import write_package
    from ninefold.signature import PackageManifest

    signature = dataclasses.replace(samples.card(samples.RIDES, PATH).signature, derive_digest="1" * 64)
    manifest = PackageManifest(
        format="baseline", signature=signature, statistics={},
        baseline={"path": samples.RIDES.baseline_path, "digest": samples.RIDES.baseline_digest},
    )  # fmt: skip
    digest, uri = write_package(settings().models_url, manifest, {})
    with pytest.raises(DataError, match="other code of derive"):
        _run("--package", uri.removeprefix("file://"), "--digest", digest)


def test_the_newest_registered_test_set_is_the_default(frame, samples, tmp_path: Path) -> None:
    import os

    later = register_test_set(settings(), "rides", "august", str(tmp_path / "test.parquet"))
    os.utime(later, (2e9, 2e9))
    assert find_test_set(settings(), "rides") == later
    assert find_test_set(settings(), "rides", "july").stem == "july"
    with pytest.raises(NotFound, match=r"no test set 'may'.*july, august"):
        find_test_set(settings(), "rides", "may")
    with pytest.raises(InvalidInput, match="is not a name"):
        find_test_set(settings(), "rides", "../july")
    with pytest.raises(NotFound, match="ninefold run training churn"):
        find_test_set(settings(), "churn")


@pytest.mark.parametrize("column", ["key", "truth", "block"])
def test_a_test_set_with_holes_is_refused(frame, samples, tmp_path: Path, column: str) -> None:
    card = samples.card(samples.RIDES, PATH)
    path = str(tmp_path / "broken.parquet")
    holes = pl.when(pl.int_range(pl.len()) > 0).then(pl.col(column)).alias(column)
    write_dataset(path, frame.with_columns(holes), card)
    with pytest.raises(DataError, match=f"1 rows have no {column}"):
        read_test_set(path)
    write_dataset(path, pl.concat([frame, frame.head(2)]), card)
    with pytest.raises(DataError, match="2 rows repeat a key"):
        read_test_set(path)


def test_rows_for_a_latency_test_are_positional_with_nulls_as_none(frame, samples, tmp_path: Path) -> None:
    path = str(tmp_path / "nulls.parquet")
    holes = frame.with_columns(pl.lit(None, dtype=pl.Float64).alias("input.distance"))
    write_dataset(path, holes, samples.card(samples.RIDES, PATH))
    test = read_test_set(path)
    rows = test.rows(test.card.signature.inputs, 3)
    zones = frame["input.zone"].head(3).to_list()
    assert rows == [[None, zone] for zone in zones]
    # A version of before may take fewer inputs than the test set has.
    assert test.rows(test.card.signature.inputs[1:], 3) == [[zone] for zone in zones]
    json.dumps(rows, allow_nan=False)
