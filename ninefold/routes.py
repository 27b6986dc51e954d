"""Which versions of a use case are served, and where: what the front end goes by.

One file a use case, ``gateway/<use case>.json``, replaced atomically by whoever starts and stops model servers. A
reader that can't read a newer one keeps the last good one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ninefold.atomic import replace_file
from ninefold.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One served version.

    Args:
        version: The version; 0 is the baseline.
        url: Base address of its model server (``http://127.0.0.1:8090``).
        package: Folder of its package, for the manifest.
        digest: Expected digest of the package.
    """

    version: int
    url: str
    package: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """The variants of a use case.

    Args:
        use_case: Name of the use case.
        revision: Grows with every change.
        live: Version that answers; None before the first release.
        variants: Version → where it is served.
    """

    use_case: str
    revision: int
    live: int | None
    variants: Mapping[int, Variant] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {
            "use_case": self.use_case,
            "revision": self.revision,
            "live": self.live,
            "variants": [
                {"version": v.version, "url": v.url, "package": v.package, "digest": v.digest}
                for v in self.variants.values()
            ],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RouteTable:
        """Reads what ``to_json`` wrote."""
        variants = [Variant(**v) for v in document["variants"]]
        table = cls(
            use_case=document["use_case"],
            revision=document["revision"],
            live=document["live"],
            variants={v.version: v for v in variants},
        )
        if table.live is not None and table.live not in table.variants:
            raise DataError(f"Routes of {table.use_case}: the live version {table.live} is not among the variants.")
        return table


def read_routes(path: Path) -> RouteTable | None:
    """The routes in a file; None when there is no file.

    Raises:
        DataError: The file is damaged.
    """
    try:
        return RouteTable.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"The routes in {path} are damaged: {error}.", remedy="Run: ninefold up") from error


def write_routes(path: Path, table: RouteTable) -> None:
    """Replaces the file in one step, so that a reader sees the old or the new routes, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(table.to_json(), indent=1).encode(), sync=True)
