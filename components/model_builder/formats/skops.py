"""A scikit-learn pipeline as a file of skops: the same object is the same file, and only what a server trusts is in it.

skops names every part by its address in memory, and an archive by the time of day. Both are replaced by counts, so that
a package's digest says something.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import io
import json
import zipfile
from typing import Any

from packaging.requirements import Requirement

from components.model_builder.formats.scikit import ScikitModel
from ninefold.errors import ConfigurationError, PackageError
from ninefold.package.environment import require_installed
from ninefold.package.trusted import check_types, read_schema

_EPOCH = (1980, 1, 1, 0, 0, 0)


def to_skops(fitted: object) -> bytes:
    """Writes a model.

    Raises:
        PackageError: It is no scikit-learn pipeline, or holds a type that a server would refuse.
    """
    import skops.io

    if not isinstance(fitted, ScikitModel):
        raise PackageError(f"A {type(fitted).__name__} is no scikit-learn object.")
    content = _counted(skops.io.dumps(fitted.pipeline))
    check_types(content)
    return content


def environment() -> bytes:
    """The lines of the locked environment for this Python, once what is installed is found to be just that.

    Raises:
        ConfigurationError: Something else is installed than is locked.
    """
    text = (importlib.resources.files("components.model_builder.formats") / "environment.txt").read_text()
    kept = []
    for entry in text.replace("\\\n", "\\\0").splitlines():
        wanted, *hashes = (part.strip() for part in entry.split("\\\0"))
        requirement = Requirement(wanted)
        if requirement.marker is None or requirement.marker.evaluate():
            kept.append(f"{requirement.name}{requirement.specifier} " + " ".join(hashes) + "\n")
    content = "".join(sorted(kept)).encode()
    try:
        require_installed(content)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"A scikit-learn object is packaged by the versions that are locked: {error.message.partition(': ')[2]}",
            remedy="Install the locked versions: pip install --require-hashes --requirement "
            "components/model_builder/formats/environment.txt",
        ) from error
    return content


def versions() -> dict[str, str]:
    """What a manifest says of the libraries."""
    return {name: importlib.metadata.version(name) for name in ("scikit-learn", "skops")}


def _counted(content: bytes) -> bytes:
    """The same object with its parts counted instead of named by their addresses, and without a time."""
    schema = read_schema(content)
    counts: dict[int, int] = {}
    files: dict[str, str] = {}
    # Depth first, in the order in which the file says it.
    pending: list[Any] = [schema]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            if isinstance(found.get("__id__"), int):
                found["__id__"] = counts.setdefault(found["__id__"], len(counts))
            if "__loader__" in found and isinstance(found.get("file"), str):
                found["file"] = files.setdefault(found["file"], f"{len(files)}.npy")
            pending += reversed(found.values())
        elif isinstance(found, list):
            pending += reversed(found)
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(written, "w") as new:
        for name, count in files.items():
            new.writestr(zipfile.ZipInfo(count, _EPOCH), old.read(name))
        new.writestr(zipfile.ZipInfo("schema.json", _EPOCH), json.dumps(schema, separators=(",", ":")))
    return written.getvalue()
