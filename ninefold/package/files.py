"""Writing a package, and reading it back only when every byte is the one that was written."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ninefold.dataset import local_path
from ninefold.errors import PackageError
from ninefold.package.objects import Objects, is_remote
from ninefold.signature import PackageManifest

MANIFEST = "package.json"
"""The file that describes a package; its SHA-256 is the package's digest."""

MODEL = "model.onnx"
"""The file with the graph, in the format ``onnx``."""

MODELS = {"onnx": MODEL, "pmml": "model.pmml", "skops": "model.skops"}
"""Format → the file with the model."""

ENVIRONMENT = "environment.txt"
"""The file with the versions that a model of format ``skops`` needs, and their hashes, as pip takes it."""

MAX_MANIFEST_BYTES = 32 * 2**20
MAX_PACKAGE_BYTES = 1024 * 2**20
"""A package over this size is refused: a model server reads it into memory."""

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SCHEMA = 1


def write_package(models_url: str, manifest: PackageManifest, files: Mapping[str, bytes]) -> tuple[str, str]:
    """Writes a package whole or not at all, and returns its digest and its URI (``<models_url>/<digest>``).

    Writing the same package again changes nothing and returns the same.

    Args:
        models_url: Folder of all packages, as a path, ``file://`` URI, or address in an object store.
        manifest: What the package says of itself; ``files`` in it is filled in here.
        files: File name → content.

    Raises:
        PackageError: A file's name is not plain, the manifest holds what JSON can't, the package is too large, or a
            damaged package lies where this one belongs.
        NinefoldError: An object store refuses, or does not answer.
    """
    for name in files:
        if name == MANIFEST or not _FILE_NAME.fullmatch(name):
            raise PackageError(f"{name!r} can't be the name of a file in a package.")
    digests = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    try:
        # Keys keep the manifest's order, which means something: categories come most frequent first.
        document = json.dumps(
            replace(manifest, files=digests).to_json(), separators=(",", ":"), allow_nan=False
        ).encode()
    except (TypeError, ValueError) as error:
        raise PackageError(f"The package's manifest can't be written as JSON: {error}.") from error
    if len(document) > MAX_MANIFEST_BYTES or sum(map(len, files.values())) + len(document) > MAX_PACKAGE_BYTES:
        raise PackageError(f"The package is over {MAX_PACKAGE_BYTES:,} bytes, or its manifest is too long.")
    digest = hashlib.sha256(document).hexdigest()
    # The manifest goes last: what has none is no package.
    return digest, keep_package(models_url, digest, {**files, MANIFEST: document})


def keep_package(models_url: str, digest: str, files: Mapping[str, bytes]) -> str:
    """Puts a package's files where its digest says, whole or not at all, verifies them there, and returns the URI.

    Args:
        models_url: Where packages lie.
        digest: The package's digest.
        files: File name → content, the manifest last.

    Raises:
        PackageError: A damaged package lies there.
        NinefoldError: An object store refuses, or does not answer.
    """
    uri = f"{models_url.rstrip('/')}/{digest}" if is_remote(models_url) else str(local_path(models_url) / digest)
    if is_remote(models_url):
        objects = Objects(models_url)
        if MANIFEST not in objects.list(digest):
            objects.write({f"{digest}/{name}": content for name, content in files.items()})
    elif not Path(uri).exists():
        root = local_path(models_url)
        root.mkdir(parents=True, exist_ok=True)
        _write_folder(root, Path(uri), files)
    try:
        verify_package(uri, digest)
    except PackageError as error:
        raise PackageError(
            f"A damaged package lies at {uri}: {error.message}", remedy="Remove that folder and build again."
        ) from error
    return uri


def _write_folder(root: Path, folder: Path, files: Mapping[str, bytes]) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=root))
    try:
        for name, content in files.items():
            with (temporary / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(0o755)
        temporary.rename(folder)
    except OSError:
        # Another process that wrote the same package first is no failure; the caller verifies what lies there.
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def verify_package(folder: str | Path, digest: str) -> PackageManifest:
    """Returns the manifest of a package that is, to the last byte, the one that the digest names.

    Args:
        folder: The package's folder, as a path, ``file://`` URI, or address in an object store.
        digest: SHA-256 of its manifest, from outside of the package: the store, or an InferenceService.

    Raises:
        PackageError: A byte differs, a file is missing or extra, something in the folder is not a plain file, the
            package is too large, or the manifest is of another schema. The message names the file.
        NinefoldError: An object store refuses, or does not answer.
    """
    return read_package(folder, digest)[0]


def read_package(folder: str | Path, digest: str) -> tuple[PackageManifest, dict[str, bytes]]:
    """Verifies as ``verify_package`` does, and returns the very bytes that were verified with the manifest.

    Raises:
        PackageError, NinefoldError: As ``verify_package``.
    """
    manifest, files = read_verified(folder, digest)
    del files[MANIFEST]
    return manifest, files


def read_verified(folder: str | Path, digest: str) -> tuple[PackageManifest, dict[str, bytes]]:
    """As ``read_package``, the manifest's own bytes among the files, and last.

    Raises:
        PackageError, NinefoldError: As ``verify_package``.
    """
    if not _DIGEST.fullmatch(digest):
        raise PackageError(f"{digest!r} is not a digest: 64 hexadecimal digits.")
    place = _place(str(folder))
    sizes = place.sizes()
    if MANIFEST not in sizes:
        raise PackageError(f"{place.where()} is not a package: it has no {MANIFEST}.")
    if sizes[MANIFEST] > MAX_MANIFEST_BYTES:
        raise PackageError(
            f"{place.where(MANIFEST)} has {sizes[MANIFEST]:,} bytes; at most {MAX_MANIFEST_BYTES:,} are read."
        )
    if sum(sizes.values()) > MAX_PACKAGE_BYTES:
        raise PackageError(
            f"{place.where()} has {sum(sizes.values()):,} bytes; at most {MAX_PACKAGE_BYTES:,} are read."
        )
    content = _checked(place, MANIFEST, digest, sizes)
    manifest = _manifest(place.where(MANIFEST), content)
    listed = set(manifest.files)
    for name in sorted(listed):
        if name == MANIFEST or not _FILE_NAME.fullmatch(name):
            raise PackageError(f"{place.where(MANIFEST)} lists {name!r}, which is not the name of a file in a package.")
        if name not in sizes:
            raise PackageError(f"{place.where()} lacks the file {name!r}.")
    extra = sorted(set(sizes) - listed - {MANIFEST})
    if extra:
        raise PackageError(f"{place.where()} holds {', '.join(map(repr, extra))}, which its manifest does not list.")
    files = {name: _checked(place, name, manifest.files[name], sizes) for name in sorted(listed)}
    return manifest, {**files, MANIFEST: content}


class _Place(Protocol):
    """Where a package lies."""

    def where(self, name: str = "") -> str:
        """The package's place, or a file's, for a message."""
        ...

    def sizes(self) -> dict[str, int]:
        """The sizes of all files there."""
        ...

    def read(self, name: str, size: int) -> bytes:
        """A file's content; one that is longer than the size may be refused."""
        ...


def _place(uri: str) -> _Place:
    return _Remote(uri) if is_remote(uri) else _Folder(local_path(uri))


class _Folder:
    """On this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def where(self, name: str = "") -> str:
        return str(self._path / name)

    def sizes(self) -> dict[str, int]:
        """Links and folders are refused: a link can change what it names once verified."""
        try:
            if self._path.is_symlink():
                raise PackageError(f"{self._path} is a link, not a package's folder.")
            sizes = {}
            with os.scandir(self._path) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if not stat.S_ISREG(status.st_mode):
                        raise PackageError(f"{self._path / entry.name} is not a plain file.")
                    sizes[entry.name] = status.st_size
        except OSError as error:
            raise PackageError(f"The package {self._path} can't be read: {error.strerror}.") from error
        return sizes

    def read(self, name: str, size: int) -> bytes:
        try:
            handle = os.open(self._path / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            with os.fdopen(handle, "rb") as file:
                return file.read()
        except OSError as error:
            raise PackageError(f"{self._path / name} can't be read: {error.strerror}.") from error


class _Remote:
    """In an object store."""

    def __init__(self, uri: str) -> None:
        self._objects = Objects(uri)

    def where(self, name: str = "") -> str:
        return self._objects.where(name)

    def sizes(self) -> dict[str, int]:
        sizes = {name: found.size for name, found in self._objects.list().items()}
        if not sizes:
            raise PackageError(f"There is no package at {self.where()}.", remedy="Release it again.")
        return sizes

    def read(self, name: str, size: int) -> bytes:
        return self._objects.read(name, limit=size)


def _checked(place: _Place, name: str, digest: str, sizes: Mapping[str, int]) -> bytes:
    content = place.read(name, sizes[name])
    found = hashlib.sha256(content).hexdigest()
    if not hmac.compare_digest(found.encode(), digest.encode("utf-8", "replace")):
        raise PackageError(
            f"{place.where(name)} is not the file that its digest names: its SHA-256 is {found}, not {digest}.",
            remedy="Don't serve it; fetch the package again, or build a new one.",
        )
    return content


def _manifest(where: str, content: bytes) -> PackageManifest:
    try:
        document = json.loads(content)
        if document["schema"] != _SCHEMA:
            raise PackageError(f"{where} is of schema {document['schema']!r}; this version reads {_SCHEMA}.")
        manifest = PackageManifest.from_json(document)
        return replace(manifest, files={str(name): str(digest) for name, digest in manifest.files.items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PackageError(f"{where} is not a manifest: {error!r}.") from error
