"""Envoy's files: each replaced in one step, by a rename that Envoy watches for; it ignores what is written in place."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ninefold.atomic import replace_file

BOOTSTRAP = "bootstrap.json"

Resource = Mapping[str, Any]


class Files:
    """The files of one Envoy.

    Args:
        folder: Their folder, Envoy's working directory; made when it is missing, and nobody else's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions: dict[str, str] = {}
        """File of resources → version that Envoy reports once it goes by what was written last."""
        self._written: dict[str, bytes] = {}

    def begin(self, bootstrap: Resource) -> None:
        """Starts from nothing but the bootstrap: what an earlier run left points at servers that are gone.

        Raises:
            OSError: It can't be written.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, mode=0o700)
        self._written, self.versions = {}, {}
        self._replace(BOOTSTRAP, json.dumps(bootstrap, indent=1).encode())

    def replace(self, name: str, resources: Sequence[Resource]) -> bool:
        """Replaces a file of resources; returns whether they are others than those written last.

        Raises:
            OSError: It can't be written; the old file stands.
        """
        version = hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()[:16]
        content = json.dumps({"version_info": version, "resources": resources}, indent=1).encode()
        if self._written.get(name) == content:
            return False
        self._replace(name, content)
        self.versions[name] = version
        return True

    def forget(self, name: str) -> None:
        """Takes a file for not written: the same content is a change again."""
        self._written.pop(name, None)
        self.versions.pop(name, None)

    def renew(self) -> None:
        """Puts all resources in their places again, in their order: Envoy reads them once more.

        Raises:
            OSError: They can't be written.
        """
        for name in self.versions:
            self._replace(name, self._written[name])

    def damaged(self) -> list[str]:
        """Names of the files that are not as they were written."""
        return [name for name, content in self._written.items() if self._found(name) != content]

    def restore(self) -> None:
        """Writes anew what is not as it was written.

        Raises:
            OSError: It can't be written.
        """
        for name in self.damaged():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._replace(name, self._written[name])

    def _found(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            return None

    def _replace(self, name: str, content: bytes) -> None:
        replace_file(self.folder / name, content)
        self._written[name] = content
