"""Packages in an object store, and the copies of them that a machine works with."""

from __future__ import annotations

import shutil
from pathlib import Path

from ninefold.atomic import alone
from ninefold.dataset import local_path
from ninefold.errors import PackageError
from ninefold.package.files import keep_package, read_verified, verify_package
from ninefold.package.objects import is_remote

_FETCHING = ".fetching-"


def fetch_package(uri: str, digest: str, folder: Path) -> Path:
    """A package's folder on this machine, verified to the last byte.

    Args:
        uri: Where the package lies, as the store says. A path or ``file://`` URI is returned as it is.
        digest: Its digest, from the store.
        folder: Where copies lie; the package is ``<folder>/<digest>``. One that is there is not fetched again; a
            damaged one is.

    Raises:
        PackageError: The package is not the one that the digest names, or is too large.
        NinefoldError: The object store refuses, or does not answer.
    """
    if not is_remote(uri):
        path = local_path(uri)
        verify_package(path, digest)
        return path
    target = folder / digest
    if _is_whole(target, digest):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / f"{_FETCHING}{digest}.lock"
    lock.touch(mode=0o600)
    with alone(lock):
        # Whoever held the lock before may have fetched it, or have been killed at it.
        if _is_whole(target, digest):
            return target
        temporary = folder / f"{_FETCHING}{digest}"
        for left in (temporary, target):
            shutil.rmtree(left, ignore_errors=True)
        _, files = read_verified(uri, digest)
        temporary.mkdir()
        try:
            for name, content in files.items():
                (temporary / name).write_bytes(content)
            verify_package(temporary, digest)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def drop_fetched(folder: Path, keep: set[str]) -> list[str]:
    """Removes the copies that nobody needs any longer, and returns their digests.

    Args:
        folder: Where copies lie.
        keep: Digests that stay.
    """
    gone = [path for path in sorted(folder.glob("?" * 64)) if path.name not in keep]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in gone]


def publish_package(source: str | Path, digest: str, models_url: str) -> str:
    """Copies a verified package to where packages lie, whole or not at all, and returns its URI there.

    Args:
        source: The package's folder.
        digest: Its digest.
        models_url: A path, ``file://`` URI, or address in an object store.

    Raises:
        PackageError: The package is not the one that the digest names, or a damaged one lies where it belongs.
        NinefoldError: The object store refuses, or does not answer.
    """
    _, files = read_verified(source, digest)
    return keep_package(models_url, digest, files)


def _is_whole(path: Path, digest: str) -> bool:
    if not path.is_dir():
        return False
    try:
        verify_package(path, digest)
    except PackageError:
        return False
    return True
