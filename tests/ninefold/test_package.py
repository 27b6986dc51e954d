"""A package is served only when it is, to the last byte, the one that its digest names."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from ninefold.errors import InvalidInput, PackageError
from ninefold.features import FeatureView
from ninefold.fields import Input
from ninefold.loading import load_object
from ninefold.package import MANIFEST, MODEL, load_predictor, verify_package, write_package
from ninefold.signature import InputStatistics, PackageManifest, Signature
from ninefold.usecase import module_digest

INPUTS = (Input(name="a"), Input(name="c", kind="category"), Input(name="b"), Input(name="t", kind="text"))


def manifest_of(inputs: tuple[Input, ...] = INPUTS, **changes: object) -> PackageManifest:
    view = FeatureView(
        view="gain_6h", key=("c",), features=("gain__mean",), columns=("mean",), kinds=("number",), source="window",
        window=("gain", "6h"),
    )  # fmt: skip
    manifest = PackageManifest(
        format="onnx",
        signature=Signature(
            use_case="toy",
            problem="regression",
            inputs=inputs,
            views=(view,),
            derive_digest="d",
            target="y",
            unit="min",
        ),
        statistics={"a": InputStatistics(null_share=0.5, minimum=0, maximum=1, quantiles=(0.0, 1.0))},
        environment={"python": "3.11"},
        training={"family": "toy", "params": {"x": 1}},
    )
    return replace(manifest, **changes)


def graph(inputs: tuple[Input, ...] = INPUTS) -> bytes:
    """prediction = sum of the numbers, null as 0, plus 100 where the first category is "x"."""
    counts = {kind: sum(i.kind == kind for i in inputs) for kind in ("number", "category", "text")}
    takes = [
        helper.make_tensor_value_info(name, type_, ["N", counts[kind]])
        for kind, name, type_ in (
            ("number", "numbers", TensorProto.FLOAT),
            ("category", "categories", TensorProto.STRING),
            ("text", "texts", TensorProto.STRING),
        )
        if counts[kind]
    ]
    nodes = [
        helper.make_node("IsNaN", ["numbers"], ["nan"]),
        helper.make_node("Where", ["nan", "zero", "numbers"], ["filled"]),
        helper.make_node("ReduceSum", ["filled", "axis"], ["sum"], keepdims=0),
    ]
    if counts["category"]:
        nodes += [
            helper.make_node(
                "LabelEncoder", ["categories"], ["codes"], domain="ai.onnx.ml",
                keys_strings=["x", ""], values_floats=[100.0, -1.0], default_float=0.0,
            ),
            helper.make_node("ReduceSum", ["codes", "axis"], ["code"], keepdims=0),
            helper.make_node("Add", ["sum", "code"], ["prediction"]),
        ]  # fmt: skip
    else:
        nodes.append(helper.make_node("Identity", ["sum"], ["prediction"]))
    model = helper.make_model(
        helper.make_graph(
            nodes, "toy", takes, [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["N"])],
            [
                helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
                helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=8,
    )  # fmt: skip
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture
def package(tmp_path: Path) -> tuple[Path, str]:
    digest, uri = write_package(str(tmp_path / "models"), manifest_of(), {MODEL: graph(), "notes.txt": b"hello"})
    return Path(uri), digest


def test_a_package_says_of_itself_what_was_written(package: tuple[Path, str]) -> None:
    folder, digest = package
    manifest = verify_package(folder, digest)
    assert manifest == replace(manifest_of(), files=manifest.files)
    assert set(manifest.files) == {MODEL, "notes.txt"}
    assert folder.name == digest
    assert verify_package(f"file://{folder}", digest) == manifest


def test_writing_the_same_package_again_changes_nothing(package: tuple[Path, str]) -> None:
    folder, digest = package
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    again = write_package(str(folder.parent), manifest_of(), {"notes.txt": b"hello", MODEL: graph()})
    assert again == (digest, str(folder))
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir()] == [digest]


def test_one_byte_changed_anywhere_is_refused_and_the_file_is_named(package: tuple[Path, str]) -> None:
    folder, digest = package
    rng = np.random.default_rng(0)
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        for place in {0, len(content) - 1, *rng.integers(0, len(content), 20).tolist()}:
            changed = bytearray(content)
            changed[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(changed)
            with pytest.raises(PackageError, match=file.name):
                verify_package(folder, digest)
            with pytest.raises(PackageError, match=file.name):
                load_predictor(folder, digest)
        file.write_bytes(content)
    verify_package(folder, digest)


def test_a_truncated_missing_or_extra_file_is_refused(package: tuple[Path, str]) -> None:
    folder, digest = package
    model = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(model[:-1])
    with pytest.raises(PackageError, match=MODEL):
        verify_package(folder, digest)
    (folder / MODEL).unlink()
    with pytest.raises(PackageError, match=f"lacks the file '{MODEL}'"):
        verify_package(folder, digest)
    (folder / MODEL).write_bytes(model)
    (folder / "extra.so").write_bytes(b"x")
    with pytest.raises(PackageError, match=r"extra\.so"):
        verify_package(folder, digest)
    (folder / "extra.so").unlink()
    (folder / MANIFEST).unlink()
    with pytest.raises(PackageError, match=MANIFEST):
        verify_package(folder, digest)


def test_links_and_folders_inside_a_package_are_refused(package: tuple[Path, str], tmp_path: Path) -> None:
    folder, digest = package
    outside = tmp_path / "outside"
    outside.write_bytes((folder / MODEL).read_bytes())
    (folder / MODEL).unlink()
    (folder / MODEL).symlink_to(outside)
    with pytest.raises(PackageError, match=MODEL):
        verify_package(folder, digest)
    (folder / MODEL).unlink()
    (folder / MODEL).write_bytes(outside.read_bytes())
    (folder / "more").mkdir()
    with pytest.raises(PackageError, match="more"):
        verify_package(folder, digest)
    (folder / "more").rmdir()
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(PackageError, match="link"):
        verify_package(link, digest)
    os.mkfifo(folder / "pipe")
    with pytest.raises(PackageError, match="pipe"):
        verify_package(folder, digest)


@pytest.mark.parametrize("name", ["../evil", "a/b", "/etc/passwd", "..", ".hidden", "", MANIFEST, "a\x00b", "a\n"])
def test_a_file_name_that_leaves_the_folder_is_refused(package: tuple[Path, str], name: str) -> None:
    folder, _ = package
    with pytest.raises(PackageError, match="name of a file"):
        write_package(str(folder.parent), manifest_of(), {name: b""})
    # A forger who can also hand over a matching digest still can't make the reader leave the folder.
    document = json.loads((folder / MANIFEST).read_bytes())
    document["files"][name] = hashlib.sha256(b"").hexdigest()
    content = json.dumps(document).encode()
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(PackageError, match="not the name of a file"):
        verify_package(folder, hashlib.sha256(content).hexdigest())


def test_a_digest_of_another_package_or_of_another_form_is_refused(package: tuple[Path, str]) -> None:
    folder, digest = package
    for wrong in ("0" * 64, digest[:-1], digest.upper(), "", "é" * 64):
        with pytest.raises(PackageError, match=r"digest|SHA-256"):
            verify_package(folder, wrong)
    with pytest.raises(PackageError, match="can't be read"):
        verify_package(folder / "nowhere", digest)


def test_a_manifest_of_another_schema_is_refused(package: tuple[Path, str]) -> None:
    folder, _ = package
    original = json.loads((folder / MANIFEST).read_bytes())
    for change in ({"schema": 2}, {"signature": None}, {"files": None}):
        content = json.dumps({**original, **change}).encode()
        (folder / MANIFEST).write_bytes(content)
        with pytest.raises(PackageError, match=MANIFEST):
            verify_package(folder, hashlib.sha256(content).hexdigest())


def test_a_damaged_package_is_not_taken_for_the_one_being_written(package: tuple[Path, str]) -> None:
    folder, _ = package
    (folder / MODEL).write_bytes(b"damaged")
    with pytest.raises(PackageError, match="Remove that folder"):
        write_package(str(folder.parent), manifest_of(), {MODEL: graph(), "notes.txt": b"hello"})


def test_a_manifest_with_nan_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="JSON"):
        write_package(str(tmp_path), manifest_of(training={"metric": float("nan")}), {MODEL: graph()})
    assert list(tmp_path.iterdir()) == []


def test_too_large_a_package_is_refused(package: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, digest = package
    import ninefold.package.files as files

    monkeypatch.setattr(files, "MAX_PACKAGE_BYTES", 100)
    with pytest.raises(PackageError, match="at most 100"):
        verify_package(folder, digest)
    with pytest.raises(PackageError, match="over 100 bytes"):
        write_package(str(folder.parent), manifest_of(training={"more": 1}), {MODEL: graph()})


def test_rows_and_columns_predict_the_same(package: tuple[Path, str]) -> None:
    predictor = load_predictor(*package)
    rows = [[1.0, "x", 2, "hello"], [None, None, 0.5, None], [3, "never seen", None, ""], [True, "x", 1e-3, "ü"]]
    expected = np.array([103.0, -0.5, 3.0, 101.001], dtype=np.float32)
    np.testing.assert_array_equal(predictor.predict_rows(rows), expected)
    np.testing.assert_array_equal(np.concatenate([predictor.predict_rows([row]) for row in rows]), expected)
    columns = {
        "a": np.array([1.0, np.nan, 3, 1]),
        "b": np.array([2, 0.5, np.nan, 1e-3]),
        "c": np.array(["x", None, "never seen", "x"], dtype=object),
        "t": np.array(["hello", None, "", "ü"], dtype=object),
        "more": np.zeros(4),
    }
    np.testing.assert_array_equal(predictor.predict_columns(columns), expected)
    assert predictor.predict_rows([]).shape == (0,)
    assert predictor.predict_columns({name: column[:0] for name, column in columns.items()}).shape == (0,)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (["1", "x", 2, "t"], r"instances\[1\]\.a"),
        ([1, 5, 2, "t"], r"instances\[1\]\.c"),
        ([1, "x", [2], "t"], r"instances\[1\]\.b"),
        ([1, "x", 2, {}], r"instances\[1\]\.t"),
        ([1, "x", 2], r"instances\[1\]"),
        ([1, "x", 10**400, "t"], "instances"),
    ],
)
def test_a_wrong_value_is_named(package: tuple[Path, str], row: list[object], named: str) -> None:
    predictor = load_predictor(*package)
    with pytest.raises(InvalidInput, match=named):
        predictor.predict_rows([[1, "x", 2, "t"], row])


def test_a_missing_column_is_named(package: tuple[Path, str]) -> None:
    with pytest.raises(InvalidInput, match="c: is missing"):
        load_predictor(*package).predict_columns(
            {"a": np.zeros(1), "b": np.zeros(1), "t": np.array([""], dtype=object)}
        )


def test_only_the_tensors_that_exist_are_asked_for(tmp_path: Path) -> None:
    inputs = (Input(name="a"), Input(name="b"))
    digest, uri = write_package(str(tmp_path), manifest_of(inputs), {MODEL: graph(inputs)})
    assert load_predictor(uri, digest).predict_rows([[1, 2], [None, 5]]).tolist() == [3.0, 5.0]


def test_a_graph_that_does_not_fit_its_signature_is_refused(tmp_path: Path) -> None:
    digest, uri = write_package(str(tmp_path), manifest_of(), {MODEL: graph(INPUTS[:2])})
    with pytest.raises(PackageError, match="signature"):
        load_predictor(uri, digest)
    digest, uri = write_package(str(tmp_path), manifest_of(), {MODEL: b"no graph"})
    with pytest.raises(PackageError, match="can't load the model"):
        load_predictor(uri, digest)
    digest, uri = write_package(str(tmp_path), manifest_of(), {"other.bin": b""})
    with pytest.raises(PackageError, match=MODEL):
        load_predictor(uri, digest)


CODE = """
import numpy as np

def baseline(columns):
    assert columns["a"].dtype == np.float64 and columns["c"].dtype == object
    nulls = np.array([c is None for c in columns["c"]], dtype=bool)
    return np.where(np.isnan(columns["a"]), 0.0, columns["a"]) + 10.0 * nulls
"""


def baseline_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> tuple[str, str]:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{module}.py").write_text(CODE)
    path = f"{module}:baseline"
    manifest = manifest_of(format="baseline", baseline={"path": path, "digest": module_digest(load_object(path))})
    digest, uri = write_package(str(tmp_path / "models"), manifest, {})
    return uri, digest


def test_a_baseline_is_a_package_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = load_predictor(*baseline_package(tmp_path, monkeypatch, "toy_baseline"))
    assert predictor.predict_rows([[1, "x", 2, "t"], [None, None, None, None]]).tolist() == [1.0, 10.0]
    assert predictor.predict_rows([]).shape == (0,)
    with pytest.raises(InvalidInput, match=r"instances\[0\]\.a"):
        predictor.predict_rows([["1", "x", 2, "t"]])
    with pytest.raises(InvalidInput, match="has 1 values"):
        predictor.predict_rows([["1"]])


def test_a_baseline_whose_code_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = baseline_package(tmp_path, monkeypatch, "toy_baseline_changed")
    (tmp_path / "toy_baseline_changed.py").write_text(CODE.replace("10.0", "99.0"))
    del sys.modules["toy_baseline_changed"]
    with pytest.raises(PackageError, match="changed"):
        load_predictor(*package)
    (tmp_path / "toy_baseline_changed.py").unlink()
    sys.modules.pop("toy_baseline_changed", None)
    with pytest.raises(PackageError, match="can't be loaded"):
        load_predictor(*package)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_.]{0,20}", fullmatch=True), st.binary(max_size=50), max_size=5))
def test_any_files_come_back_byte_for_byte(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    from ninefold.package import read_package

    files.pop(MANIFEST, None)
    digest, uri = write_package(str(tmp_path_factory.mktemp("models")), manifest_of(), files)
    assert read_package(uri, digest)[1] == files
