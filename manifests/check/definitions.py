"""Where the schemas of custom resources come from: a folder of definitions, or a cluster."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Kind = tuple[str, str]
"""API version and kind."""

_NAMED = re.compile(r"^  group: (\S+)$.*?^    kind: (\S+)$", re.MULTILINE | re.DOTALL)
BESIDE = Path(__file__).parents[3] / "shared" / "crds"
"""Looked at where nothing else is said: a folder of definitions beside the repository."""


class Definitions:
    """Schemas of custom resources, read when they are asked for.

    Args:
        source: Where they come from, for people.
        files: Group and kind → the file that defines it.
        loaded: API version and kind → schema, where they are known already.

    Attributes:
        known: Whether there are any.
    """

    def __init__(
        self, source: str, files: Mapping[Kind, Path] | None = None, loaded: Mapping[Kind, Any] | None = None
    ) -> None:
        self.source = source
        self._files = dict(files or {})
        self._loaded: dict[Kind, Any] = dict(loaded or {})
        self.known = bool(self._files or self._loaded)

    @classmethod
    def of_folder(cls, folder: Path) -> Definitions:
        """Those in a folder's YAML files."""
        files = {}
        for path in sorted(folder.glob("*.yaml")):
            for group, kind in _NAMED.findall(path.read_text()):
                files[group, kind] = path
        return cls(str(folder), files)

    @classmethod
    def of_cluster(cls) -> Definitions | None:
        """Those of the cluster that KUBECONFIG names; None when none answers."""
        if not os.environ.get("KUBECONFIG") or shutil.which("kubectl") is None:
            return None
        asked = ["kubectl", "get", "customresourcedefinitions", "--output", "json", "--request-timeout", "20s"]
        found = subprocess.run(asked, capture_output=True, check=False)
        if found.returncode != 0:
            return None
        loaded = {key: schema for item in json.loads(found.stdout)["items"] for key, schema in _schemas(item)}
        return cls("the cluster of KUBECONFIG", loaded=loaded)

    @classmethod
    def found(cls) -> Definitions:
        """From the folder ``CRDS``, else from the one beside the repository, else from a cluster, else none."""
        folder = Path(os.environ["CRDS"]) if os.environ.get("CRDS") else BESIDE
        if folder.is_dir():
            return cls.of_folder(folder)
        if os.environ.get("CRDS"):
            raise SystemExit(f"CRDS={folder} is not a folder.")
        return cls.of_cluster() or cls("nowhere: set CRDS to a folder of definitions, or KUBECONFIG to a cluster's")

    def schema(self, api_version: str, kind: str) -> Any | None:
        """The schema of a kind; None when it is not known here."""
        path = self._files.pop((api_version.partition("/")[0], kind), None)
        if path is not None:
            with path.open() as stream:
                for definition in yaml.load_all(stream, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
                    self._loaded.update(_schemas(definition or {}))
        return self._loaded.get((api_version, kind))


def _schemas(definition: Mapping[str, Any]) -> Iterator[tuple[Kind, Any]]:
    spec = definition.get("spec") or {}
    for version in spec.get("versions") or ():
        if version.get("served"):
            key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
            yield key, version["schema"]["openAPIV3Schema"]
