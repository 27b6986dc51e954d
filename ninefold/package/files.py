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

from ninefold.dataset import local_path
from ninefold.errors import PackageError
from ninefold.signature import PackageManifest

MANIFEST = "package.json"
"""The file that describes a package; its SHA-256 is the package's digest."""

MODEL = "model.onnx"
"""The file with the graph, in the format ``onnx``."""

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
        models_url: Folder of all packages, as a path or ``file://`` URI.
        manifest: What the package says of itself; ``files`` in it is filled in here.
        files: File name → content.

    Raises:
        PackageError: A file's name is not plain, the manifest holds what JSON can't, the package is too large, or a
            damaged package lies where this one belongs.
        DataError: ``models_url`` is not on this machine.
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
    root = local_path(models_url)
    folder = root / digest
    if not folder.exists():
        root.mkdir(parents=True, exist_ok=True)
        _write_folder(root, folder, {**files, MANIFEST: document})
    try:
        verify_package(folder, digest)
    except PackageError as error:
        raise PackageError(
            f"A damaged package lies at {folder}: {error.message}", remedy="Remove that folder and build again."
        ) from error
    return digest, str(folder)


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
        folder: The package's folder, as a path or ``file://`` URI.
        digest: SHA-256 of its manifest, from outside of the package: the store, or an InferenceService.

    Raises:
        PackageError: A byte differs, a file is missing or extra, something in the folder is not a plain file, the
            package is too large, or the manifest is of another schema. The message names the file.
    """
    return read_package(folder, digest)[0]


def read_package(folder: str | Path, digest: str) -> tuple[PackageManifest, dict[str, bytes]]:
    """Verifies as ``verify_package`` does, and returns the very bytes that were verified with the manifest.

    Raises:
        PackageError: As ``verify_package``.
    """
    path = local_path(str(folder))
    if not _DIGEST.fullmatch(digest):
        raise PackageError(f"{digest!r} is not a digest: 64 hexadecimal digits.")
    sizes = _plain_files(path)
    if MANIFEST not in sizes:
        raise PackageError(f"{path} is not a package: it has no {MANIFEST}.")
    if sizes[MANIFEST] > MAX_MANIFEST_BYTES:
        raise PackageError(f"{path / MANIFEST} has {sizes[MANIFEST]:,} bytes; at most {MAX_MANIFEST_BYTES:,} are read.")
    if sum(sizes.values()) > MAX_PACKAGE_BYTES:
        raise PackageError(f"{path} has {sum(sizes.values()):,} bytes; at most {MAX_PACKAGE_BYTES:,} are read.")
    manifest = _manifest(path, _read(path / MANIFEST, digest))
    listed = set(manifest.files)
    for name in sorted(listed):
        if name == MANIFEST or not _FILE_NAME.fullmatch(name):
            raise PackageError(f"{path / MANIFEST} lists {name!r}, which is not the name of a file in a package.")
        if name not in sizes:
            raise PackageError(f"{path} lacks the file {name!r}.")
    extra = sorted(set(sizes) - listed - {MANIFEST})
    if extra:
        raise PackageError(f"{path} holds {', '.join(map(repr, extra))}, which its manifest does not list.")
    return manifest, {name: _read(path / name, manifest.files[name]) for name in sorted(listed)}


def _plain_files(path: Path) -> dict[str, int]:
    """The sizes of a folder's files. Links and folders are refused: a link can change what it names once verified."""
    try:
        if path.is_symlink():
            raise PackageError(f"{path} is a link, not a package's folder.")
        sizes = {}
        with os.scandir(path) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    raise PackageError(f"{path / entry.name} is not a plain file.")
                sizes[entry.name] = status.st_size
    except OSError as error:
        raise PackageError(f"The package {path} can't be read: {error.strerror}.") from error
    return sizes


def _read(path: Path, digest: str) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(handle, "rb") as file:
            content = file.read()
    except OSError as error:
        raise PackageError(f"{path} can't be read: {error.strerror}.") from error
    found = hashlib.sha256(content).hexdigest()
    if not hmac.compare_digest(found.encode(), digest.encode("utf-8", "replace")):
        raise PackageError(
            f"{path} is not the file that its digest names: its SHA-256 is {found}, not {digest}.",
            remedy="Don't serve it; fetch the package again, or build a new one.",
        )
    return content


def _manifest(path: Path, content: bytes) -> PackageManifest:
    try:
        document = json.loads(content)
        if document["schema"] != _SCHEMA:
            raise PackageError(f"{path / MANIFEST} is of schema {document['schema']!r}; this version reads {_SCHEMA}.")
        manifest = PackageManifest.from_json(document)
        return replace(manifest, files={str(name): str(digest) for name, digest in manifest.files.items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PackageError(f"{path / MANIFEST} is not a manifest: {error!r}.") from error
