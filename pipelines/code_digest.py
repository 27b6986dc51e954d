"""The digest of the code that a pipeline's steps run, so that a cached step is never stale.

KFP's cache key holds a component's own source and arguments, not the library that it imports; this digest is one of
the arguments. On a cluster the image's digest does the same job.
"""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

from ninefold.usecase import UseCase

ROOTS = ("ninefold", "feature_repo", "components", "pipelines")


def code_digest(use_case: UseCase) -> str:
    """SHA-256 over the Python sources of Ninefold's batch side and of the use case's own folder, 16 digits."""
    digest = hashlib.sha256()
    folders = [_folder(root) for root in ROOTS]
    folders.append(_folder(use_case.derive.__module__.rpartition(".")[0] or use_case.derive.__module__))
    for folder in folders:
        for path in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]:
            digest.update(path.relative_to(folder.parent).as_posix().encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _folder(module: str) -> Path:
    found = importlib.import_module(module)
    if found.__file__ is None:  # a namespace package, such as a team's own folder without __init__.py
        return Path(next(iter(found.__path__)))
    path = Path(found.__file__)
    return path.parent if path.name == "__init__.py" else path
