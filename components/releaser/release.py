"""Release: a package that passed its gate goes to the model store and becomes a known version.

Everything here is idempotent: the same package is the same version, however often a run is repeated.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ninefold.dataset import local_path
from ninefold.package import verify_package
from ninefold.records import ModelVersion
from ninefold.store.versions import BASELINE

if TYPE_CHECKING:
    from ninefold.store import Store


def copy_package(source: Path, digest: str, models_url: str) -> Path:
    """Copies a verified package into the model store, whole or not at all, and returns its folder.

    Raises:
        PackageError: The package is not the one that the digest names.
    """
    verify_package(source, digest)
    target = local_path(models_url) / digest
    if target.exists():
        verify_package(target, digest)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".copying-"))
    copy = temporary / digest
    shutil.copytree(source, copy)
    verify_package(copy, digest)
    copy.rename(target)
    temporary.rmdir()
    return target


def release_baseline(use_case: str, package: Path, digest: str, *, store: Store, models_url: str) -> ModelVersion:
    """Registers the baseline as version 0 where none is there yet, or where the baseline's code or training changed.

    It goes live when nothing else is.
    """
    folder = copy_package(package, digest, models_url)
    version = store.register_version(
        use_case,
        digest=digest,
        uri=str(folder),
        metrics={},
        lengths=window_lengths(folder, digest),
        version=BASELINE,
    )
    if store.live_version(use_case) is None:
        store.set_state(use_case, version.version, "live")
    return version


def release_candidate(
    use_case: str,
    package: Path,
    digest: str,
    *,
    metrics: Mapping[str, float],
    store: Store,
    models_url: str,
) -> ModelVersion:
    """Registers a candidate as the next version and makes it the live one; the version before it is retired."""
    folder = copy_package(package, digest, models_url)
    version = store.register_version(
        use_case, digest=digest, uri=str(folder), metrics=dict(metrics), lengths=window_lengths(folder, digest)
    )
    store.set_state(use_case, version.version, "live")
    return version


def window_lengths(folder: Path, digest: str) -> dict[str, str]:
    """Window name → length that a package was trained with, by its signature."""
    views = verify_package(folder, digest).signature.views
    return {view.window[0]: view.window[1] for view in views if view.window is not None}
