"""A use case's models as PMML and as scikit-learn objects: from a training set to what a real model server answers."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.model_builder import build as module
from components.model_builder.build import BuildResult, build
from components.model_builder.calibration import Calibrated, Isotonic, Platt
from components.model_builder.families import Control, families
from components.model_builder.formats import other_format, pmml_trees, scikit, skops
from components.model_builder.formats.pmml import to_pmml
from components.model_builder.formats.xml import element
from components.model_builder.parity import with_odd_rows
from components.model_builder.table import read_tables
from ninefold.dataset import columns_of, read_dataset
from ninefold.errors import ConfigurationError, PackageError, ParityError
from ninefold.package import ENVIRONMENT, MODELS, load_predictor, predictor_of, read_package
from ninefold.package.pmml.document import items
from ninefold.signature import PackageManifest

Make = Callable[..., Any]
FOREVER = Control(lambda: False, lambda step, value: False)


def built(data: Any, trials: int = 2) -> BuildResult:
    return build(data.train, data.validation, max_training_time=60, models_url=data.models, trials=trials, threads=1)


@contextmanager
def served(result: BuildResult, folder: Path, *without: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """A real model server's address, and what it has said; ``without`` names packages that it can't import."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    hidden = folder / "hidden"
    hidden.mkdir()
    code = f"import sys\nfor name in {without!r}:\n    sys.modules[name] = None\n"
    (hidden / "sitecustomize.py").write_text(code)
    command = ["-m", "serving.model_server", "--package", result.uri, "--digest", result.digest, "--name", "toy"]
    environment = {**os.environ, "NINEFOLD_HOME": str(folder), "PYTHONSAFEPATH": "1", "PYTHONPATH": str(hidden)}
    with (folder / "server.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command, "--port", str(port)], stdout=output, stderr=output, env=environment
        )
    said = (folder / "server.log").read_text
    try:
        deadline = time.monotonic() + 150
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", said
    finally:
        process.kill()
        process.wait()


def v2_request(predictor: Any, rows: list[list[Any]]) -> dict[str, Any]:
    """Rows as tensors, one an input."""
    inputs = []
    for place, declared in enumerate(predictor.manifest.signature.inputs):
        values = [row[place] for row in rows]
        if declared.kind == "number":
            values = [float("nan") if value is None else value for value in values]
        else:
            values = ["" if value is None else value for value in values]
        type_ = "FP64" if declared.kind == "number" else "BYTES"
        inputs.append({"name": declared.name, "shape": [len(rows)], "datatype": type_, "data": values})
    return {"inputs": inputs}


@pytest.mark.parametrize(("name", "kind"), [("pmml", "regression"), ("skops", "text")])
def test_from_a_training_set_to_a_served_answer(make: Make, tmp_path: Path, name: str, kind: str) -> None:
    """The answer over HTTP, v1 and v2, is the trained model's: the gate compared the two on hundreds of rows."""
    result = built(make(kind, rows=800, validation_rows=300, model_format=name))
    assert result.beats_baseline
    manifest, files = read_package(result.uri, result.digest)
    assert manifest.format == name
    assert set(files) == {MODELS[name], *([ENVIRONMENT] if name == "skops" else [])}
    parity = manifest.training["parity"]
    assert parity["error"] <= parity["tolerance"]
    assert parity["rows"] > 300
    predictor = load_predictor(result.uri, result.digest)
    columns = columns_of(read_dataset(str(tmp_path / f"{kind}-validation.parquet"))[0].head(20), "input.")
    inputs = manifest.signature.inputs
    rows = [[None if _is_null(columns[i.name][n]) else _plain(columns[i.name][n]) for i in inputs] for n in range(20)]
    expected = predictor.predict_rows(rows)
    np.testing.assert_allclose(predictor.predict_columns(columns), expected, rtol=1e-12)
    assert len(np.unique(expected)) > 2
    with served(result, tmp_path) as (url, said):
        assert "listening" in said(), said()
        answer = httpx.post(f"{url}/v1/models/toy:predict", json={"instances": rows}, timeout=30)
        assert answer.status_code == 200, (answer.text, said())
        np.testing.assert_allclose(answer.json()["predictions"], expected, rtol=1e-12)
        known = [row for row in rows if None not in row][:2]
        body = v2_request(predictor, known)
        answer = httpx.post(f"{url}/v2/models/toy/infer", json=body, timeout=30)
        assert answer.status_code == 200, (answer.text, said())
        output = answer.json()["outputs"][0]
        assert output["name"] == "prediction"
        np.testing.assert_allclose(output["data"], predictor.predict_rows(known), rtol=1e-6)
        wrong = httpx.post(f"{url}/v1/models/toy:predict", json={"instances": [[1] * len(inputs)]}, timeout=30)
        assert (wrong.status_code, "is not a string" in wrong.json()["error"]) == (400, True)


def _is_null(value: Any) -> bool:
    return value is None or value != value


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else float(value)


def test_a_server_without_the_extra_says_so_and_what_to_install(make: Make, tmp_path: Path) -> None:
    result = built(make("regression", rows=400, validation_rows=200, model_format="skops"), trials=1)
    with served(result, tmp_path, "skops", "skops.io") as (_, said):
        assert "is not installed. Install Ninefold's extra: pip install '.[formats]'" in said()


@pytest.mark.parametrize("name", ["pmml", "skops"])
def test_one_byte_changed_is_refused(make: Make, name: str) -> None:
    result = built(make("regression", rows=400, validation_rows=200, model_format=name), trials=1)
    path = Path(result.uri) / MODELS[name]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    with pytest.raises(PackageError, match="is not the file that its digest names"):
        load_predictor(result.uri, result.digest)


@pytest.mark.parametrize("name", ["pmml", "skops"])
@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_the_same_search_gives_the_same_package(make: Make, tmp_path: Path, name: str, kind: str) -> None:
    data = make(kind, rows=300, validation_rows=200, model_format=name)
    first = built(data)
    data.models = str(tmp_path / "again")
    assert built(data).digest == first.digest
    assert {row.family for row in first.leaderboard} - {"baseline"} == (
        {"linear", "boosting"} if name == "pmml" else {"scikit-learn linear", "scikit-learn boosting"}
    )


@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_every_family_says_the_same_as_pmml(make: Make, kind: str) -> None:
    """Nulls, unseen categories and a missing offset included; trees to the last bits of a double."""
    data = make(kind, rows=1500, validation_rows=400)
    task, _, train, validation = read_tables(data.train, data.validation, None)
    manifest = PackageManifest(format="pmml", signature=task.signature, statistics={})
    table = with_odd_rows(task, validation)
    for family in families(task, train, validation, seed=0, threads=1):
        fitted = family.fit(family.default, FOREVER)
        expected = fitted.predict(table) + table.offset
        predictor = predictor_of(manifest, {MODELS["pmml"]: to_pmml(task, fitted)})
        found = predictor.predict_columns(table.columns(task))
        bound = 1e-11 if family.name == "boosting" else 1e-5
        np.testing.assert_allclose(found, expected, rtol=0, atol=bound, equal_nan=True)
        if kind == "binary":
            for curve in (Platt(slope=1.7, shift=-0.4), Isotonic(points=(0.1, 0.4, 0.8), values=(0.05, 0.5, 0.7))):
                files = {MODELS["pmml"]: to_pmml(task, Calibrated(fitted, curve))}
                found = predictor_of(manifest, files).predict_columns(table.columns(task))
                np.testing.assert_allclose(found, curve.apply(fitted.raw(table)), rtol=0, atol=1e-5)


def test_a_wrong_threshold_in_the_document_packages_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pmml_trees, "float32_below", lambda threshold: np.float32(threshold + 0.7))
    chosen = other_format("pmml")
    assert chosen is not None
    only = dataclasses.replace(
        chosen, families=lambda *a, **k: [one for one in chosen.families(*a, **k) if one.name == "boosting"]
    )
    monkeypatch.setattr(module, "other_format", lambda name: only)
    data = make("regression", rows=800, validation_rows=300, model_format="pmml")
    with pytest.raises(ParityError, match="Nothing was packaged"):
        built(data, trials=1)
    assert not Path(data.models).exists()


def test_categories_of_all_kinds_survive_the_way_through_xml(make: Make) -> None:
    odd = ['"', "\\", 'a "b" \\', "<&>", "a\tb\r\nc", "  spaces  ", "日本", "🙂", "'", "]]>", '\\\\"', "-1.5e3"]

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.col("input.city").replace_strict({f"city {i}": odd[i % 12] for i in range(60)}))

    result = built(make("regression", rows=800, validation_rows=300, change=change, model_format="pmml"))
    assert result.parity_error is not None
    assert result.parity_error < 1e-3


def test_a_character_that_xml_has_not_is_refused_by_name(make: Make) -> None:
    def change(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.col("input.city").str.replace("city 1", "city\x00"))

    with pytest.raises(PackageError, match=r"'city\\x00.*' can't stand in a PMML document"):
        built(make("regression", rows=400, validation_rows=200, change=change, model_format="pmml"))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1), max_size=6))
def test_any_strings_in_a_set_are_read_as_they_were_written(values: list[str]) -> None:
    from defusedxml.ElementTree import fromstring

    written = element("Array", " ".join(map(pmml_trees._quoted, values)), type="string", n=len(values))
    assert list(items(fromstring(written))) == values


def test_a_pipeline_with_a_type_that_no_server_trusts_is_not_packaged(make: Make) -> None:
    from sklearn.cluster import KMeans

    data = make("regression", rows=300, validation_rows=200)
    task = read_tables(data.train, data.validation, None)[0]
    with pytest.raises(PackageError, match=r"sklearn\.cluster\._kmeans\.KMeans \(ObjectNode\)"):
        skops.to_skops(scikit.ScikitModel(task, KMeans(n_clusters=2).fit(np.zeros((4, 2)) + np.arange(4)[:, None])))


def test_what_is_installed_has_to_be_what_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    content = skops.environment().decode()
    assert "scikit-learn==" in content
    assert "--hash=sha256:" in content
    assert "python_full_version" not in content
    right = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == "scikit-learn" else right(name))
    with pytest.raises(ConfigurationError, match=r"scikit-learn is 9\.9 here and has to be"):
        skops.environment()
