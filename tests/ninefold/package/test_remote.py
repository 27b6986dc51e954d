"""Packages in an object store: what is read there is, to the last byte, what its digest names, or an error says why."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ninefold.errors import ConfigurationError, PackageError, Unavailable
from ninefold.fields import Input
from ninefold.package import MANIFEST, MODEL, read_package, verify_package, write_package
from ninefold.package.objects import Objects
from ninefold.package.remote import drop_fetched, fetch_package, publish_package
from ninefold.signature import InputStatistics, PackageManifest, Signature
from tests.http_proxy import Faults, proxy
from tests.ninefold.package.s3 import make_bucket, s3_server

BUCKET = "packages"
MODELS = f"s3://{BUCKET}/team/models"
CONTENT = {MODEL: b"graph" * 1000, "notes.txt": b"made for a test"}


def manifest(mark: str = "") -> PackageManifest:
    signature = Signature(
        use_case="toy", problem="regression", inputs=(Input(name="x"),), views=(), derive_digest="d", target="y"
    )
    return PackageManifest(
        format="onnx", signature=signature, statistics={"x": InputStatistics(null_share=0.0)}, training={"mark": mark}
    )


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as found:
        yield found


@pytest.fixture(autouse=True)
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    """An empty bucket, and the variables that name the store and who asks."""
    for name, value in (
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", "someone"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ):
        monkeypatch.setenv(name, value)
    make_bucket(endpoint, BUCKET)
    objects = Objects(f"s3://{BUCKET}")
    # The server keeps what other tests of the same process left.
    objects.delete(objects.list())
    yield objects
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    objects.delete(objects.list())


@pytest.fixture
def faulty(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """The store behind a proxy that fails as told."""
    faults = Faults()
    with proxy(endpoint, faults) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        yield faults


def test_a_package_is_written_once_and_read_back(bucket: Objects, tmp_path: Path) -> None:
    digest, uri = write_package(MODELS, manifest(), CONTENT)
    assert uri == f"{MODELS}/{digest}"
    assert set(bucket.list()) == {f"team/models/{digest}/{name}" for name in (*CONTENT, MANIFEST)}
    before = bucket.list()
    assert write_package(MODELS, manifest(), CONTENT) == (digest, uri)
    assert bucket.list() == before
    assert read_package(uri, digest) == (verify_package(uri, digest), CONTENT)
    # The same package, wherever it is written.
    assert write_package(str(tmp_path), manifest(), CONTENT)[0] == digest


def test_the_manifest_goes_last_and_what_was_broken_off_is_written_anew(bucket: Objects, faulty: Faults) -> None:
    faulty.answer = lambda method, path: 403 if method == "PUT" and path.endswith(MANIFEST) else None
    with pytest.raises(ConfigurationError, match=r"package\.json can't be written"):
        write_package(MODELS, manifest(), CONTENT)
    assert {name.rpartition("/")[2] for name in bucket.list()} == set(CONTENT)
    faulty.answer = lambda method, path: None
    digest, uri = write_package(MODELS, manifest(), CONTENT)
    written = [path for method, path in faulty.asked if method == "PUT"]
    assert written[-1].endswith(MANIFEST)
    assert verify_package(uri, digest).training == {"mark": ""}


def test_a_verified_package_is_published_and_a_foreign_one_is_not(tmp_path: Path) -> None:
    digest, folder = write_package(str(tmp_path), manifest(), CONTENT)
    uri = publish_package(folder, digest, MODELS)
    assert (uri, read_package(uri, digest)[1]) == (f"{MODELS}/{digest}", CONTENT)
    assert publish_package(folder, digest, MODELS) == uri
    (Path(folder) / MODEL).write_bytes(b"another graph")
    with pytest.raises(PackageError, match="not the file that its digest names"):
        publish_package(folder, digest, MODELS)


class TestFetching:
    def test_a_path_is_itself_and_is_verified(self, tmp_path: Path) -> None:
        digest, folder = write_package(str(tmp_path / "models"), manifest(), CONTENT)
        assert fetch_package(folder, digest, tmp_path / "copies") == Path(folder)
        assert not (tmp_path / "copies").exists()
        with pytest.raises(PackageError, match="not the file"):
            fetch_package(folder, "0" * 64, tmp_path / "copies")

    def test_one_copy_is_kept_and_a_damaged_one_is_replaced(self, faulty: Faults, tmp_path: Path) -> None:
        digest, uri = write_package(MODELS, manifest(), CONTENT)
        copies = tmp_path / "copies"
        folder = fetch_package(uri, digest, copies)
        assert folder == copies / digest
        assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST} == CONTENT
        asked = len(faulty.asked)
        assert fetch_package(uri, digest, copies) == folder
        assert len(faulty.asked) == asked
        (folder / MODEL).write_bytes(b"half a gra")
        assert fetch_package(uri, digest, copies) == folder
        assert read_package(folder, digest)[1] == CONTENT
        assert [path.name for path in copies.iterdir() if path.is_dir()] == [digest]

    def test_what_was_left_half_fetched_is_begun_anew(self, tmp_path: Path) -> None:
        digest, uri = write_package(MODELS, manifest(), CONTENT)
        (tmp_path / f".fetching-{digest}").mkdir()
        (tmp_path / f".fetching-{digest}" / "junk").write_bytes(b"left by one that was killed")
        assert read_package(fetch_package(uri, digest, tmp_path), digest)[1] == CONTENT
        assert not (tmp_path / f".fetching-{digest}").exists()

    def test_who_come_together_fetch_once(self, faulty: Faults, tmp_path: Path) -> None:
        digest, uri = write_package(MODELS, manifest(), CONTENT)
        faulty.asked.clear()
        found: list[Path] = []
        threads = [
            threading.Thread(target=lambda: found.append(fetch_package(uri, digest, tmp_path))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [tmp_path / digest] * 4
        assert sum(path.endswith(MODEL) for _, path in faulty.asked) == 1

    def test_copies_that_nobody_needs_go(self, tmp_path: Path) -> None:
        first, second = (write_package(MODELS, manifest(mark), CONTENT) for mark in ("one", "two"))
        for digest, uri in (first, second):
            fetch_package(uri, digest, tmp_path)
        assert drop_fetched(tmp_path, {second[0]}) == [first[0]]
        assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [second[0]]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda files, name: files.write({f"{name}/{MODEL}": b"graph"}), "model.onnx is not the file that its digest"),
        (
            lambda files, name: files.write({f"{name}/{MANIFEST}": b"{}"}),
            "package.json is not the file that its digest",
        ),
        (
            lambda files, name: files.write({f"{name}/extra.bin": b"x"}),
            "holds 'extra.bin', which its manifest does not",
        ),
        (
            lambda files, name: files.write({f"{name}/more/{MODEL}": b"x"}),
            "holds 'more/model.onnx', which its manifest",
        ),
        (lambda files, name: files.delete([f"{name}/{MODEL}"]), "lacks the file 'model.onnx'"),
        (lambda files, name: files.delete([f"{name}/{MANIFEST}"]), "is not a package: it has no package.json"),
        (
            lambda files, name: files.delete(f"{name}/{one}" for one in (*CONTENT, MANIFEST)),
            "There is no package at s3",
        ),
    ],
)
def test_a_damaged_package_is_named_and_nothing_is_fetched(
    bucket: Objects, tmp_path: Path, damage: Callable[[Objects, str], None], words: str
) -> None:
    digest, uri = write_package(MODELS, manifest(), CONTENT)
    damage(bucket, f"team/models/{digest}")
    with pytest.raises(PackageError) as caught:
        fetch_package(uri, digest, tmp_path)
    assert words in str(caught.value)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_damaged_package_is_not_written_over(bucket: Objects) -> None:
    digest, uri = write_package(MODELS, manifest(), CONTENT)
    bucket.write({f"team/models/{digest}/{MODEL}": b"graph"})
    with pytest.raises(PackageError, match=f"A damaged package lies at {uri}.*Remove that folder"):
        write_package(MODELS, manifest(), CONTENT)


def test_bounds_are_kept(bucket: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, uri = write_package(MODELS, manifest(), CONTENT)
    with pytest.raises(PackageError, match="has 5,000 bytes; at most 4,999 are read"):
        Objects(uri).read(MODEL, limit=4_999)
    monkeypatch.setattr("ninefold.package.files.MAX_PACKAGE_BYTES", 5_000)
    with pytest.raises(PackageError, match="bytes; at most 5,000 are read"):
        verify_package(uri, digest)
    monkeypatch.setattr("ninefold.package.files.MAX_MANIFEST_BYTES", 10)
    with pytest.raises(PackageError, match=r"package\.json has \d+ bytes; at most 10 are read"):
        verify_package(uri, digest)


class TestFaults:
    def test_what_passes_is_repeated(self, faulty: Faults, tmp_path: Path) -> None:
        digest, uri = write_package(MODELS, manifest(), CONTENT)
        failures = iter([503, 500, "cut", 502])
        faulty.answer = lambda method, path: next(failures, None) if method == "GET" else None
        assert read_package(fetch_package(uri, digest, tmp_path), digest)[1] == CONTENT
        assert next(failures, None) is None

    def test_an_answer_that_is_always_cut_is_not_a_package(
        self, faulty: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        digest, uri = write_package(MODELS, manifest(), CONTENT)
        monkeypatch.setattr("ninefold.package.objects.RETRY_FOR", timedelta(seconds=0.3))
        faulty.answer = lambda method, path: "cut" if path.endswith(MODEL) else None
        with pytest.raises((Unavailable, PackageError), match=r"model\.onnx"):
            fetch_package(uri, digest, tmp_path)
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == []

    def test_no_bucket(self) -> None:
        for ask in (
            lambda: write_package("s3://nowhere/models", manifest(), CONTENT),
            lambda: verify_package("s3://nowhere/models/x", "0" * 64),
        ):
            with pytest.raises(ConfigurationError, match=r"there is no bucket 'nowhere' at http.*Make the bucket"):
                ask()

    def test_nobody_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ninefold.package.objects.RETRY_FOR", timedelta(seconds=0.3))
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(Unavailable) as caught:
            verify_package(f"{MODELS}/x", "0" * 64)
        assert "http://127.0.0.1:9 does not answer as it should" in str(caught.value)
        assert "Check AWS_ENDPOINT_URL" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_no_credentials(self, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ninefold.package.objects.RETRY_FOR", timedelta(seconds=0.3))
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        # Where a cloud's machine would ask its own metadata service.
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(ConfigurationError, match=r"no credentials were given.*Set AWS_ACCESS_KEY_ID"):
            verify_package(f"{MODELS}/x", "0" * 64)

    @pytest.mark.parametrize("status", [401, 403])
    def test_the_store_refuses(self, faulty: Faults, status: int) -> None:
        faulty.answer = lambda method, path: status
        with pytest.raises(ConfigurationError, match=r"refuses: .*what they may do with the bucket"):
            verify_package(f"{MODELS}/x", "0" * 64)

    @pytest.mark.parametrize("url", ["s3://", "hdfs://host/models", "http://host/models"])
    def test_an_address_of_no_object_store(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="Write it as s3://bucket/folder"):
            write_package(url, manifest(), CONTENT)

    def test_a_bundle_of_authorities_that_is_missing(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
        with pytest.raises(ConfigurationError, match=r"AWS_CA_BUNDLE names .*none\.pem"):
            Objects(MODELS)


def test_the_manifest_is_what_the_digest_is_of(bucket: Objects) -> None:
    digest, _ = write_package(MODELS, manifest(), CONTENT)
    assert json.loads(bucket.read(f"team/models/{digest}/{MANIFEST}", limit=100_000))["schema"] == 1
