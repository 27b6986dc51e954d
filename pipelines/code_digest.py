"""The digest of the code that a pipeline's steps run, so that a cached step is never stale.

KFP's cache key holds a component's own source and arguments, not the library that it imports; this digest is one of
the arguments. On a cluster the image's digest does the same job.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from pathlib import Path

from ninefold.loading import load_use_case
from ninefold.usecase import UseCase

ROOTS = ("ninefold", "feature_repo", "components", "pipelines")


def code_digest(reference: str) -> str:
    """SHA-256 over the Python sources of Ninefold's batch side and of the use case's own folders, 16 digits.

    Args:
        reference: What ``load_use_case`` finds the use case by. A variant made with ``replace`` has its functions from
            the use case that it varies, and what it varies from the module that is named here.
    """
    digest = hashlib.sha256()
    folders = [_folder(root) for root in ROOTS]
    for package in sorted(set(_packages(reference))):
        try:
            folders.append(_folder(package))
        except ModuleNotFoundError:
            # The step that needs it says so, in words.
            continue
    for folder in folders:
        for path in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]:
            digest.update(path.relative_to(folder.parent).as_posix().encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _packages(reference: str) -> Iterator[str]:
    """The packages of the modules that a use case is declared in, and that it takes functions from."""
    modules = [reference.partition(":")[0] if ":" in reference else f"usecases.{reference}.contract"]
    modules += _modules(load_use_case(reference))
    for module in modules:
        yield module.rpartition(".")[0] or module


def _modules(use_case: UseCase) -> Iterator[str]:
    declared = (getattr(use_case, name) for name in UseCase.__dataclass_fields__)
    yield from (value.__module__ for value in declared if callable(value) and isinstance(value.__module__, str))
    for path in (use_case.extract, use_case.source_state, use_case.augment):
        if path is not None:
            yield path.partition(":")[0]


def _folder(module: str) -> Path:
    found = importlib.import_module(module)
    if found.__file__ is None:  # a namespace package, such as a team's own folder without __init__.py
        return Path(next(iter(found.__path__)))
    path = Path(found.__file__)
    return path.parent if path.name == "__init__.py" else path
