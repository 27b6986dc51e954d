"""A file that names more than a model needs is refused by name, and nothing of it is built."""

from __future__ import annotations

import functools
import importlib.metadata
import io
import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ninefold.errors import ConfigurationError, PackageError
from ninefold.fields import Input
from ninefold.package.skops_object import SkopsPredictor
from ninefold.package.trusted import check_types
from ninefold.signature import PackageManifest, Signature

skops = pytest.importorskip("skops.io", reason="the extra formats is not installed")

INPUTS = (Input(name="wind"), Input(name="carrier", kind="category"))
HASH = "0" * 64


def manifest(**training: Any) -> PackageManifest:
    signature = Signature(
        use_case="toy", problem="regression", inputs=INPUTS, views=(), derive_digest="", target="delay"
    )
    return PackageManifest(format="skops", signature=signature, statistics={}, training=training)


def lock(**other: str) -> bytes:
    names = ("scikit-learn", "numpy")
    wanted = {name: importlib.metadata.version(name) for name in names} | {
        k.replace("_", "-"): v for k, v in other.items()
    }
    return "".join(f"{name}=={version} \\\n    --hash=sha256:{HASH}\n" for name, version in wanted.items()).encode()


def fitted() -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder

    given = np.array([[1.0, "AA"], [2.0, "UA"], [4.0, "AA"]], dtype=object)
    one_hot = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer([("number", "passthrough", [0]), ("category", one_hot, [1])])
    return Pipeline([("columns", columns), ("model", Ridge(alpha=0.1))]).fit(given, [1.0, 3.0, 5.0])


def changed(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The file with another schema."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(written, "w") as new:
        for name in old.namelist():
            if name == "schema.json":
                schema = json.loads(old.read(name))
                new.writestr(name, json.dumps(change(schema) or schema))
            else:
                new.writestr(name, old.read(name))
    return written.getvalue()


class Touches:
    """Leaves a file behind when it is built."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_an_object_answers_as_it_did_with_the_offset_added() -> None:
    model = fitted()
    predictor = SkopsPredictor(manifest(offset="wind"), skops.dumps(model), lock())
    expected = model.predict(np.array([[3.0, "AA"], [3.0, "never"]], dtype=object)) + 3.0
    np.testing.assert_allclose(predictor.predict_rows([[3.0, "AA"], [3, "never"]]), expected)
    assert len(predictor.predict_rows([])) == 0


def hooked(schema: dict[str, Any], node: dict[str, Any]) -> None:
    """Puts a node among the attributes of the object."""
    schema["content"]["content"]["memory"] = node


def test_a_function_of_the_system_is_refused_and_does_not_run(tmp_path: Path) -> None:
    left = tmp_path / "left"

    class Model:
        pass

    harmful = [
        skops.dumps({"a": functools.partial(os.system, f"touch {left}")}),
        changed(
            skops.dumps(fitted()),
            lambda schema: hooked(
                schema,
                {
                    "__class__": "system", "__module__": "posix", "__loader__": "FunctionNode", "__id__": -1,
                    "content": {},
                },
            ),
        ),
        changed(
            skops.dumps(fitted()),
            lambda schema: hooked(
                schema,
                {
                    "__class__": "Touches", "__module__": __name__, "__loader__": "ObjectNode", "__id__": -1,
                    "__reduce__": {"args": str(left)}, "content": None,
                },
            ),
        ),
    ]  # fmt: skip
    for content in harmful:
        with pytest.raises(PackageError, match=r"holds what is not trusted: .*(system|Touches)"):
            SkopsPredictor(manifest(), content, lock())
    assert not left.exists()


@pytest.mark.parametrize(
    ("module", "name", "way"),
    [
        ("builtins", "eval", "FunctionNode"),
        ("builtins", "str", "ObjectNode"),
        ("sklearn.linear_model._ridge", "Ridge", "OperatorFuncNode"),
        ("sklearn.linear_model._ridge", "Ridge", "MethodNode"),
        ("sklearn.linear_model._ridge", "Ridge", None),
        ("sklearn.linear_model._ridge", "Ridge", ["ObjectNode"]),
        ("sklearn.neighbors._kd_tree", "KDTree", "TreeNode"),
        (None, None, "CachedNode"),
    ],
)
def test_a_trusted_name_by_a_way_that_is_not_its_own_is_refused(module: str | None, name: Any, way: Any) -> None:
    node = {"__class__": name, "__module__": module, "__loader__": way, "__id__": -1, "content": {}}
    with pytest.raises(PackageError, match="holds what is not trusted"):
        check_types(changed(skops.dumps(fitted()), lambda schema: hooked(schema, node)))


def test_what_skops_trusts_and_no_model_of_ours_needs_is_refused() -> None:
    from sklearn.svm import SVC

    content = skops.dumps(SVC().fit([[0.0], [1.0]], [0, 1]))
    assert not skops.get_untrusted_types(data=content)
    with pytest.raises(PackageError, match=r"sklearn\.svm\._classes\.SVC"):
        check_types(content)


def test_rules_of_an_older_protocol_are_refused() -> None:
    for protocol in (0, 1, 3, True, "2", None):

        def older(schema: dict[str, Any], protocol: Any = protocol) -> None:
            schema["protocol"] = protocol

        with pytest.raises(PackageError, match="protocol"):
            check_types(changed(skops.dumps(fitted()), older))


def pickled() -> bytes:
    import pickle

    return pickle.dumps(Touches(Path("/nowhere")))


def nested() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("schema.json", "[" * 200_000 + "]" * 200_000)
    return written.getvalue()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickled(), nested()], ids=["nothing", "cut", "pickle", "deep"])
def test_what_is_no_file_of_skops_is_refused(content: bytes) -> None:
    with pytest.raises(PackageError, match="is not a file of skops"):
        check_types(content)


def test_an_archive_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    from ninefold.package import trusted

    monkeypatch.setattr(trusted, "MAX_BYTES", 10_000)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", "{}")
        archive.writestr("0.npy", b"\0" * 1_000_000)
    with pytest.raises(PackageError, match="unpacks to more than 10,000 bytes"):
        check_types(written.getvalue())


def test_another_version_than_locked_is_refused_with_both_versions() -> None:
    with pytest.raises(ConfigurationError) as told:
        SkopsPredictor(manifest(), skops.dumps(fitted()), lock(scikit_learn="0.24.2", no_such_package="1.0"))
    here = importlib.metadata.version("scikit-learn")
    assert f"scikit-learn is {here} here and has to be 0.24.2" in str(told.value)
    assert "no-such-package 1.0 is not installed" in str(told.value)
    assert "pip install --require-hashes" in str(told.value)


@pytest.mark.parametrize(
    "line", ["scikit-learn>=1", "scikit-learn==1.9.1", "-r other.txt", "scikit-learn @ file:///x", ""]
)
def test_a_lock_that_locks_nothing_is_refused(line: str) -> None:
    with pytest.raises(PackageError, match="environment"):
        SkopsPredictor(manifest(), skops.dumps(fitted()), line.encode())


def test_without_the_extra_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = skops.dumps(fitted())
    modules: Any = sys.modules
    monkeypatch.setitem(modules, "skops.io", None)
    monkeypatch.setitem(modules, "skops", None)
    with pytest.raises(ConfigurationError, match=r"skops.* is not installed.*pip install '\.\[formats\]'"):
        SkopsPredictor(manifest(), content, lock())
