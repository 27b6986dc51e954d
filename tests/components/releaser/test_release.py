"""A release is idempotent, verified byte by byte, and leaves one version live."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.releaser.release import release_baseline, release_candidate
from ninefold.errors import PackageError
from ninefold.fields import Input
from ninefold.package import write_package
from ninefold.settings import settings
from ninefold.signature import InputStatistics, PackageManifest, Signature
from ninefold.store import Store, open_store


@pytest.fixture
def store() -> Iterator[Store]:
    opened = open_store(settings().store_url)
    yield opened
    opened.close()


def _package(folder: Path, mark: str) -> tuple[Path, str]:
    signature = Signature(
        use_case="arrivals", problem="regression", inputs=(Input(name="x"),), views=(), derive_digest="d", target="y"
    )
    manifest = PackageManifest(
        format="onnx", signature=signature, statistics={"x": InputStatistics(null_share=0.0)}, training={"mark": mark}
    )
    digest, uri = write_package(str(folder), manifest, {"model.onnx": mark.encode()})
    return Path(uri), digest


def test_versions_follow_each_other_and_one_is_live(store: Store, tmp_path: Path) -> None:
    models = str(tmp_path / "models")
    states = []
    baseline = _package(tmp_path / "made", "baseline")
    release_baseline("arrivals", *baseline, store=store, models_url=models)
    states.append({v.version: v.state for v in store.versions("arrivals")})
    for mark in ("one", "two"):
        candidate = _package(tmp_path / "made", mark)
        release_candidate("arrivals", *candidate, metrics={"mae": 1.0}, store=store, models_url=models)
        states.append({v.version: v.state for v in store.versions("arrivals")})
    assert states == [
        {0: "live"},
        {0: "registered", 1: "live"},
        {0: "registered", 1: "retired", 2: "live"},
    ]
    assert {path.name for path in (tmp_path / "models").iterdir()} == {v.digest for v in store.versions("arrivals")}


def test_releasing_the_same_package_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    candidate = _package(tmp_path / "made", "one")
    for _ in range(2):
        found = release_candidate("arrivals", *candidate, metrics={}, store=store, models_url=str(tmp_path / "models"))
        assert (found.version, found.uri) == (1, str(tmp_path / "models" / candidate[1]))
    assert len(store.versions("arrivals")) == 1


def test_the_baseline_does_not_take_the_place_of_a_live_model(store: Store, tmp_path: Path) -> None:
    models = str(tmp_path / "models")
    release_candidate("arrivals", *_package(tmp_path / "m", "one"), metrics={}, store=store, models_url=models)
    release_baseline("arrivals", *_package(tmp_path / "m", "baseline"), store=store, models_url=models)
    live = store.live_version("arrivals")
    assert live is not None
    assert live.version == 1


def test_a_package_with_one_byte_changed_is_not_released(store: Store, tmp_path: Path) -> None:
    folder, digest = _package(tmp_path / "made", "one")
    content = bytearray((folder / "model.onnx").read_bytes())
    content[0] ^= 1
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(PackageError, match=r"model\.onnx"):
        release_candidate("arrivals", folder, digest, metrics={}, store=store, models_url=str(tmp_path / "models"))
    assert store.versions("arrivals") == []
    assert not (tmp_path / "models").exists()
